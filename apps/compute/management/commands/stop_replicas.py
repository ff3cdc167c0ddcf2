from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from apps.compute import domain
from apps.compute.drivers.base import DriverUnavailable


class Command(BaseCommand):
    help = "Stop every replica on this machine; the controller starts them again when Portway comes up."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        for name in domain.drivers():
            try:
                self.stdout.write(f"{name}: {domain.stand_down(name)} replicas stopped")
            except DriverUnavailable as error:  # its replicas cannot be stopped now, and need not be
                self.stderr.write(f"{name}: {error}")

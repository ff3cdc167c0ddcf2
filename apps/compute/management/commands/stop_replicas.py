from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.compute import domain


class Command(BaseCommand):
    help = "Stop every replica on this machine; the controller starts them again when Portway comes up."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        self.stdout.write(f"{domain.stand_down(settings.DEFAULT_DRIVER)} replicas stopped")

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.compute import domain
from apps.compute.drivers.base import DriverUnavailable


class Command(BaseCommand):
    help = "Stop every replica on this machine; the controller starts them again when Portway comes up."
    requires_system_checks = ()  # they load every URL: a second of each start

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--remove", action="store_true", help="and remove all but their logs")

    def handle(self, *_args: Any, remove: bool = False, **_options: Any) -> None:
        stop = domain.take_down if remove else domain.stand_down
        for name in domain.drivers():
            try:
                self.stdout.write(f"{name}: {stop(name)} replicas stopped")
            except DriverUnavailable as error:  # its replicas cannot be stopped now, and need not be
                self.stderr.write(f"{name}: {error}")

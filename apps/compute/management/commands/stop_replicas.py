from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.compute import domain


class Command(BaseCommand):
    help = "Stop every replica on this machine; the controller starts them again when Portway comes up."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        driver = domain.driver(settings.DEFAULT_DRIVER)
        handles = driver.list(owner=domain.OWNER)
        with ThreadPoolExecutor(max_workers=16) as pool:
            list(pool.map(lambda handle: driver.stop(handle, grace_s=5.0), handles))
        self.stdout.write(f"{len(handles)} replicas stopped")

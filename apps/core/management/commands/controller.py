from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from apps.core.controller import Controller


class Command(BaseCommand):
    help = "Repair what drifted: replicas, routes, operations nobody works on. Runs until it is stopped."
    requires_system_checks = ()  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Controller(stop).run()

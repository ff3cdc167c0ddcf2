"""The worker's sign of life: a lease row that the health page reads."""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery.signals import worker_ready
from django.db import close_old_connections

from apps.core import leases

log = structlog.get_logger(__name__)

EVERY_S = 5.0


@worker_ready.connect
def start(**_: Any) -> None:
    threading.Thread(target=_run, name="worker-beat", daemon=True).start()


def _run() -> None:
    holder = leases.new_holder()
    pause = threading.Event()
    while not pause.wait(EVERY_S):
        beat(holder)


def beat(holder: str) -> None:
    try:
        leases.acquire(f"worker/{holder.split(':', 1)[0]}", holder=holder, ttl_s=EVERY_S * 3)
    except Exception as error:  # noqa: BLE001 -- a database that is away for a moment
        log.warning("beat.failed", reason=str(error))
    finally:
        close_old_connections()

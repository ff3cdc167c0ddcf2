"""Waking the workers: a message only says that there may be work. The database knows which."""

from __future__ import annotations

import structlog
from celery import current_app
from django.db import transaction

log = structlog.get_logger(__name__)

TASK = "batch.look"


def schedule() -> None:
    """After commit, have a worker look at what is queued. A message that is lost costs a second: see the agent."""
    transaction.on_commit(_send, robust=True)


def _send() -> None:
    try:
        current_app.send_task(TASK)
    except Exception as error:  # noqa: BLE001 -- whatever the transport raises, the controller looks every second
        log.warning("wake.failed", reason=str(error))

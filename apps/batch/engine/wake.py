"""Waking the workers: a message only says that there may be work. The database knows which."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import structlog
from celery import current_app
from django.db import transaction

log = structlog.get_logger(__name__)

TASK = "batch.look"
ADVANCE = "batch.advance"


def schedule() -> None:
    """After commit, have a worker look at what is queued. A message that is lost costs a second: see the agent."""
    transaction.on_commit(partial(_send, TASK), robust=True)


def advance(pipeline: UUID) -> None:
    """After commit, have a worker see what of a pipeline can run now. A lost message costs until the next sweep."""
    transaction.on_commit(partial(_send, ADVANCE, str(pipeline)), robust=True)


def _send(task: str, *args: str) -> None:
    try:
        current_app.send_task(task, args)
    except Exception as error:  # noqa: BLE001 -- whatever the transport raises, the controller looks every second
        log.warning("wake.failed", reason=str(error))

"""The one Celery task. A message only says "look at this operation"; the database knows what to do."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task  # noqa: TID251 -- the one place that may
from django.db import close_old_connections

from apps.core import operations


@shared_task(name=operations.TASK)
def run_operation(operation_id: str) -> None:
    """Run one operation; does nothing when it has ended or somebody else runs it."""
    close_old_connections()
    try:
        operations.run(UUID(operation_id))
    finally:
        close_old_connections()

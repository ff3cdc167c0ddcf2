"""Keeping what a replica said, and how it ended, before anything of it is removed."""

from __future__ import annotations

import structlog
from django.db import DatabaseError, connection
from django.utils import timezone

from apps.compute.domain.recipes import driver, handle_of
from apps.compute.drivers.base import DriverUnavailable, Handle, Observation
from apps.compute.models import Replica
from apps.core.errors import Problem
from apps.monitoring import logs
from apps.monitoring.models.logs import Why

log = structlog.get_logger(__name__)


def last_handle(replica: Replica) -> Handle:
    """How to find what is left of it, also when it stands down and waits to be started again."""
    return handle_of(replica) or Handle(replica.set.driver, replica.name)


def keep(replica: Replica, *, why: Why, seen: Observation | None = None, reason: Problem | None = None) -> None:
    """Keep the life that has just ended; does nothing when it is kept already, or never began.

    A full disk, or a log that cannot be read, must hold up neither a restart nor a deletion: then the log is lost, and
    we say so.
    """
    if replica.started_at is None:
        return
    back_end, handle = driver(replica.set.driver), last_handle(replica)
    seen = seen or back_end.observe(handle)
    labels = replica.set.spec.get("labels", {})
    endpoint, _, deployment = replica.set.owner_key.partition("/")
    stored = reason.as_json() if reason is not None else replica.reason
    life = logs.Life(
        workspace=labels.get("workspace", ""),
        endpoint=endpoint,
        deployment=deployment,
        revision=replica.set.revision,
        index=replica.index,
        replica=replica.name,
        address=replica.address,
        started_at=replica.started_at,
        ended_at=seen.ended_at or timezone.now(),
        why=str(why),
        exit_code=seen.exit_code,
        oom=seen.oom,
        reason=stored if why in {Why.CRASHED, Why.FAILED} else None,
    )
    try:
        logs.keep(life, lambda after: back_end.read(handle, after=after))
    except (OSError, DatabaseError, DriverUnavailable, Problem) as error:
        if connection.in_atomic_block and isinstance(error, DatabaseError):
            raise  # the transaction is lost: who began it must know
        log.warning("replica.log_lost", replica=replica.name, owner=replica.set.owner_key, reason=str(error))

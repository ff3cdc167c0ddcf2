"""The queue of record: claiming mini-batches, committing what came of them, giving back what was not finished.

Every write names the node's token. A holder that was taken for dead finds its token gone and must stop: nothing it
still has is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from apps.batch.engine.results import Piece
from apps.batch.enums import JobState, MiniBatchState
from apps.batch.models import Job, MiniBatch, Node
from apps.batch.settings import JobSettings
from apps.core import clock

LEASE_S = 12.0
MOST_LOSSES = 100  # of one mini-batch: what takes every node down with it must end some time


class Fenced(Exception):  # noqa: N818 -- a condition: somebody else has the node by now
    """The node is not ours any more; stop and write nothing."""


@dataclass(frozen=True)
class Hold:
    """A node as one holder has it."""

    node: str
    pk: int
    holder: str
    token: int


@dataclass(frozen=True)
class Claimed:
    """One mini-batch that this node is to run. `attempt`: how many ended before."""

    pk: int
    number: int
    files: tuple[str, ...]
    attempt: int


@dataclass(frozen=True)
class Ended:
    """What came of one attempt. `error` is the stored form of a failure, None for success."""

    claimed: Claimed
    process: int
    started_at: datetime
    duration_ms: int
    rows: int = 0
    piece: Piece | None = None
    error: dict[str, Any] | None = None


def renew(hold: Hold) -> None:
    """Keep the node for another LEASE_S. Raises Fenced."""
    until = clock.now() + timedelta(seconds=LEASE_S)
    hit = Node.objects.filter(pk=hold.pk, holder=hold.holder, token=hold.token).update(lease_until=until)
    if not hit:
        raise Fenced(hold.node)


@transaction.atomic
def claim(hold: Hold, job: Job, most: int) -> list[Claimed]:
    """Take up to `most` queued mini-batches of the job, in the order of the input. Raises Fenced."""
    renew(hold)
    queued = MiniBatch.objects.filter(job=job, state=MiniBatchState.QUEUED).order_by("number")
    if connection.features.has_select_for_update_skip_locked:
        queued = queued.select_for_update(skip_locked=True)
    rows = list(queued.values_list("pk", "number", "files", "attempt")[:most])
    if rows:
        MiniBatch.objects.filter(pk__in=[row[0] for row in rows]).update(
            state=MiniBatchState.RUNNING, node=hold.node, token=hold.token, started_at=timezone.now(), ended_at=None
        )
    return [Claimed(pk, number, tuple(files), attempt) for pk, number, files, attempt in rows]


UPDATE = """
update batch_minibatch set state = %s, attempt = %s, process = %s, "rows" = %s, segment = %s, "offset" = %s,
  length = %s, duration_ms = %s, error = %s, started_at = %s, ended_at = %s
where id = %s and state = 'running' and node = %s and token = %s
"""


@transaction.atomic
def commit(hold: Hold, job: Job, settings: JobSettings, ended: Sequence[Ended]) -> None:
    """Write what attempts came to, and count it: success, another try, or failed for good. Raises Fenced."""
    renew(hold)
    if not ended:
        return
    now = timezone.now()
    rows, done, failed, failed_files, lines = [], 0, 0, 0, 0
    for each in ended:
        attempt = each.claimed.attempt + 1
        if each.error is None:
            state = MiniBatchState.DONE
            done, lines = done + 1, lines + each.rows
        elif attempt < settings.max_attempts:
            state = MiniBatchState.QUEUED
        else:
            state = MiniBatchState.FAILED
            failed, failed_files = failed + 1, failed_files + len(each.claimed.files)
        piece = each.piece or Piece("", 0, 0)
        finish = [each.duration_ms, _json(each.error), _time(each.started_at), _time(now)]
        stay = [each.claimed.pk, hold.node, hold.token]
        rows.append(
            [str(state), attempt, each.process, each.rows, piece.segment, piece.offset, piece.length, *finish, *stay]
        )
    with connection.cursor() as cursor:
        cursor.executemany(UPDATE, rows)
        if cursor.rowcount != len(rows):
            raise Fenced(hold.node)
    Job.objects.filter(pk=job.pk).update(
        done=F("done") + done,
        failed=F("failed") + failed,
        failed_files=F("failed_files") + failed_files,
        rows=F("rows") + lines,
        modified_at=now,
    )


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _time(value: datetime) -> Any:
    return connection.ops.adapt_datetimefield_value(value)


@transaction.atomic
def give_back(hold: Hold, claimed: Sequence[Claimed]) -> None:
    """Queue mini-batches again that this node will not finish; no attempt is counted. Raises Fenced."""
    renew(hold)
    _requeue(MiniBatch.objects.filter(pk__in=[each.pk for each in claimed], node=hold.node, token=hold.token))


def leave(hold: Hold) -> None:
    """Queue again whatever the holder still has; the caller has made sure that the node is still its own."""
    _requeue(MiniBatch.objects.filter(node=hold.node, token=hold.token))


def _requeue(rows: Any) -> int:
    running = rows.filter(state=MiniBatchState.RUNNING)
    return int(running.update(state=MiniBatchState.QUEUED, losses=F("losses") + 1))


@transaction.atomic
def take_away(node: Node) -> int:
    """Take a node from whoever holds it: its unfinished mini-batches are queued again. How many."""
    Node.objects.filter(pk=node.pk).update(token=F("token") + 1, holder="", lease_until=None)
    count = _requeue(MiniBatch.objects.filter(node=node.name))
    worn = MiniBatch.objects.filter(node=node.name, state=MiniBatchState.QUEUED, losses__gte=MOST_LOSSES)
    for each in worn.select_related("job"):
        _wear_out(each)
    return count


def _wear_out(row: MiniBatch) -> None:
    error = {
        "code": "NodeLost",
        "azure": "NodeLost",
        "fault": "system",
        "message": f"Its node was lost {row.losses} times while it ran.",
        "evidence": f"node {row.node}",
    }
    MiniBatch.objects.filter(pk=row.pk).update(state=MiniBatchState.FAILED, error=error)
    Job.objects.filter(pk=row.job_id).update(failed=F("failed") + 1, failed_files=F("failed_files") + row.file_count)


def over_threshold(job: Job, settings: JobSettings) -> bool:
    """Whether more files have failed than the job may have (spec 7.2)."""
    return settings.error_threshold >= 0 and job.failed_files > settings.error_threshold


def exhausted(job: Job) -> bool:
    return job.done + job.failed >= job.total


RUNNING_JOBS = (JobState.QUEUED, JobState.RUNNING)

"""What pages say of batch jobs: how far they are, how fast, and what each of their nodes did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.accounts.models import Workspace
from apps.batch.enums import MiniBatchState
from apps.batch.models import Job, Node
from apps.batch.settings import JobSettings
from apps.core.models import Operation

RECENT = timedelta(minutes=1)
NODES_SHOWN = 50
LETTERS: dict[str, str] = {
    MiniBatchState.QUEUED: "q",
    MiniBatchState.RUNNING: "r",
    MiniBatchState.DONE: "d",
    MiniBatchState.FAILED: "f",
}


def jobs_of(workspace: Workspace) -> QuerySet[Job]:
    return Job.objects.filter(workspace=workspace).select_related("cluster", "created_by")


def operations_of(job: Job) -> QuerySet[Operation]:
    rows = Operation.objects.filter(workspace=job.workspace.name, target=job.topic)
    return rows.filter(lock__startswith=f"{job.topic}/{job.pk}/").select_related("actor")


def letters() -> list[tuple[str, Any]]:
    """(letter, word) of the legend. What a node has is not all being worked on."""
    held = {MiniBatchState.RUNNING: _("With nodes")}
    wanted = (MiniBatchState.DONE, MiniBatchState.FAILED, MiniBatchState.RUNNING, MiniBatchState.QUEUED)
    return [(LETTERS[each], held.get(each, each.label)) for each in wanted]


def map_of(job: Job) -> str:
    """One letter per mini-batch, in their order: a hundred thousand of them in one query and 100 KB."""
    states = job.mini_batches.order_by("number").values_list("state", flat=True)
    return "".join(map(LETTERS.__getitem__, states.iterator(chunk_size=20_000)))


@dataclass(frozen=True)
class Lane:
    """What one node did for a job. `busy`: percent of the time between its first and its last mini-batch."""

    node: str
    running: int
    done: int
    failed: int
    recent: int
    busy: int
    last: datetime | None
    state: Any = None

    @property
    def tone(self) -> str:
        return "running" if self.running else self.state.tone if self.state else "idle"


@dataclass(frozen=True)
class Progress:
    """`rate`: mini-batches a minute, over the last minute while it runs, over all of it afterwards.

    `held`: mini-batches that nodes have. They take some ahead and do not tell which: at most `at_work` are worked on.
    """

    ended: int
    total: int
    failed: int
    held: int
    at_work: int
    rate: float | None
    left_s: float | None
    took_s: float | None
    lanes: list[Lane]
    more_lanes: int

    @property
    def queued(self) -> int:
        return max(0, self.total - self.ended - self.held)

    @property
    def percent(self) -> int:
        return 100 * self.ended // self.total if self.total else 0

    @property
    def done(self) -> int:
        return self.ended - self.failed


def progress_of(job: Job) -> Progress:
    now = timezone.now()
    processes = JobSettings.of(job.settings).max_concurrency_per_instance
    lanes = _lanes(job, processes, now)
    ended = job.done + job.failed
    held = sum(each.running for each in lanes)
    at_work = sum(min(each.running, processes) for each in lanes)
    rate = _rate(job, ended, sum(each.recent for each in lanes), now)
    left = (job.total - ended) * 60 / rate if rate and job.live else None
    took = ((job.ended_at or now) - job.started_at).total_seconds() if job.started_at else None
    shown = lanes[:NODES_SHOWN]
    return Progress(ended, job.total, job.failed, held, at_work, rate, left, took, shown, len(lanes) - len(shown))


def _rate(job: Job, ended: int, recent: int, now: datetime) -> float | None:
    if job.started_at is None:
        return None
    whole = max(1.0, ((job.ended_at or now) - job.started_at).total_seconds())
    if not job.live:
        return 60 * ended / whole
    return 60 * recent / min(whole, RECENT.total_seconds())


def _lanes(job: Job, processes: int, now: datetime) -> list[Lane]:
    """Every node that ever had a mini-batch of the job, and those it has now."""
    ended = Q(state__in=(MiniBatchState.DONE, MiniBatchState.FAILED))
    rows = job.mini_batches.exclude(node="").order_by("node").values("node")
    rows = rows.annotate(
        running=Count("pk", filter=Q(state=MiniBatchState.RUNNING)),
        done=Count("pk", filter=Q(state=MiniBatchState.DONE)),
        failed=Count("pk", filter=Q(state=MiniBatchState.FAILED)),
        recent=Count("pk", filter=ended & Q(ended_at__gt=now - RECENT)),
        worked=Sum("duration_ms"),
        first=Min("started_at"),
        last=Max("ended_at"),
    )
    living = {each.name: each for each in Node.objects.filter(job=job)}
    found = [_lane(dict(row), living.pop(row["node"], None), processes, now) for row in rows]
    return [*found, *(Lane(name, 0, 0, 0, 0, 0, None, node) for name, node in sorted(living.items()))]


def _lane(row: dict[str, Any], node: Node | None, processes: int, now: datetime) -> Lane:
    end = now if row["running"] else row["last"]
    span = (end - row["first"]).total_seconds() if end and row["first"] else 0
    busy = min(100, round(100 * (row["worked"] or 0) / 1000 / span / processes)) if span > 0 else 0
    counts = {name: row[name] for name in ("running", "done", "failed", "recent")}
    return Lane(node=row["node"], busy=busy, last=row["last"], state=node, **counts)

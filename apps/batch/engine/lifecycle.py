"""What happens to a job: the only writers of its state. Each is a conditional move, so that it happens once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from apps.batch.engine import claims, wake
from apps.batch.enums import JobState, JobType
from apps.batch.models import Job
from apps.batch.settings import JobSettings
from apps.core import audit, events, operations, states
from apps.core.errors import Problem
from apps.core.models import Operation, OperationState

log = structlog.get_logger(__name__)

BEFORE_NODES = (JobState.NOT_STARTED, JobState.PREPARING)
WITH_NODES = (JobState.QUEUED, JobState.RUNNING)


def submit(job: Job, actor: Any) -> None:
    """Write the row, its audit record and the operation that prepares it; in the caller's transaction."""
    job.save(force_insert=True)
    operations.start(
        "job.prepare",
        workspace=job.workspace.name,
        target=job.topic,
        lock=f"{job.topic}/{job.pk}/prepare",
        actor=actor,
        payload={"job": str(job.pk)},
        resource_url=f"jobs/{job.name}",
        detail={"endpoint": job.endpoint_name, "deployment": job.deployment_name},
    )
    changed(job)


def cancel(job: Job, actor: Any) -> bool:
    """Ask a job to stop, in the caller's transaction; whether it was not stopping already."""
    moved = move(job, JobState.CANCEL_REQUESTED, expect=(*BEFORE_NODES, *WITH_NODES))
    if moved:
        audit.record(actor, "job.cancel", workspace=job.workspace.name, target=job.topic)
        for operation in operations_of(job, "job.prepare"):
            operations.cancel(operation, actor=actor)
        wake.schedule()
        if job.type == JobType.PIPELINE:
            wake.advance(job.pk)
    return moved


def operations_of(job: Job, kind: str) -> Any:
    return Operation.objects.filter(
        kind=kind, lock__startswith=f"{job.topic}/{job.pk}/", state__in=OperationState.live()
    )


def changed(job: Job) -> None:
    """Tell the pages that show it."""
    topics = [job.topic, "jobs"]
    if job.parent_id is not None and job.parent is not None:
        topics.append(job.parent.topic)
    events.changed(job.workspace.name, *topics)


def move(job: Job, to: str, *, expect: Collection[str], **values: Any) -> bool:
    """Whether the job was in one of these states and has moved."""
    try:
        states.move(job, to, expect=list(expect), modified_at=timezone.now(), **values)
    except states.Conflict:
        return False
    changed(job)
    return True


def advanced(job: Job) -> None:
    """Mini-batches have ended: show it, and end the job when too many failed or none is left."""
    now = Job.objects.select_related("workspace").get(pk=job.pk)
    settings = JobSettings.of(now.settings)
    if claims.over_threshold(now, settings):
        problem = Problem("job-errors", failed=now.failed_files, threshold=settings.error_threshold)
        finish(now, JobState.FAILED, problem)
    elif claims.exhausted(now):
        finish(now, JobState.COMPLETED)
    else:
        changed(now)


def fail(job: Job, problem: Problem) -> None:
    """End the job for a reason that no other attempt could mend. What is done is kept."""
    finish(Job.objects.select_related("workspace").get(pk=job.pk), JobState.FAILED, problem)


def finish(job: Job, outcome: str, problem: Problem | None = None) -> bool:
    """Nothing of the job runs from now on: its results are merged by an operation, then it has `outcome`."""
    values: dict[str, Any] = {"outcome": outcome}
    if problem is not None:
        values["error"] = problem.as_json()
    with transaction.atomic():
        moved = move(job, JobState.FINALIZING, expect=(*WITH_NODES, JobState.CANCEL_REQUESTED), **values)
        if moved:
            start_finish(job)
    return moved


def start_finish(job: Job) -> None:
    operations.start(
        "job.finish",
        workspace=job.workspace.name,
        target=job.topic,
        lock=f"{job.topic}/{job.pk}/finish",
        actor=job.created_by,
        payload={"job": str(job.pk)},
        resource_url=f"jobs/{job.name}",
    )


def end(job: Job, state: str, problem: Problem | None = None) -> None:
    """The job is over."""
    values: dict[str, Any] = {"ended_at": timezone.now()}
    if problem is not None:
        values["error"] = problem.as_json()
    if move(job, state, expect=JobState.live(), **values):
        log.info("job.ended", job=job.name, state=state, error=(job.error or {}).get("code"))
        wake.schedule()
        if job.parent_id is not None:
            wake.advance(job.parent_id)

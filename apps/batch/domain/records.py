"""Verbs on jobs as records: describe, archive, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.batch.engine import folders, lifecycle
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.core import audit
from apps.core.errors import Problem


@dataclass(frozen=True)
class JobChange:
    """What a user says about a job that exists; None leaves a field as it is."""

    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] | None = None
    is_archived: bool | None = None


@transaction.atomic
def update_job(*, job: Job, change: JobChange, actor: Any) -> Job:
    """Describe, tag, archive or restore a job. Raises Problem "not-found"."""
    values = {name: value for name, value in vars(change).items() if value is not None}
    if not values:
        return job
    if not Job.objects.filter(pk=job.pk).update(**values, modified_at=timezone.now()):
        raise Problem("not-found", kind="job", name=job.name)
    audit.record(actor, "job.update", workspace=job.workspace.name, target=job.topic, fields=sorted(values))
    job.refresh_from_db()
    lifecycle.changed(job)
    return job


def delete_job(*, job: Job, actor: Any) -> None:
    """Delete an ended job with its logs and steps; results that were written to a datastore stay there.

    Raises Problem "conflict" for one that has not ended or is a step of a pipeline.
    """
    with transaction.atomic():
        if job.parent_id is not None:
            raise Problem("conflict", reason=f"Job {job.name} is a step of a pipeline; delete that job.")
        steps = list(job.children.all())
        gone = Job.objects.select_for_update().filter(pk=job.pk, state__in=JobState.ended()).first()
        if gone is None:
            reason = f"Job {job.name} is {job.get_state_display().lower()}; cancel it before it is deleted."
            raise Problem("conflict", reason=reason)
        audit.record(actor, "job.delete", workspace=job.workspace.name, target=job.topic)
        lifecycle.changed(job)
        gone.delete()
    for each in (job, *steps):
        folders.remove(each)

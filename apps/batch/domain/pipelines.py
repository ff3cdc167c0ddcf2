"""Jobs of pipeline components."""

from __future__ import annotations

from apps.batch.domain.specs import JobSpec
from apps.batch.models import BatchDeployment, Job
from apps.core.errors import Problem


def job_of(deployment: BatchDeployment, spec: JobSpec) -> Job:
    """The row of a new pipeline job, not saved yet. Raises Problem."""
    raise Problem("unsupported", what=f"Pipeline deployment {deployment}", reason="it cannot be run yet", job=spec.name)

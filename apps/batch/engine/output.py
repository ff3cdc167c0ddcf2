"""Outputs: written once, to a place where nothing of theirs was. Only the job that wrote them may write them again."""

from __future__ import annotations

from pathlib import Path

from apps.batch.models import Job
from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.registry import locations
from apps.registry.locations import Location


def check_free(job: Job) -> None:
    """That the results can be written when they are there. Raises Problem "output-exists" before any work is done."""
    settings = JobSettings.of(job.settings)
    output = job.outputs["score"]
    if settings.appends and not output.get("claimed"):
        location = locations.resolve(output["uri"], workspace=job.workspace, actor=None)
        _refuse_if_there(location, settings.output_file_name)


def deliver(job: Job, name: str, location: Location, source: Path) -> None:
    """Write what is in the folder `source` to the output's place. May be killed and done again.

    Raises Problem "output-exists" for what somebody else wrote there.
    """
    entries = sorted(source.iterdir())
    output = job.outputs[name]
    if not output.get("claimed"):
        for entry in entries:
            _refuse_if_there(location, entry.name)
        output["claimed"] = True  # from here on whatever is there is our own
        Job.objects.filter(pk=job.pk).update(outputs=job.outputs)
    for entry in entries:
        target = location.child(entry.name)
        if target.exists():
            target.delete()
        target.put(entry)


def _refuse_if_there(location: Location, name: str) -> None:
    target = location.child(name)
    if target.exists():
        raise Problem("output-exists", uri=target.uri, target="OutputData.score")

"""Outputs: written once, to a place where nothing of theirs was. Only the job that wrote them may write them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apps.accounts.models import Workspace
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

    Raises Problem "output-exists" for what somebody else wrote there, "upload-refused" for links and special files.
    """
    entries = sorted(source.iterdir())
    for entry in entries:  # the script's own folder: it may have put anything there
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise Problem("upload-refused", reason=f"{entry.name} among the outputs is a link or a special file")
    output = job.outputs[name]
    if not output.get("claimed"):
        for entry in entries:
            _refuse_if_there(location, entry.name)
        _claim(job, output)
    for entry in entries:
        target = location.child(entry.name)
        if target.exists():
            target.delete()
        target.put(entry)


def deliver_file(job: Job, name: str, location: Location, source: Path) -> None:
    """Write one file as the output itself; the rest as `deliver`."""
    if source.is_symlink() or not source.is_file():
        raise Problem("upload-refused", reason=f"the output {name} is a link or a special file")
    output = job.outputs[name]
    if not output.get("claimed"):
        if location.exists():
            raise Problem("output-exists", uri=location.uri, target=f"OutputData.{name}")
        _claim(job, output)
    if location.exists():
        location.delete()
    location.put(source)


def _claim(job: Job, output: dict[str, Any]) -> None:
    output["claimed"] = True  # from here on whatever is there is our own
    Job.objects.filter(pk=job.pk).update(outputs=job.outputs)


def _refuse_if_there(location: Location, name: str) -> None:
    target = location.child(name)
    if target.exists():
        raise Problem("output-exists", uri=target.uri, target="OutputData.score")


def of_job(workspace: Workspace, job: str, output: str, path: str) -> Location:
    """Where `azureml://jobs/<job>/outputs/<output>/paths/<path>` is. Raises Problem "bad-field"."""
    found = Job.objects.filter(workspace=workspace, name=job).first()
    given = found.outputs.get(output) if found is not None else None
    if given is None or not given.get("uri"):
        reason = f"there is no output {output[:100]!r} of a job {job[:100]!r}"
        raise Problem("bad-field", field="uri", reason=reason, target="uri")
    location = locations.resolve(given["uri"], workspace=workspace, actor=None)
    return location.child(path) if path else location


locations.resolve_jobs_with(of_job)

"""Outputs: written once, to a place where nothing of theirs was. Only the job that wrote them may write them again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from apps.accounts.models import Workspace
from apps.batch.models import Job
from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.registry import locations, storage
from apps.registry.locations import Location

MOST_RECORDS = 100  # of names in the database, however many files an output has


def check_free(job: Job) -> None:
    """That the results can be written when they are there. Raises Problem "output-exists" before any work is done."""
    settings = JobSettings.of(job.settings)
    output = job.outputs["score"]
    if settings.appends and settings.output_file_name not in output.get("written", []):
        location = locations.resolve(output["uri"], workspace=job.workspace, actor=None)
        _refuse_if_there(location.child(settings.output_file_name), "score")


def deliver(job: Job, name: str, location: Location, source: Path) -> None:
    """Write what is in the folder `source` to the output's place. May be killed and done again.

    Raises Problem "output-exists" for what somebody else wrote there, "upload-refused" for links and special files,
    "disk-full" before the disk is, and what a store raises.
    """
    entries = sorted(source.iterdir())
    for entry in entries:  # the script's own folder: it may have put anything there
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise Problem("upload-refused", reason=f"{entry.name} among the outputs is a link or a special file")
    _write(job, name, [(entry.name, location.child(entry.name), entry) for entry in entries])


def deliver_file(job: Job, name: str, location: Location, source: Path) -> None:
    """Write one file as the output itself; the rest as `deliver`."""
    if source.is_symlink() or not source.is_file():
        raise Problem("upload-refused", reason=f"the output {name} is a link or a special file")
    _write(job, name, [("", location, source)])


def _write(job: Job, name: str, entries: Sequence[tuple[str, Location, Path]]) -> None:
    """Put (name below the output, its place, the source). `written` lists the names that are this job's own."""
    written = job.outputs[name].get("written", [])
    own = set(written)
    for key, target, _source in entries:
        if key not in own:
            _refuse_if_there(target, name)
    step = max(1, len(entries) // MOST_RECORDS)
    for start in range(0, len(entries), step):
        group = entries[start : start + step]
        fresh = [key for key, _target, _source in group if key not in own]
        written = _record(job, name, [*written, *fresh])
        for at, (key, target, source) in enumerate(group):
            try:
                _put(target, source, again=key in own)
            except Problem as problem:
                if problem.code == "output-exists":  # somebody else was faster: these are not ours
                    lost = {key, *(other for other, _target, _source in group[at:] if other in fresh)}
                    _record(job, name, [each for each in written if each not in lost])
                raise


def _put(target: Location, source: Path, *, again: bool) -> None:
    check_room(target, source)
    if again and target.exists():
        target.delete()
    target.put(source)


def check_room(target: Location, source: Path) -> None:
    """Raises Problem "disk-full" when a copy of `source` on this machine would leave too little."""
    place = target.local_path()
    if place is not None:
        files = [source] if source.is_file() else (each for each in source.rglob("*") if each.is_file())
        check_free_bytes(place, sum(each.stat().st_size for each in files))


def check_free_bytes(place: Path, needed: int) -> None:
    """Raises Problem "disk-full" when `needed` more bytes at a place, or above it, would leave too little."""
    there = next(each for each in (place, *place.parents) if each.exists())
    if shutil.disk_usage(there).free - needed < storage.KEPT_FREE:
        raise Problem("disk-full")


def _record(job: Job, name: str, written: list[str]) -> list[str]:
    """What of an output is this job's own, known before it is written, so that a later attempt may replace it."""
    output = job.outputs[name]
    if output.get("written", []) != written:
        output["written"] = written
        Job.objects.filter(pk=job.pk).update(outputs=job.outputs)
    return written


def _refuse_if_there(target: Location, name: str) -> None:
    if target.exists():
        raise Problem("output-exists", uri=target.uri, target=f"OutputData.{name}")


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

"""What the operations of a command job do: bring its inputs, write its script, deliver what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import transaction

from apps.batch import environments
from apps.batch.engine import folders, launch, output, prints
from apps.batch.engine.plan import OURS
from apps.batch.enums import JobState, MiniBatchState
from apps.batch.models import Job, MiniBatch
from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.core.operations import Run
from apps.registry import locations, storage
from apps.registry.locations import Location
from apps.registry.pipelines.command import expand

TO_CODE = 'cd -- "$PORTWAY_CODE" || exit 1\n'


@transaction.atomic
def make_mini_batch(job: Job) -> None:
    """A command is the one mini-batch of its job: claims, leases and retries are the same for all kinds of work."""
    MiniBatch.objects.get_or_create(job=job, number=0, defaults={"files": [], "file_count": 0})
    Job.objects.filter(pk=job.pk).update(total=1)
    job.total = 1


# -- before


def bring(run: Run, job: Job) -> dict[str, str]:
    """Where each data input is on this machine, by its name; what is afar is fetched.

    Raises Problem "input-missing", "disk-full", and what a store raises.
    """
    return {name: str(_brought(run, job, name, given)) for name, given in job.inputs.items() if "uri" in given}


def _brought(run: Run, job: Job, name: str, given: Mapping[str, Any]) -> Path:
    uri, kind = given["uri"], OURS[given["type"]]
    if prints.is_model(kind, uri):
        found = prints.model(uri, job.workspace, f"inputs.{name}")
        return storage.tree_path(found.tree_id) / found.path
    location = locations.resolve(uri, workspace=job.workspace, actor=None)
    is_kind = location.kind()
    if is_kind is None and given.get("empty"):
        return folders.fetched(job, name)
    if is_kind is None:
        raise Problem("input-missing", uri=uri, target=f"inputs.{name}")
    path = location.local_path()
    if path is None:
        run.log(f"fetching {location.uri}")
        path = _fetch(run, location, folders.fetched(job, name))
    return path


def _fetch(run: Run, location: Location, folder: Path) -> Path:
    """Files are whole or not there, so an interrupted fetch goes on where it was."""
    whole = location.kind() == "file"
    last = folder
    for name, size in location.files():
        run.check()
        target = folder / name
        if not target.exists() or target.stat().st_size != size:
            location.fetch(name, target)
            target.chmod(0o444)
        last = target
    return last if whole else folder


def launch_of(run: Run, job: Job, sources: Mapping[str, str]) -> launch.Launch:
    """How the command is started. Raises Problem for an environment that cannot be had."""
    if job.cluster is None or job.environment is None:
        raise Problem("conflict", reason="The cluster or the environment of this step is gone.")
    runnable, driver = environments.built(run, cluster=job.cluster, environment=job.environment, model=None)
    mounts: dict[str, Path] = {}
    inputs: dict[str, str | None] = {}
    for name, given in job.inputs.items():
        if "uri" not in given:
            inputs[name] = given["value"]
            continue
        source = Path(sources[name])
        inputs[name] = f"{launch.INPUTS}/{name}" if source.is_dir() else f"{launch.INPUTS}/{name}/{source.name}"
        mounts[str(inputs[name])] = source
    script, variables = expand(JobSettings.of(job.settings).command, inputs, _paths(job))
    _write(folders.script(job) / launch.SCRIPT, (TO_CODE if job.code is not None else "") + script + "\n")
    return launch.command(job, runnable, driver=driver, sources=mounts, variables=variables)


def _paths(job: Job) -> dict[str, str]:
    return {
        name: f"{launch.OUTPUTS}/{name}" + (f"/{name}" if given["type"] == "UriFile" else "")
        for name, given in job.outputs.items()
    }


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(text)
    partial.chmod(0o444)
    partial.replace(path)


# -- after


def deliver(run: Run, job: Job) -> tuple[str, Problem | None]:
    """(how the job ends, why): the outputs of the attempt that went well are written to their places.

    Raises Problem "output-exists", "upload-refused", and what a store raises.
    """
    outcome = job.outcome or JobState.COMPLETED
    if outcome != JobState.COMPLETED:
        return outcome, None
    part = job.mini_batches.get(number=0)
    if part.state != MiniBatchState.DONE:
        error = part.error or {}
        reason = str(error.get("message") or "The command did not end.")
        return JobState.FAILED, Problem("job-script", reason=reason, evidence=str(error.get("evidence") or ""))
    for name, given in job.outputs.items():
        location = locations.resolve(given["uri"], workspace=job.workspace, actor=None)
        _put(job, name, location, folders.output(job, part.segment, name))
        run.log(f"{name}: written to {location.uri}")
    return outcome, None


def _put(job: Job, name: str, location: Location, folder: Path) -> None:
    if job.outputs[name]["type"] == "UriFile":
        if not (folder / name).exists():
            raise Problem("job-script", reason=f"The command ended well, but did not write its output {name}.")
        output.deliver_file(job, name, location, folder / name)
        return
    if not any(folder.iterdir()):
        job.outputs[name]["empty"] = True
        Job.objects.filter(pk=job.pk).update(outputs=job.outputs)
        return
    output.deliver(job, name, location, folder)

"""The recipes of job operations; each reads like the timeline its user sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.batch import commands, environments
from apps.batch.engine import (
    claims,
    folders,
    joblogs,
    launch,
    lifecycle,
    nodes,
    output,
    pipeline,
    prints,
    results,
    wake,
)
from apps.batch.engine.plan import OURS, Plan
from apps.batch.engine.results import Piece, SegmentBroken
from apps.batch.enums import JobState, JobType, MiniBatchState
from apps.batch.models import Job, MiniBatch
from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.operations import Run, handles
from apps.endpoints.contents import Contents
from apps.registry import locations
from apps.registry.pipelines.interface import Data

ATTEMPTS = 50  # an operation of a job may be interrupted often: the job must end all the same
ROWS_AT_ONCE = 500
MOST_FILES = 1_000_000
FORMATS = (".csv", ".parquet", ".pqt", ".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif")


def _load(run: Run) -> Job:
    related = ("workspace", "cluster", "parent__workspace", "created_by")
    assets = ("model__asset", "code__asset", "environment__asset")
    return Job.objects.select_related(*related, *assets).get(pk=run.payload["job"])


def _prepare_failed(operation: Operation, problem: Problem) -> None:
    job = Job.objects.select_related("workspace", "parent__workspace").filter(pk=operation.payload["job"]).first()
    if job is None:
        return
    if job.type == JobType.PIPELINE and job.children.exists():
        pipeline.advance(job.pk)  # it ends when its steps have
        return
    canceled = problem.code == "canceled" or job.state == JobState.CANCEL_REQUESTED
    lifecycle.end(job, JobState.CANCELED if canceled else JobState.FAILED, None if canceled else problem)


@handles("job.prepare", steps=("input", "environment"), failed=_prepare_failed, cancelable=True, attempts=ATTEMPTS)
def prepare(run: Run) -> None:
    """List the input, build the environment, decide how workers start: all that can fail before any node does."""
    job = _load(run)
    if job.state == JobState.CANCEL_REQUESTED:
        raise Problem("canceled")
    if job.state not in lifecycle.BEFORE_NODES:  # whoever prepared it did not live to say so
        return
    lifecycle.move(job, JobState.PREPARING, expect=[JobState.NOT_STARTED])
    if job.type == JobType.PIPELINE:
        _start_pipeline(run, job)
        return
    with run.step("input"):
        if job.type == JobType.COMMAND:
            sources = commands.bring(run, job)
            commands.make_mini_batch(job)
        else:
            source = _list_input(run, job)
    with run.step("environment"):
        made = commands.launch_of(run, job, sources) if job.type == JobType.COMMAND else _launch(run, job, source)
        job.launch = made.as_json()
        Job.objects.filter(pk=job.pk).update(launch=job.launch)
    moved = lifecycle.move(job, JobState.QUEUED, expect=[JobState.PREPARING], queued_at=timezone.now())
    if not moved:  # it was canceled meanwhile
        raise Problem("canceled")
    joblogs.append(job, joblogs.README, joblogs.README_TEXT.splitlines())
    joblogs.note(job, f"{job.files} files in {job.total} mini-batches; queued on {job.cluster}")
    wake.schedule()


def _start_pipeline(run: Run, job: Job) -> None:
    """Take the fingerprints of its data, by which steps that were done before are known; then its steps can run."""
    with run.step("input"):
        plan = Plan.of(job.settings)
        data = {(OURS[each["type"]], each["uri"]) for each in job.inputs.values() if "uri" in each}
        for step in plan.graph.steps.values():
            fixed = [each for each in step.inputs.values() if isinstance(each, Data)]
            data |= {(each.type, plan.pins[each.uri]) for each in fixed}
        job.settings["prints"] = {
            uri: prints.fingerprint(kind, uri, workspace=job.workspace, check=run.check) for kind, uri in sorted(data)
        }
        Job.objects.filter(pk=job.pk).update(settings=job.settings)
    now = timezone.now()
    if not lifecycle.move(job, JobState.RUNNING, expect=[JobState.PREPARING], queued_at=now, started_at=now):
        raise Problem("canceled")
    pipeline.advance(job.pk)


# -- the input


def _list_input(run: Run, job: Job) -> Path | None:
    """Write the mini-batches; the folder to mount, None when files are fetched one by one."""
    given = next(iter(job.inputs.values()))
    location = locations.resolve(given["uri"], workspace=job.workspace, actor=None)
    kind = location.kind()
    if kind is None:
        raise Problem("input-missing", uri=given["uri"], target="InputData")
    output.check_free(job)
    if not job.total:
        no_code = job.code is None
        count, total = _write_mini_batches(job, _names(location, nested=not no_code), no_code=no_code)
        if not count:
            raise Problem("input-empty", uri=given["uri"], target="InputData")
        job.files, job.total = count, total
    run.log(f"{job.files} files, {job.total} mini-batches")
    path = location.local_path()
    if path is None:
        return None
    return path if kind == "folder" else _alone(job, path)


def _names(location: Any, *, nested: bool) -> Iterator[str]:
    return (name for name, _size in location.files(nested=nested, most=MOST_FILES))


def _write_mini_batches(job: Job, names: Iterator[str], *, no_code: bool) -> tuple[int, int]:
    """(files, mini-batches). All or none: the transaction begins when the listing is read."""
    settings = JobSettings.of(job.settings)
    listed = list(names)
    for name in listed if no_code else ():
        if not name.lower().endswith(FORMATS):
            extension = name.rpartition(".")[2] if "." in name else name
            raise Problem("input-type", extension=extension, evidence=name, target="InputData")
    size = settings.mini_batch_size
    chunks = (listed[start : start + size] for start in range(0, len(listed), size))
    total = 0
    with transaction.atomic():
        MiniBatch.objects.filter(job=job).delete()
        while group := list(islice(chunks, ROWS_AT_ONCE)):
            MiniBatch.objects.bulk_create(
                MiniBatch(job=job, number=total + at, files=files, file_count=len(files))
                for at, files in enumerate(group)
            )
            total += len(group)
        Job.objects.filter(pk=job.pk).update(files=len(listed), total=total)
    return len(listed), total


def _alone(job: Job, path: Path) -> Path:
    """A folder with nothing but this file in it, so that no neighbour is seen."""
    folder = folders.of(job) / "input"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    target = folder / path.name
    if not target.exists():
        try:
            os.link(path, target)
        except OSError:
            target.write_bytes(path.read_bytes())
            target.chmod(0o444)
    return folder


# -- the environment


def _launch(run: Run, job: Job, source: Path | None) -> launch.Launch:
    if job.cluster is None:
        raise Problem("bad-field", field="compute", reason="the job has no cluster")
    runnable, driver = environments.built(run, cluster=job.cluster, environment=job.environment, model=job.model)
    settings = JobSettings.of(job.settings)
    contents = Contents(
        model=job.model,
        code=job.code,
        scoring_script=settings.scoring_script,
        environment=job.environment,
        environment_variables=settings.variables or {},
        model_mount_path="",
        properties={},
    )
    return launch.scoring(job, contents, runnable, driver=driver, source=source)


# -- the end


def _finish_failed(operation: Operation, problem: Problem) -> None:
    job = Job.objects.select_related("workspace", "parent__workspace").filter(pk=operation.payload["job"]).first()
    if job is not None:
        lifecycle.end(job, JobState.FAILED, problem)


@handles("job.finish", steps=("workers", "results"), failed=_finish_failed, attempts=ATTEMPTS)
def finish(run: Run) -> None:
    """Wait until nobody works on the job, then merge what was committed, once, in the order of the input."""
    job = _load(run)
    if job.state != JobState.FINALIZING:
        return
    with run.step("workers"):
        if not run.wait(lambda: not job.nodes.exists(), timeout_s=3 * claims.LEASE_S):
            run.log("a node did not end in time; what it still writes is refused")
        nodes.requeue_of(job)
    with run.step("results"):
        job.refresh_from_db()
        outcome, problem = commands.deliver(run, job) if job.type == JobType.COMMAND else _deliver(run, job)
    lifecycle.end(job, outcome, problem)


def _deliver(run: Run, job: Job) -> tuple[str, Problem | None]:
    settings = JobSettings.of(job.settings)
    outcome = job.outcome or JobState.COMPLETED
    problem = None
    if outcome == JobState.COMPLETED and not job.rows:
        outcome, problem = JobState.FAILED, Problem("job-no-results", evidence=_last_error(job))
    _summarise(job)
    score = folders.score(job)
    if settings.appends and job.rows:
        size = _merge(job, score / settings.output_file_name)
        run.log(f"{job.rows} rows, {size} bytes in {settings.output_file_name}")
    if any(score.iterdir()):
        location = locations.resolve(job.outputs["score"]["uri"], workspace=job.workspace, actor=None)
        output.deliver(job, "score", location, score)
        run.log(f"written to {location.uri}")
    return outcome, problem


def _merge(job: Job, target: Path) -> int:
    done = job.mini_batches.filter(state=MiniBatchState.DONE, length__gt=0).order_by("number")
    pieces = (Piece(*row) for row in done.values_list("segment", "offset", "length").iterator(2000))
    half = folders.of(job) / "merged.part"
    try:
        size = results.merge(pieces, folders.parts(job), half)
    except (SegmentBroken, FileNotFoundError) as error:
        raise Problem("internal", evidence=str(error)) from error
    half.replace(target)
    return size


def _last_error(job: Job) -> str:
    row = job.mini_batches.exclude(error=None).order_by("-number").values_list("error", flat=True).first()
    return str((row or {}).get("evidence") or (row or {}).get("message") or "")


def _summarise(job: Job) -> None:
    lines = [
        f"mini-batches: {job.total}, done {job.done}, failed {job.failed}",
        f"files: {job.files}, failed {job.failed_files}",
        f"rows: {job.rows}",
    ]
    joblogs.append(job, joblogs.OVERVIEW, lines)

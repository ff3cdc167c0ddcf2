"""The recipes of job operations; each reads like the timeline its user sees."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from apps.batch import commands, environments
from apps.batch.engine import (
    channel,
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
from apps.core import disk, limits
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.operations import Run, handles
from apps.endpoints.contents import Contents
from apps.registry import locations
from apps.registry.pipelines.interface import Data
from apps.registry.stores.local import NO_SPACE

ATTEMPTS = 50  # an operation of a job may be interrupted often: the job must end all the same
ROWS_AT_ONCE = 500
MOST_FILES = 1_000_000
MEASURE_S = 60.0
PATIENCE_S = 600.0  # for a store that is away when hours of work are to be written there
PAUSES_S = (5.0, 10.0, 20.0, 40.0, 60.0)
PASSING = {"unavailable", "disk-full"}
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
    state = JobState.CANCELED if canceled else JobState.FAILED
    possible = (*lifecycle.BEFORE_NODES, JobState.CANCEL_REQUESTED)
    lifecycle.end(job, state, None if canceled else problem, expect=possible)


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
        count, total = _write_mini_batches(run, job, _names(location, nested=not no_code), no_code=no_code)
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


def _write_mini_batches(run: Run, job: Job, names: Iterator[str], *, no_code: bool) -> tuple[int, int]:
    """(files, mini-batches). Written in pieces; `total`, set last, is the mark that all are there.

    Raises Problem "bad-field" when the mini-batches would be too many or too large, "input-type".
    """
    size = JobSettings.of(job.settings).mini_batch_size
    listed = list(names)
    for name in listed if no_code else ():
        if not name.lower().endswith(FORMATS):
            extension = name.rpartition(".")[2] if "." in name else name
            raise Problem("input-type", extension=extension, evidence=name, target="InputData")
    count, most = -(-len(listed) // size), limits.get("mini_batches_per_job")
    if count > most:
        raise _bad_size(f"is {size}, which makes {count} mini-batches of {len(listed)} files; at most {most} may be")
    _forget_mini_batches(run, job)
    chunks = (listed[start : start + size] for start in range(0, len(listed), size))
    total = 0
    while group := list(islice(chunks, ROWS_AT_ONCE)):
        run.check()
        for files in group:
            _check_frame(files, size)
        MiniBatch.objects.bulk_create(
            MiniBatch(job=job, number=total + at, files=files, file_count=len(files)) for at, files in enumerate(group)
        )
        total += len(group)
    Job.objects.filter(pk=job.pk).update(files=len(listed), total=total)
    return len(listed), total


def _forget_mini_batches(run: Run, job: Job) -> None:
    """What somebody wrote who did not live to set the mark."""
    while pks := list(job.mini_batches.values_list("pk", flat=True)[:ROWS_AT_ONCE]):
        run.check()
        MiniBatch.objects.filter(pk__in=pks).delete()


def _check_frame(files: list[str], size: int) -> None:
    if len(json.dumps(files)) > channel.LARGEST_FRAME // 2:
        most = channel.LARGEST_FRAME // 2**21
        raise _bad_size(f"is {size}: the names of the files of one mini-batch are more than {most} MiB")


def _bad_size(reason: str) -> Problem:
    return Problem("bad-field", field="miniBatchSize", reason=reason, target="miniBatchSize")


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
        lifecycle.end(job, JobState.FAILED, problem, expect=[JobState.FINALIZING])


@handles("job.finish", steps=("workers", "results"), failed=_finish_failed, attempts=ATTEMPTS)
def finish(run: Run) -> None:
    """Wait until nobody works on the job, then merge what was committed, once, in the order of the input."""
    job = _load(run)
    if job.state != JobState.FINALIZING:
        _tidy(job)  # whoever ended it may not have lived to do so
        return
    with run.step("workers"):
        if not run.wait(lambda: not job.nodes.exists(), timeout_s=3 * claims.LEASE_S):
            run.log("a node did not end in time; what it still writes is refused")
        nodes.requeue_of(job)
    with run.step("results"):
        job.refresh_from_db()
        outcome, problem = commands.deliver(run, job) if job.type == JobType.COMMAND else _deliver(run, job)
    lifecycle.end(job, outcome, problem, expect=[JobState.FINALIZING])
    _tidy(job)


def _deliver(run: Run, job: Job) -> tuple[str, Problem | None]:
    settings = JobSettings.of(job.settings)
    outcome = job.outcome or JobState.COMPLETED
    problem = None
    if outcome == JobState.COMPLETED and not job.rows:
        outcome, problem = JobState.FAILED, Problem("job-no-results", evidence=_last_error(job))
    _summarise(job)
    score = folders.score(job)
    merged = score / settings.output_file_name
    if settings.appends:
        _clear(merged)
    _check_size(job)
    if settings.appends and job.rows:
        _patiently(run, lambda: _merge(job, merged))
        run.log(f"{job.rows} rows, {merged.stat().st_size} bytes in {settings.output_file_name}")
    if any(score.iterdir()):
        location = locations.resolve(job.outputs["score"]["uri"], workspace=job.workspace, actor=None)
        _patiently(run, lambda: output.deliver(job, "score", location, score))
        run.log(f"written to {location.uri}")
    return outcome, problem


def _clear(merged: Path) -> None:
    """Remove what an earlier attempt merged. Raises Problem "job-script" for a folder: the script has made that."""
    if merged.is_dir() and not merged.is_symlink():
        reason = f"The script made a folder {merged.name} among its outputs, which is the name of the job's own result."
        raise Problem("job-script", reason=reason)
    merged.unlink(missing_ok=True)


def _patiently(run: Run, work: Callable[[], object]) -> None:
    """Try again while a store is away or a disk is full, for PATIENCE_S at most."""
    until = time.monotonic() + PATIENCE_S
    for pause in chain(PAUSES_S, repeat(PAUSES_S[-1])):
        try:
            work()
        except Problem as problem:
            left = until - time.monotonic()
            if problem.code not in PASSING or left <= 0:
                raise
            wait = min(pause, left)
            run.log(f"{problem.message} {problem.evidence} Trying again in {wait:.0f} s.".replace("  ", " "))
        else:
            return
        run.wait(lambda: False, timeout_s=wait)


def _check_size(job: Job) -> None:
    most = limits.get("job_output_bytes")
    size = sum(disk.measure(each, seconds=MEASURE_S).total for each in (folders.score(job), folders.parts(job)))
    if size > most:
        raise Problem("limit", limit=most, what=f"bytes of results of one job (it has {size})")


def _tidy(job: Job) -> None:
    """What was delivered whole need not be kept twice. Failed mini-batches may be tried again: that needs the parts."""
    now = Job.objects.get(pk=job.pk)
    if now.state != JobState.COMPLETED or now.failed:
        return
    if now.type == JobType.COMMAND:
        folders.forget_work(folders.of(now))
    elif now.type == JobType.SCORING:
        shutil.rmtree(folders.parts(now), ignore_errors=True)
        (folders.score(now) / JobSettings.of(now.settings).output_file_name).unlink(missing_ok=True)


def _merge(job: Job, target: Path) -> None:
    done = job.mini_batches.filter(state=MiniBatchState.DONE, length__gt=0).order_by("number")
    needed = done.aggregate(sum=Sum("length"))["sum"] or 0
    output.check_free_bytes(target.parent, needed)
    pieces = (Piece(*row) for row in done.values_list("segment", "offset", "length").iterator(2000))
    half = folders.of(job) / "merged.part"
    try:
        results.merge(pieces, folders.parts(job), half)
    except (SegmentBroken, FileNotFoundError) as error:
        raise Problem("internal", evidence=str(error)) from error
    except OSError as error:
        half.unlink(missing_ok=True)
        if error.errno in NO_SPACE:
            raise Problem("disk-full") from error
        raise
    half.replace(target)


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

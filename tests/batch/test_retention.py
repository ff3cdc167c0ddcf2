"""What goes of a job by itself, and what stays."""

import os
import time
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.batch import domain, retention
from apps.batch.engine import folders, joblogs
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.core import limits
from apps.core.errors import Problem
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job
from tests.batch.pipes import deploy_one, ended, run, text


@pytest.fixture
def jobs(workspace):
    """Three that ended with everything in their folders, the first of them long ago; the last is running."""
    blue = make_batch_deployment(make_batch_endpoint(workspace))
    made = [make_job(blue, name, parts=1, state=JobState.FAILED) for name in ("old", "new", "live")]
    ago = {"old": 31, "new": 29, "live": 300}
    for job in made:
        for work in (folders.score(job), folders.parts(job), folders.stage(job, "n")):
            (work / "file").write_text("x")
        (folders.of(job) / "merged.part").write_text("x")
        joblogs.note(job, "kept")
        ended_at = timezone.now() - timedelta(days=ago[job.name])
        state = JobState.RUNNING if job.name == "live" else JobState.FAILED
        Job.objects.filter(pk=job.pk).update(ended_at=ended_at, state=state, rows=1)
        job.refresh_from_db()
    yield made
    for job in made:
        folders.remove(job)


def names(job):
    return sorted(path.name for path in folders.of(job).iterdir() if path.name != folders.SWEPT)


def test_working_files_go_and_logs_stay(jobs, people):
    old, new, live = jobs
    whole = names(new)
    assert retention.sweep() == 1
    assert names(old) == ["logs"]
    assert (names(new), names(live)) == (whole, whole)
    name = next(name for name, _size in joblogs.tree(old))
    assert "kept" in joblogs.read(old, name)[0]
    assert retention.sweep() == 0

    with pytest.raises(Problem, match="removed since"):
        domain.retry_failed(job=old, actor=people["olga"])
    assert domain.retry_failed(job=new, actor=people["olga"]).state == JobState.QUEUED


def test_who_retries_first_keeps_the_files(jobs, people, monkeypatch):
    old = jobs[0]
    long_ago = retention._ended_long_ago

    def retried_meanwhile(names):
        found = long_ago(names)
        domain.retry_failed(job=Job.objects.get(pk=old.pk), actor=people["olga"])
        return found

    monkeypatch.setattr(retention, "_ended_long_ago", retried_meanwhile)
    assert retention.sweep() == 0
    assert "score" in names(old)


def test_what_is_deleted_or_no_folder_does_not_end_the_sweep(jobs, workspace):
    folders.remove(jobs[0])
    folders.of(jobs[0]).write_text("no folder")
    Job.objects.filter(pk=jobs[1].pk).update(ended_at=timezone.now() - timedelta(days=31))
    try:
        assert retention.sweep() == 1
        assert names(jobs[1]) == ["logs"]
    finally:
        folders.of(jobs[0]).unlink()


def test_the_administrator_says_for_how_long(jobs, people):
    limits.set_limit(name="job_files_days", value=28, actor=people["olga"])
    assert retention.sweep() == 2
    assert "parts" in names(jobs[2])


def test_folders_without_a_job_go_when_they_are_old(jobs):
    lost, young = (folders.root() / str(uuid.uuid4()) for _ in range(2))
    other = folders.root() / "not-a-job"
    for path in (lost, young, other):
        (path / "deep").mkdir(parents=True)
    past = time.time() - 2 * retention.NEWBORN_S
    for path in (lost, other):
        os.utime(path, (past, past))
    retention.sweep()
    assert (lost.exists(), young.exists(), other.exists()) == (False, True, True)
    young.joinpath("deep").rmdir()
    young.rmdir()
    other.joinpath("deep").rmdir()
    other.rmdir()


def test_a_command_that_has_delivered_keeps_its_logs_only(batch):
    deploy_one(batch, "echo hi > ${{outputs.out}}", outputs={"out": {"type": "uri_file"}})
    batch.agent()
    job = ended(batch, run(batch))
    assert text(batch, job, "out", "") == "hi\n"
    assert names(job.children.get(step="only")) == ["logs"]

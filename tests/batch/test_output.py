"""Outputs: a job replaces what it wrote itself, and nothing of anybody else."""

import shutil

import pytest

from apps.batch import domain, operations
from apps.batch.engine import folders, output
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.core import limits
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.registry import locations, storage
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job

URI = "azureml://datastores/workspaceblobstore/paths/out"


@pytest.fixture
def place(workspace):
    found = locations.resolve(URI, workspace=workspace, actor=None)
    yield found
    shutil.rmtree(found.local_path(), ignore_errors=True)


@pytest.fixture
def jobs(workspace):
    blue = make_batch_deployment(make_batch_endpoint(workspace))
    made = [make_job(blue, name) for name in ("first", "second")]
    for job in made:
        job.outputs = {"score": {"type": "UriFolder", "uri": URI}}
        job.save()
    yield made
    for job in made:
        folders.remove(job)


def write(job, place, **files):
    score = folders.score(job)
    for name, text in files.items():
        (score / name).write_text(text)
    output.deliver(Job.objects.get(pk=job.pk), "score", place, score)


def there(place):
    return {path.name: path.read_text() for path in sorted(place.local_path().iterdir())}


def test_of_two_jobs_the_slower_fails_and_deletes_nothing(jobs, place):
    first, second = jobs
    write(first, place, a="1", b="1")
    for _attempt in range(2):
        with pytest.raises(Problem, match="already"):
            write(second, place, b="2", c="2")
        assert there(place) == {"a": "1", "b": "1"}
    assert Job.objects.get(pk=second.pk).outputs["score"].get("written", []) == []
    with pytest.raises(Problem):
        output.deliver_file(second, "score", place.child("a"), folders.score(second) / "b")
    assert there(place) == {"a": "1", "b": "1"}


def test_who_loses_the_race_at_the_last_moment_does_not_own_what_is_there(jobs, place, monkeypatch):
    first, second = jobs
    plain = locations.Location.put

    def late(self, source):
        if source.is_relative_to(folders.of(second)):
            monkeypatch.setattr(locations.Location, "put", plain)
            write(first, place, a="1")
        plain(self, source)

    monkeypatch.setattr(locations.Location, "put", late)
    for _attempt in range(2):
        with pytest.raises(Problem, match="already"):
            write(second, place, a="2")
        assert there(place) == {"a": "1"}


def test_an_attempt_after_another_replaces_what_that_wrote(jobs, place):
    first, _second = jobs
    write(first, place, a="1", b="1")
    write(first, place, a="2", c="2")
    assert there(place) == {"a": "2", "b": "1", "c": "2"}
    (place.local_path() / "d").write_text("of somebody else")
    with pytest.raises(Problem, match="already"):
        write(first, place, a="3", d="3")
    assert there(place) == {"a": "2", "b": "1", "c": "2", "d": "of somebody else"}


def test_only_our_own_results_may_be_there_before_the_work(jobs, place):
    first, second = jobs
    write(first, place, **{"predictions.csv": "1"})
    output.check_free(Job.objects.get(pk=first.pk))
    with pytest.raises(Problem, match="already"):
        output.check_free(second)


def test_the_disk_is_never_filled(jobs, place, monkeypatch):
    monkeypatch.setattr(storage, "KEPT_FREE", 2**60)
    with pytest.raises(Problem) as full:
        write(jobs[0], place, a="1")
    assert full.value.code == "disk-full"


def test_what_was_delivered_whole_is_not_kept_twice(batch):
    batch.deployment()
    batch.agent()
    job = batch.completed(batch.submit(batch.files(3)))
    assert len(batch.lines(job)) == 3
    assert not any((folders.of(job) / "parts").glob("*"))
    assert not any((folders.of(job) / "score").iterdir())


def test_results_that_could_not_be_written_are_written_later(batch):
    batch.deployment()
    uri = batch.files(3)
    limits.set_limit(name="job_output_bytes", value=2**20, actor=batch.actor)
    batch.agent()
    job = batch.submit(uri)
    (folders.score(job) / "large").write_bytes(b"x" * (2**20 + 1))
    batch.ended(job)
    assert (job.state, job.error["code"], job.done) == (JobState.FAILED, "limit", 3)

    limits.set_limit(name="job_output_bytes", value=None, actor=batch.actor)
    last = Operation.objects.filter(kind="job.finish").last()
    Operation.objects.filter(pk=last.pk).update(state="running")
    with pytest.raises(Problem) as busy:
        domain.retry_failed(job=job, actor=batch.actor)
    assert busy.value.code == "busy"
    assert Job.objects.get(pk=job.pk).state == JobState.FAILED
    Operation.objects.filter(pk=last.pk).update(state="failed")
    job.refresh_from_db()
    domain.retry_failed(job=job, actor=batch.actor)
    batch.completed(job)
    assert (len(batch.lines(job)), job.error) == (3, None)
    with pytest.raises(Problem) as over:
        domain.retry_failed(job=job, actor=batch.actor)
    assert over.value.code == "job-ended"


def test_a_store_that_is_away_is_waited_for(batch, monkeypatch):
    monkeypatch.setattr(operations, "PAUSES_S", (0.01,))
    plain, away = output.deliver, [1, 2]

    def deliver(*args):
        if away:
            raise Problem("unavailable", what=f"Datastore {away.pop()}")
        plain(*args)

    monkeypatch.setattr(output, "deliver", deliver)
    batch.deployment()
    batch.agent()
    job = batch.completed(batch.submit(batch.files(2)))
    assert len(batch.lines(job)) == 2
    steps = Operation.objects.get(kind="job.finish").steps.filter(name="results")
    assert "Datastore 1 is not available" in steps.get().log


def test_a_folder_in_the_place_of_the_results_is_the_scripts_fault(batch):
    script = """import os
def init(): os.mkdir(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "predictions.csv"))
def run(files): return files
"""
    batch.deployment(script)
    batch.agent()
    job = batch.ended(batch.submit(batch.files(1)))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "job-script")
    assert "predictions.csv" in job.error["message"]

"""What scripts, names and places may do to us: answers, logs, mini-batches and fetches are bounded and plain."""

import errno
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from apps.batch.engine import channel, folders, inputs, joblogs
from apps.batch.engine.channel import ProtocolError, Reader
from apps.batch.engine.claims import Claimed
from apps.batch.engine.crew import Crew
from apps.batch.enums import JobState
from apps.batch.models import Job, MiniBatch
from apps.compute.drivers.base import LogLine
from apps.core import limits
from apps.core.errors import Problem
from tests.api.batch_bodies import SHORT
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job

SURROGATE = r"""
import os
def init(): pass
def run(files):
    raise ValueError(os.fsdecode(b'caf\xe9') + '\x00')
"""


@pytest.fixture
def job(workspace):
    made = make_job(make_batch_deployment(make_batch_endpoint(workspace)))
    yield made
    folders.remove(made)


def test_what_is_no_text_is_shown_as_text(batch):
    batch.deployment(SURROGATE)
    batch.agent()
    job = batch.ended(batch.submit(batch.files(1)))
    assert job.state == JobState.FAILED
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(batch.actor)
    told = client.get(f"{SHORT}/jobs/{job.name}/miniBatches/0")
    assert told.status_code == 200, told.content
    assert "caf?" in told.json()["error"]["message"]
    whole = client.get(f"{SHORT}/jobs/{job.name}")
    assert whole.status_code == 200
    assert b"caf?" in whole.content


# -- answers


def test_answers_are_smaller_than_what_is_asked():
    reader = Reader()
    reader.feed(channel.HEAD.pack(channel.LARGEST_ANSWER + 1))
    with pytest.raises(ProtocolError):
        reader.next()
    reader = Reader()
    reader.feed(channel.pack({"id": 1, "size": channel.LARGEST_RESULT + 1}))
    with pytest.raises(ProtocolError, match="more than 64 MiB"):
        reader.next()


class Talkers:
    """A crew whose workers are sockets of the test."""

    def __init__(self, folder, count):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/s")
        self.listener.listen()
        self.crew = Crew(lambda: f"unix:{folder}/s", count, timeout_s=60, start_s=60)
        self.crew.turn(0)
        self.socks = [self.listener.accept()[0] for _ in range(count)]
        for sock in self.socks:
            sock.sendall(channel.pack({"ready": True}))
        for number in range(count):
            self.crew.queue.append(Claimed(number, number, ("a",), 0))
        self.turn_until(lambda: len(self.crew.busy) == count)

    def turn_until(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            self.crew.turn(0.01)

    def close(self):
        self.crew.close()
        for sock in (*self.socks, self.listener):
            sock.close()


@pytest.fixture
def talkers(short_folder):
    made = Talkers(short_folder, 3)
    yield made
    made.close()


@pytest.fixture
def short_folder():
    # a unix socket's path must be short
    with tempfile.TemporaryDirectory(prefix="pw") as folder:
        yield Path(folder)


def test_a_second_start_breaks_the_protocol(talkers):
    talkers.socks[0].sendall(channel.pack({"ready": True}))
    talkers.turn_until(lambda: talkers.crew.outcomes)
    assert talkers.crew.outcomes[0].error["code"] == "WorkerDied"
    assert "protocol" in talkers.crew.outcomes[0].error["message"]


def test_a_crew_keeps_a_bounded_amount_of_answers(talkers, monkeypatch):
    monkeypatch.setattr("apps.batch.engine.crew.BUFFERED", 3 * 2**20)
    size = 4 * 2**20
    writers = [
        threading.Thread(
            target=sock.sendall, args=(channel.pack({"id": n, "ok": True, "rows": 1, "size": size}) + b"x" * size,)
        )
        for n, sock in enumerate(talkers.socks)
    ]
    for each in writers:
        each.start()
    taken = []
    most = 0
    deadline = time.monotonic() + 30
    while len(taken) < 3:
        assert time.monotonic() < deadline
        talkers.crew.turn(0.01)
        most = max(most, talkers.crew.buffered)
        taken += talkers.crew.outcomes
        talkers.crew.outcomes = []
    for each in writers:
        each.join()
    assert {len(each.body) for each in taken} == {size}
    assert most < 8 * 2**20  # not the twelve that three of them have to say


# -- logs


def test_only_numbers_of_processes_have_files(job):
    job.settings = {"max_concurrency_per_instance": 2}
    joblogs.sort_out(
        job,
        "n1",
        [LogLine(timezone.now(), f"{number}\to\tx") for number in ("1", "01", "2", "9999", "-")],
    )
    assert [name for name, _size in joblogs.tree(job)] == [
        "logs/sys/node/n1.txt",
        "logs/user/stdout/n1/process1.stdout.txt",
    ]


def test_the_whole_tree_is_bounded(job, monkeypatch):
    monkeypatch.setattr(joblogs, "MOST_OF_JOB", 1000)
    for number in range(50):
        joblogs.append(job, f"logs/user/stdout/n1/process{number}.stdout.txt", ["x" * 99])
    assert len([name for name, _size in joblogs.tree(job) if "process" in name]) == 10
    joblogs.note(job, "still noted")
    said = joblogs.read(job, joblogs.MASTER)[0]
    assert said.count("the logs have reached") == 1
    assert "still noted" in said


def test_a_full_disk_loses_lines_and_nothing_else(job, monkeypatch, caplog):
    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Path, "open", full)
    joblogs.note(job, "one")
    joblogs.note(job, "two")


# -- mini-batches


def test_too_many_mini_batches_name_the_setting(batch):
    batch.deployment()
    limits.set_limit(name="mini_batches_per_job", value=2, actor=batch.actor)
    job = batch.ended(batch.submit(batch.files(3)))
    assert (job.state, job.error["code"], job.total) == (JobState.FAILED, "bad-field", 0)
    assert "miniBatchSize" in job.error["message"]
    assert job.mini_batches.count() == 0


def test_the_names_of_a_mini_batch_fit_a_frame(batch, monkeypatch):
    monkeypatch.setattr(channel, "LARGEST_FRAME", 100)
    batch.deployment(mini_batch_size=10)
    job = batch.ended(batch.submit(batch.files(10)))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "bad-field")
    assert "miniBatchSize" in job.error["message"]


def test_mini_batches_without_the_mark_are_written_anew(batch):
    batch.deployment()
    job = batch.submit(batch.files(1200))
    MiniBatch.objects.bulk_create(
        MiniBatch(job=job, number=number, files=["old"], file_count=1) for number in range(1300)
    )
    batch.until(lambda: Job.objects.get(pk=job.pk).total)
    job.refresh_from_db()
    assert (job.total, job.files, job.mini_batches.count()) == (1200, 1200, 1200)
    assert job.mini_batches.get(number=1199).files == ["f001199.txt"]


# -- fetches


class Slow:
    """A place whose second file never comes before it is let go."""

    def __init__(self):
        self.go = threading.Event()

    def fetch(self, name, target):
        if name != "a":
            self.go.wait(60)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(name)


def until(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.mark.django_db(transaction=True)
def test_closing_waits_for_nobody_and_the_last_removes_the_folder(tmp_path):
    folder, place = tmp_path / "stage", Slow()
    first = inputs.Fetched(place, folder)
    first.want([Claimed(1, 1, ("a",), 0), Claimed(2, 2, ("b",), 0)])
    assert until(first.ready)[0][1] is None
    first.close()
    assert first.waiting
    second = inputs.Fetched(place, folder)  # the node is back before the slow one has ended
    second.want([Claimed(3, 3, ("a",), 0)])
    until(second.ready)
    place.go.set()
    until((folder / "b").exists)
    assert (folder / "a").exists()
    second.close()
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.django_db(transaction=True)
def test_names_that_lead_elsewhere_are_not_fetched(tmp_path):
    found = inputs.Fetched(Slow(), tmp_path / "stage")
    found.want([Claimed(1, 1, ("../../x",), 0)])
    ((_claimed, problem),) = until(found.ready)
    found.close()
    assert isinstance(problem, Problem)
    assert problem.code == "bad-field"
    assert not (tmp_path.parent / "x").exists()

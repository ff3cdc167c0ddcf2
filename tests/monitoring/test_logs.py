"""Keeping logs: once, whole, for a bounded time, whatever is killed in between."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.monitoring import logs
from apps.monitoring.models import ReplicaLog

pytestmark = pytest.mark.django_db
BEGAN = datetime(2026, 3, 1, 10, tzinfo=UTC)
HOSTILE = ["<b>bold</b>", "\x1b[31mred", "null\0", "two\nlines", "\u202eevil", "lone \ud800 surrogate", "x" * 20_000]


@dataclass(frozen=True)
class Chunk:
    lines: list
    mark: str


class Source:
    """A driver's log: `read` gives `at_once` lines behind a mark."""

    def __init__(self, *texts, at_once=2):
        self.lines = [logs.Line(BEGAN + timedelta(seconds=at), text) for at, text in enumerate(texts)]
        self.at_once = at_once

    def read(self, after):
        start = int(after or 0)
        found = self.lines[start : start + self.at_once]
        return Chunk(found, str(start + len(found)))


def life(**values):
    given = {
        "workspace": "lab",
        "endpoint": "iris",
        "deployment": "blue",
        "revision": 1,
        "index": 0,
        "replica": "abc-r1-0",
        "address": "unix:/run/abc/m.sock",
        "started_at": BEGAN,
        "ended_at": BEGAN + timedelta(minutes=5),
        "why": "crashed",
        "exit_code": 3,
        "reason": {"code": "start-failed", "message": "exit code 3"},
    }
    return logs.Life(**(given | values))


@pytest.fixture(autouse=True)
def home(settings, tmp_path):
    settings.HOME = replace(settings.HOME, root=tmp_path)
    settings.HOME.logs.mkdir()


def files():
    return sorted(path.name for path in logs.folder().rglob("*") if path.is_file())


def texts(row):
    return [line.text for line in logs.lines_of(row)]


def test_what_is_kept_is_what_was_said_and_how_it_ended():
    row = logs.keep(life(), Source("one", "two", "three").read)
    assert [(line.at, line.text, line.stream) for line in logs.lines_of(row)] == [
        (BEGAN + timedelta(seconds=at), text, "stdout") for at, text in enumerate(("one", "two", "three"))
    ]
    assert (row.lines, row.first_at, row.last_at) == (3, BEGAN, BEGAN + timedelta(seconds=2))
    assert (row.exit_code, row.oom, row.why, row.reason["message"]) == (3, False, "crashed", "exit code 3")
    assert row.file == "lab/iris/blue/abc-r1-0-20260301T100000000000.log.gz"
    assert row.size_bytes == (logs.folder() / row.file).stat().st_size
    assert (logs.folder() / row.file).stat().st_mode & 0o777 == 0o600


def test_hostile_text_stays_one_line_each():
    row = logs.keep(life(), Source(*HOSTILE).read)
    kept = texts(row)
    assert len(kept) == len(HOSTILE)
    assert kept[3] == "two lines"
    assert kept[5] == "lone ? surrogate"
    assert kept[6] == "x" * 20_000


def test_keeping_twice_keeps_once():
    first = logs.keep(life(), Source("one").read)
    again = logs.keep(life(), Source("one", "never read").read)
    assert (again.pk, texts(again), len(files())) == (first.pk, ["one"], 1)


def test_the_next_life_begins_where_the_last_was_kept():
    source = Source("first life", "ends")
    logs.keep(life(), source.read)
    source.lines += [logs.Line(BEGAN + timedelta(hours=1), "second life")]
    second = logs.keep(life(started_at=BEGAN + timedelta(minutes=50)), source.read)
    assert texts(second) == ["second life"]
    assert ReplicaLog.objects.count() == 2
    other = logs.keep(life(workspace="other", started_at=BEGAN + timedelta(minutes=51)), source.read)
    assert other.lines == 3  # another workspace's mark is not ours


@pytest.mark.parametrize("at", ["read", "fsync", "replace", "row"])
def test_killed_anywhere_and_run_again_there_is_one_whole_log(at, monkeypatch):
    source = Source("one", "two", "three")
    calls = []

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    def read(after):
        calls.append(after)
        if at == "read" and len(calls) == 2:
            die()
        return source.read(after)

    with monkeypatch.context() as patch:
        if at == "fsync":
            patch.setattr(os, "fsync", die)
        if at == "replace":
            patch.setattr("pathlib.Path.replace", die)
        if at == "row":
            patch.setattr(ReplicaLog.objects, "get_or_create", die)
        with pytest.raises(KeyboardInterrupt):
            logs.keep(life(), read)
    assert ReplicaLog.objects.count() == 0
    row = logs.keep(life(), source.read)
    assert texts(row) == ["one", "two", "three"]
    assert files() == ["abc-r1-0-20260301T100000000000.log.gz"]


def test_a_silent_replica_has_an_end_and_no_file():
    row = logs.keep(life(oom=True, exit_code=-9), Source().read)
    assert (row.file, row.lines, row.oom, texts(row), files()) == ("", 0, True, [], [])


def test_a_lost_or_broken_file_reads_as_nothing():
    row = logs.keep(life(), Source("one", "two").read)
    path = logs.folder() / row.file
    path.write_bytes(path.read_bytes()[:20])
    assert texts(row) == []
    path.unlink()
    assert texts(row) == []


def aged(days, **values):
    now = timezone.now()
    return logs.keep(
        life(started_at=now - timedelta(days=days, hours=1), ended_at=now - timedelta(days=days), **values),
        Source("x").read,
    )


def test_what_is_too_old_goes_in_bounded_steps(settings, monkeypatch):
    settings.LOG_DAYS = 14
    monkeypatch.setattr(logs, "SWEEP_STEP", 2)
    monkeypatch.setattr(logs, "SWEEP_S", 0.0)
    kept = aged(13, replica="new")
    for number in range(3):
        aged(20 + number, replica=f"old{number}")
    assert [logs.sweep(), logs.sweep(), logs.sweep()] == [2, 1, 0]
    assert list(ReplicaLog.objects.values_list("pk", flat=True)) == [kept.pk]
    assert files() == [kept.file.rsplit("/", 1)[1]]


def test_what_is_too_much_goes_oldest_first(settings):
    rows = [aged(day, replica=f"r{day}") for day in (5, 3, 1)]
    settings.LOG_BYTES = 2 * (rows[0].size_bytes + logs.SMALLEST_BYTES)
    assert logs.sweep() == 1
    assert {row.replica for row in ReplicaLog.objects.all()} == {"r3", "r1"}
    assert logs.sweep() == 0


def test_a_sweep_killed_between_file_and_row_goes_on():
    row = aged(30)
    (logs.folder() / row.file).unlink()
    assert (logs.sweep(), ReplicaLog.objects.count()) == (1, 0)


def test_strays_of_an_interrupted_keep_go_after_a_while():
    row = logs.keep(life(), Source("one").read)
    stray = logs.folder() / "lab" / "gone" / "blue" / "dead-r1-0-x.log.gz"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(gzip.compress(b"half"))
    assert logs.sweep_strays() == 0  # it may be on its way
    for path in (stray, logs.folder() / row.file):
        os.utime(path, (1, 1))
    assert logs.sweep_strays() == 1
    assert files() == [row.file.rsplit("/", 1)[1]]
    assert not stray.parent.parent.exists()


def test_of_a_broken_file_what_can_be_read_is_read():
    row = logs.keep(life(), Source(*HOSTILE, at_once=2).read)
    path = logs.folder() / row.file
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(b"no stamp\n\n" + text + b"2026-13-99 o x\n"))
    assert len(texts(row)) == len(HOSTILE)
    data = bytearray(gzip.compress(text + os.urandom(200_000)))
    data[5_000:9_000] = bytes(4_000)
    path.write_bytes(data)
    assert len(texts(row)) <= len(HOSTILE)


def test_a_flood_of_logs_is_forgotten_in_one_go():
    old = timezone.now() - timedelta(days=400)
    one = {"workspace": "lab", "endpoint": "iris", "deployment": "blue", "revision": 1, "index": 0, "why": "crashed"}
    ReplicaLog.objects.bulk_create(
        [ReplicaLog(**one, replica=f"r{n}", started_at=old, ended_at=old) for n in range(3 * logs.SWEEP_STEP + 1)]
    )
    assert logs.sweep() == 3 * logs.SWEEP_STEP + 1
    assert logs.sweep() == 0

"""The log of requests: no line is lost over rotations and kills, and a request is found in all that is kept."""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from apps.gateway import accesslog
from tests.gateway.client import call
from tests.gateway.upstream import wait_for
from tests.gateway.world import KEY

NOW = datetime.fromtimestamp(int(time.time()) - 600, UTC)
BOUNDS = {"most_bytes": 10**9, "most_s": 30.0, "most": 20}


@pytest.fixture
def current(tmp_path, monkeypatch):
    monkeypatch.setattr(accesslog, "ROTATE_BYTES", 1000)
    monkeypatch.setattr(accesslog, "QUIET_S", 0.0)
    return tmp_path / "access.jsonl"


def line(number, **values):
    stamp = (NOW + timedelta(seconds=number)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    given = {"ts": stamp, "request_id": f"id-{number}", "client_request_id": None, "workspace": "lab", "pad": "x" * 60}
    return json.dumps(given | values) + "\n"


def write(path, *numbers, **values):
    with path.open("a") as file:
        file.writelines(line(number, **values) for number in numbers)


def tend(current, *, days=14, most_bytes=10**9, now=None, envoy=True):
    asked = []

    def reopen():
        asked.append(True)
        if envoy:
            current.touch()

    late = now or datetime.fromtimestamp(time.time() + 60, UTC)
    accesslog.tend(current, reopen, most_bytes=most_bytes, most_days=days, now=late)
    return len(asked)


def numbers(current):
    """The number of every line in every file that counts, sorted."""
    found = []
    for path in [current, *accesslog.rotated(current)]:
        if path.exists():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += [int(json.loads(each)["request_id"][3:]) for each in data.splitlines()]
    return sorted(found)


def names(current):
    return sorted(path.suffix for path in current.parent.iterdir())


def find(current, request_id, wanted=lambda _line: True, **bounds):
    return accesslog.search(current, request_id, wanted, **(BOUNDS | bounds))


def test_a_large_file_is_rotated_then_compressed(current):
    write(current, *range(3))
    assert (tend(current), names(current)) == (0, [".jsonl"])
    write(current, *range(3, 20))
    assert (tend(current), names(current)) == (1, [".jsonl", ".jsonl"])
    assert (tend(current), names(current)) == (0, [".gz", ".jsonl"])
    write(current, 20)
    assert numbers(current) == list(range(21))
    assert accesslog.rotated(current)[0].stat().st_mode & 0o777 == 0o600


def test_an_old_file_is_rotated_though_it_is_small(current):
    write(current, 1)
    assert tend(current, now=NOW + timedelta(hours=2)) == 0
    assert tend(current, now=NOW + timedelta(days=2)) == 1


def test_killed_after_the_rename_the_gateway_is_asked_again(current):
    write(current, *range(20))
    with pytest.raises(KeyboardInterrupt):
        accesslog.tend(current, _die, most_bytes=10**9, most_days=14, now=NOW)
    [moved] = accesslog.rotated(current)
    write(moved, 20)  # Envoy goes on in the renamed file
    assert tend(current, envoy=False) == 1  # it is not heard at once
    write(moved, 21)
    assert tend(current) == 1
    assert names(current) == [".jsonl", ".jsonl"]
    tend(current)
    assert names(current) == [".gz", ".jsonl"]
    assert numbers(current) == list(range(22))


def _die(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("at", ["fsync", "replace", "unlink"])
def test_killed_while_compressing_no_line_is_lost_or_doubled(at, current, monkeypatch):
    write(current, *range(20))
    tend(current)
    with monkeypatch.context() as patch:
        target = "os.fsync" if at == "fsync" else f"pathlib.Path.{at}"
        patch.setattr(target, _die)
        with pytest.raises(KeyboardInterrupt):
            tend(current)
    assert numbers(current) == list(range(20))
    assert len(find(current, "id-7").found) == 1
    tend(current)
    assert [path.suffix for path in accesslog.rotated(current)] == [".gz"]
    assert numbers(current) == list(range(20))


def test_lines_that_come_while_it_is_compressed_are_kept(current, monkeypatch):
    write(current, *range(20))
    tend(current)
    [moved] = accesslog.rotated(current)
    real = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (write(moved, 20), real(fd)))
        tend(current)
    assert moved.exists()
    tend(current)
    assert not moved.exists()
    assert numbers(current) == list(range(21))


def test_what_was_written_to_just_now_is_left_alone(current, monkeypatch):
    monkeypatch.setattr(accesslog, "QUIET_S", 15.0)
    write(current, *range(20))
    soon = datetime.fromtimestamp(time.time(), UTC)
    tend(current, now=soon)
    tend(current, now=soon + timedelta(seconds=5))
    assert names(current) == [".jsonl", ".jsonl"]
    tend(current, now=soon + timedelta(seconds=20))
    assert names(current) == [".gz", ".jsonl"]


def test_the_oldest_are_forgotten_by_size_and_by_age(current):
    for turn in range(3):
        write(current, *range(turn * 20, turn * 20 + 20))
        tend(current)
        tend(current)
    files = accesslog.rotated(current)
    assert len(files) == 3
    tend(current, most_bytes=files[0].stat().st_size + files[1].stat().st_size)
    assert numbers(current) == list(range(20, 60))
    os.utime(files[1], (1, 1))
    tend(current)
    assert numbers(current) == list(range(40, 60))


def test_a_request_is_found_in_every_kind_of_file(current):
    write(current, *range(20))
    tend(current)
    tend(current)
    write(current, *range(20, 40))
    tend(current)
    write(current, *range(40, 45))
    for number in (3, 25, 44):
        result = find(current, f"id-{number}")
        assert [each["request_id"] for each in result.found] == [f"id-{number}"]
        assert result.complete
    missed = find(current, "id-99")
    assert (missed.found, missed.complete, missed.since) == ([], True, NOW)
    assert missed.bytes == 45 * len(line(10)) - 10


def test_blocks_are_cut_at_lines(current, monkeypatch):
    monkeypatch.setattr(accesslog, "BLOCK", 97)
    write(current, *range(30))
    assert all(len(find(current, f"id-{number}").found) == 1 for number in range(30))
    current.rename(current.with_name("access-1.jsonl"))
    tend(current)
    tend(current)
    assert names(current) == [".gz", ".jsonl"]
    assert all(len(find(current, f"id-{number}").found) == 1 for number in range(30))


def test_a_callers_own_id_may_come_often_newest_first(current):
    write(current, *range(9), client_request_id="mine")
    found = find(current, "mine", most=4).found
    assert [each["request_id"] for each in found] == ["id-8", "id-7", "id-6", "id-5"]


def test_only_what_is_wanted_and_only_as_an_id(current):
    write(current, 1, workspace="other")
    write(current, 2, user_agent="id-1")
    assert find(current, "id-1", lambda each: each["workspace"] == "lab").found == []
    assert find(current, "lab").found == []


def test_a_bounded_search_says_how_far_back_it_looked(current, monkeypatch):
    monkeypatch.setattr(accesslog, "BLOCK", 2000)
    write(current, *range(100))
    result = find(current, "id-0", most_bytes=4000)
    assert (result.found, result.complete) == ([], False)
    assert NOW + timedelta(seconds=60) < result.since < NOW + timedelta(seconds=90)
    assert not find(current, "id-0", most_s=0.0).complete


def test_broken_lines_are_passed_over(current):
    current.write_bytes(
        b'{"ts": "2026\n\xff\xfe"id-1"\n[]\n"id-1"\n' + line(1).encode() + b'{"ts": "x", "request_id": "id-2"}\n{"ts'
    )
    assert [each["request_id"] for each in find(current, "id-1").found] == ["id-1"]
    assert find(current, "id-2").since is None


def test_lines_that_cannot_be_judged_do_not_count_as_searched(current, monkeypatch):
    monkeypatch.setattr(accesslog, "BLOCK", 2000)
    old = [json.loads(line(number)) for number in range(50)]
    current.write_text("".join(json.dumps({k: v for k, v in each.items() if k != "workspace"}) + "\n" for each in old))
    write(current, *range(50, 100))
    result = find(current, "id-1", lambda each: each.get("workspace") == "lab", needs="workspace")
    assert (result.found, result.complete, result.unsearchable) == ([], True, True)
    assert NOW + timedelta(seconds=49) < result.since < NOW + timedelta(seconds=80)
    assert len(find(current, "id-99", needs="workspace").found) == 1


def test_a_broken_compressed_file_stops_no_search(current):
    current.touch()
    lines = "".join(line(number, pad=str(uuid.uuid4())) for number in range(20_000))
    data = bytearray(gzip.compress(lines.encode()))
    data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    current.with_name("access-2.jsonl.gz").write_bytes(data)
    current.with_name("access-1.jsonl.gz").write_bytes(gzip.compress(line(-5).encode()))
    assert len(find(current, "id--5").found) == 1
    assert find(current, "nobody").complete


def test_a_large_compressed_file_is_searched_in_little_memory_and_within_its_time(current, monkeypatch):
    monkeypatch.setattr(accesslog, "BLOCK", 2**18)
    current.touch()
    filler = "".join(line(number, client_request_id="mine", pad="x" * 500) for number in range(2000)).encode()
    with gzip.open(current.with_name("access-1.jsonl.gz"), "wb", 1) as file:
        for _ in range(40):
            file.write(filler)
    tracemalloc.start()
    result = find(current, "mine", most=4)
    missed = find(current, "id-x", most_bytes=5 * 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [each["request_id"] for each in result.found] == [f"id-{number}" for number in range(1999, 1995, -1)]
    assert (missed.complete, missed.since, missed.bytes < 7 * 2**20) == (False, None, True)
    assert peak < 10 * 2**20 < 40 * len(filler) / 2


def test_a_full_disk_stops_no_forgetting_and_one_file_no_other(current, monkeypatch):
    current.touch()
    old, first, second = (current.with_name(f"access-{name}") for name in ("0.jsonl.gz", "1.jsonl", "2.jsonl"))
    for path, size in ((old, 1000), (first, 800), (second, 800)):
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - 86_400,) * 2)
    tried, real = [], os.fsync

    def full(fd):
        tried.append(fd)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    tend(current, most_bytes=900)
    assert sorted(path.name for path in current.parent.iterdir()) == [
        "access-1.jsonl",
        "access-2.jsonl.gz",
        "access.jsonl",
    ]
    monkeypatch.setattr(os, "fsync", _full)
    second.write_bytes(b"x" * 800)
    os.utime(second, (time.time() - 86_400,) * 2)
    current.with_name("access-2.jsonl.gz").unlink()
    tend(current, most_bytes=900)
    assert sorted(path.name for path in current.parent.iterdir()) == ["access-2.jsonl", "access.jsonl"]


def _full(*_args):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.envoy
def test_real_envoy_loses_no_line_over_rotations(world, monkeypatch):
    monkeypatch.setattr(accesslog, "ROTATE_BYTES", 1)
    monkeypatch.setattr(accesslog, "QUIET_S", 0.3)
    log, sent = world.front.access_log, []
    for _ in range(6):
        sent += [call(world.port, "/e/main/score", key=KEY).headers["x-request-id"] for _ in range(5)]
        now = datetime.fromtimestamp(time.time() + 0.2, UTC)
        accesslog.tend(log, world.publisher.admin.reopen_logs, most_bytes=10**9, most_days=14, now=now)
        time.sleep(0.15)

    def all_found():
        return all(len(accesslog.search(log, each, lambda _line: True, **BOUNDS).found) == 1 for each in sent)

    wait_for(all_found)
    monkeypatch.setattr(accesslog, "ROTATE_BYTES", 10**9)

    def all_compressed():
        call(world.port, "/e/main/score", key=KEY)  # Envoy makes the new file with its next line
        now = datetime.fromtimestamp(time.time() + 0.5, UTC)
        accesslog.tend(log, world.publisher.admin.reopen_logs, most_bytes=10**9, most_days=14, now=now)
        return {path.suffix for path in accesslog.rotated(log)} == {".gz"}

    wait_for(all_compressed)
    assert len(accesslog.rotated(log)) > 1
    assert all_found()


@pytest.mark.slow
def test_a_gigabyte_is_searched_within_seconds(current):
    """Prints what it took; the bound is generous, for busy machines."""
    filler = "".join(line(number, request_id=str(uuid.uuid4()), pad="x" * 500) for number in range(20_000)).encode()
    with current.open("wb") as file:
        file.write(line(-1, request_id="first").encode())
        while file.tell() < 10**9:
            file.write(filler)
    result = find(current, "first", most_bytes=2 * 10**9)
    print(f"plain: {result.bytes / 1e6:.0f} MB in {result.seconds:.2f} s")
    assert len(result.found) == 1
    assert result.seconds < 10

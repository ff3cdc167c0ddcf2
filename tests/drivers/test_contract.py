"""What every driver must do, over the fake driver and over processes at every level of isolation."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.compute.drivers.base import Handle, LogLine, SpecError, State
from tests.drivers.conftest import request, until


def faulty(bench, name, mode, **labels):
    """The same misbehaviour from either driver."""
    return bench.start(name, *mode, labels={f"fake.{key}": value for key, value in labels.items()})


def test_unknown_is_gone_everywhere(bench):
    handle = Handle(bench.driver.name, "nobody")
    assert bench.state(handle) is State.GONE
    assert bench.driver.usage(handle) is None
    assert bench.driver.logs(handle) == []
    assert bench.driver.read(handle).lines == []
    assert bench.driver.mark(handle) == ""
    assert list(bench.driver.follow(handle, timeout_s=1)) == []
    bench.driver.stop(handle, grace_s=1)
    bench.driver.forget(handle)


def test_runs_and_answers(bench):
    handle = bench.start("r1")
    seen = bench.running(handle)
    assert request(seen.address) == (200, "Healthy")
    status, text = request(seen.address, method="POST", path="/score", body=json.dumps({"a": 1}))
    assert status == 200
    assert json.loads(text)["replica"] == "r1"
    assert json.loads(text)["echo"] == {"a": 1}
    assert seen.exit_code is None
    assert abs(seen.started_at.timestamp() - time.time()) < 30
    assert seen.isolation
    used = bench.driver.usage(handle)
    assert used.mem_bytes > 1_000_000
    assert used.cpu_seconds >= 0


def test_starting_until_it_listens(bench):
    handle = faulty(bench, "r1", ("late", "0.6"), start_delay="0.6")
    seen = bench.driver.observe(handle)
    assert (seen.state, seen.address) == (State.STARTING, None)
    assert bench.running(handle).address


def test_second_start_adopts(bench):
    spec = bench.spec("r1")
    first = bench.driver.start(spec)
    started = bench.running(first).started_at
    assert bench.driver.start(spec) == first
    assert bench.driver.observe(first).started_at == started


def test_start_replaces_the_dead(bench):
    handle = faulty(bench, "r1", ("exit", "3"), fail_on="exit")
    assert bench.exited(handle).exit_code == 3
    assert bench.start("r1") == handle
    seen = bench.running(handle)
    assert (seen.exit_code, seen.failure) == (None, None)


def test_concurrent_starters_make_one(bench):
    spec = bench.spec("r1")
    with ThreadPoolExecutor(6) as pool:
        handles = list(pool.map(lambda _: bench.driver.start(spec), range(6)))
    assert len({handle.name for handle in handles}) == 1
    seen = bench.running(handles[0])
    assert request(seen.address) == (200, "Healthy")
    assert len(bench.driver.list(owner="tests")) == 1


def test_stop_drains_what_is_in_flight(bench):
    handle = faulty(bench, "r1", ("serve",), score_delay="0.7")
    address = bench.running(handle).address
    answers = []
    client = threading.Thread(
        target=lambda: answers.append(request(address, method="POST", path="/score", body='{"sleep": 0.7}'))
    )
    client.start()
    time.sleep(0.3)
    bench.driver.stop(handle, grace_s=10)
    client.join(10)
    assert answers[0][0] == 200
    seen = bench.driver.observe(handle)
    assert (seen.state, seen.exit_code, seen.address) == (State.EXITED, 0, None)


def test_stop_kills_what_ignores_term(bench):
    handle = faulty(bench, "r1", ("stubborn",), fail_on="stop")
    bench.running(handle)
    began = time.monotonic()
    bench.driver.stop(handle, grace_s=0.5)
    assert 0.4 < time.monotonic() - began < 5
    assert bench.driver.observe(handle).exit_code == -9
    bench.driver.stop(handle, grace_s=5)


def test_exit_code_and_failure_report(bench):
    report = json.dumps({"code": "init_failed", "message": "init() raised an error.", "evidence": "RuntimeError: fake"})
    handle = faulty(bench, "r1", ("fail", report), fail_on="exit")
    seen = bench.exited(handle)
    assert (seen.exit_code, seen.oom, seen.address) == (3, False, None)
    assert (seen.failure.code, seen.failure.evidence) == ("init_failed", "RuntimeError: fake")
    assert bench.driver.usage(handle) is None


def test_logs_stay_until_forget(bench):
    handle = faulty(bench, "r1", ("fail", "{}"), fail_on="exit")
    bench.exited(handle)
    lines = bench.driver.logs(handle)
    assert lines
    assert all(isinstance(line, LogLine) for line in lines)
    assert "stderr" in {line.stream for line in lines}
    assert bench.driver.logs(handle, tail=1) == lines[-1:]
    bench.driver.forget(handle)
    assert bench.driver.logs(handle) == []
    assert bench.state(handle) is State.GONE


def everything(bench, handle, after="", **more):
    """All lines behind a mark, and the mark behind them."""
    found = []
    while (chunk := bench.driver.read(handle, after=after, **more)).lines:
        found += chunk.lines
        after = chunk.mark
    return found, after


def test_read_gives_every_line_once_and_goes_on_from_its_mark(bench):
    handle = bench.start("r1")
    bench.running(handle)
    until(lambda: "listening" in bench.text(handle))
    lines, mark = everything(bench, handle, most_bytes=1)
    assert lines == bench.driver.logs(handle, tail=10_000)
    assert bench.driver.read(handle, after=mark).lines == []
    assert everything(bench, handle, bench.driver.mark(handle, back=1)) == (lines[-1:], mark)
    assert bench.driver.read(handle, after=bench.driver.mark(handle)).lines == []
    assert everything(bench, handle, bench.driver.mark(handle, back=99_999)) == (lines, mark)
    bench.driver.stop(handle, grace_s=5)
    rest, _ = everything(bench, handle, mark)
    assert lines + rest == bench.driver.logs(handle, tail=10_000)
    assert rest


@pytest.mark.parametrize("mark", ["nonsense", "+", "2026-01-01T00:00:00.000000Z+12", "9" * 400, "-1", "²", "\0"])
def test_a_mark_that_is_no_longer_means_the_beginning(bench, mark):
    handle = faulty(bench, "r1", ("fail", "{}"), fail_on="exit")
    bench.exited(handle)
    assert everything(bench, handle, mark)[0] == bench.driver.logs(handle, tail=10_000) != []


def test_the_log_goes_on_after_a_restart_until_forget(bench):
    handle = faulty(bench, "r1", ("fail", "{}"), fail_on="exit")
    assert bench.exited(handle).ended_at is not None
    before, mark = everything(bench, handle)
    bench.start("r1")
    assert bench.running(handle).ended_at is None
    until(lambda: "listening" in bench.text(handle))
    assert bench.driver.logs(handle, tail=10_000)[: len(before)] == before
    assert everything(bench, handle, mark)[0] == bench.driver.logs(handle, tail=10_000)[len(before) :] != []
    bench.driver.forget(handle)
    assert bench.driver.read(handle, after=mark).lines == []
    assert bench.driver.mark(handle) == ""
    bench.start("r1")
    until(lambda: "listening" in bench.text(handle))
    assert everything(bench, handle, mark)[0] == bench.driver.logs(handle, tail=10_000)


def test_follow_gives_new_lines_and_ends_with_the_replica(bench):
    handle = bench.start("r1")
    bench.running(handle)
    until(lambda: "listening" in bench.text(handle))
    stream = bench.driver.follow(handle, timeout_s=20)
    threading.Timer(0.3, lambda: bench.driver.stop(handle, grace_s=5)).start()
    began = time.monotonic()
    lines = list(stream)
    assert time.monotonic() - began < 10
    assert lines
    assert "listening" not in [line.text for line in lines]


def test_follow_ends_with_its_time(bench):
    handle = bench.start("r1")
    bench.running(handle)
    until(lambda: "listening" in bench.text(handle))
    began = time.monotonic()
    assert list(bench.driver.follow(handle, timeout_s=0.4)) == []
    assert 0.3 < time.monotonic() - began < 3


def test_list_by_owner_has_living_and_dead(bench):
    living = bench.start("r1")
    dead = faulty(bench, "r2", ("exit", "3"), fail_on="exit")
    other = bench.start("r3", owner="others")
    bench.exited(dead)
    assert bench.driver.list(owner="tests") == [living, dead]
    assert bench.driver.list(owner="others") == [other]
    bench.driver.forget(living)
    assert bench.driver.list(owner="tests") == [dead]


def test_forget_ends_the_living(bench):
    handle = bench.start("r1")
    address = bench.running(handle).address
    bench.driver.forget(handle)
    assert bench.state(handle) is State.GONE
    with pytest.raises(OSError):
        request(address)


def test_a_spec_that_can_never_run_is_refused(bench):
    with pytest.raises(SpecError):
        bench.driver.start(bench.spec("r1", labels={"fake.fail_on": "validate"}, mem=1 << 60))
    assert bench.state(Handle(bench.driver.name, "r1")) is State.GONE

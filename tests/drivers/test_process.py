"""The process driver over real processes: life, death and every way to be killed in between."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps.compute.drivers import cgroups, isolation
from apps.compute.drivers.base import DriverUnavailable, Handle, ImageError, Mount, SpecError, State
from apps.compute.drivers.files import is_socket
from apps.compute.drivers.process import ProcessDriver
from tests.drivers.conftest import MIB, Bench, process_bench, request, until


def nothing_left(bench, name):
    until(lambda: not bench.processes(name), seconds=5)
    for path in bench.shim(name)["cgroups"]:
        assert not Path(path).exists()


def test_whole_tree_dies_on_stop(processes):
    handle = processes.start("r1", "family")
    processes.running(handle)
    until(lambda: len(processes.processes("r1")) >= 8)
    processes.driver.stop(handle, grace_s=5)
    assert processes.driver.observe(handle).exit_code == 0
    assert processes.processes("r1") == []
    nothing_left(processes, "r1")


def test_whole_tree_dies_when_the_server_crashes(processes):
    handle = processes.start("r1", "family")
    processes.running(handle)
    os.kill(processes.shim("r1")["inner"][0], signal.SIGSEGV)
    assert processes.exited(handle).exit_code == -signal.SIGSEGV
    nothing_left(processes, "r1")


def test_killed_shim_takes_all_with_it(processes):
    handle = processes.start("r1", "family")
    processes.running(handle)
    until(lambda: len(processes.processes("r1")) >= 8)
    os.kill(processes.shim("r1")["pid"], signal.SIGKILL)
    seen = processes.exited(handle)
    until(lambda: processes.processes("r1") == [], seconds=5)
    assert (seen.failure.code, seen.exit_code, seen.address) == ("shim_lost", -9, None)
    processes.driver.stop(handle, grace_s=1)
    nothing_left(processes, "r1")
    assert not Path(processes.shim("r1")["socket"]).exists()


def test_killed_shim_is_replaced(processes):
    handle = processes.start("r1")
    processes.running(handle)
    os.kill(processes.shim("r1")["pid"], signal.SIGKILL)
    processes.exited(handle)
    processes.start("r1")
    assert request(processes.running(handle).address) == (200, "Healthy")


def test_killed_middle_process_ends_the_replica(processes):
    """bwrap, or the guard that stands in for it."""
    handle = processes.start("r1", "family")
    processes.running(handle)
    os.kill(processes.shim("r1")["child"][0], signal.SIGKILL)
    assert processes.exited(handle).exit_code == -9
    nothing_left(processes, "r1")


STARTER = """
import os, pickle, sys, time
from pathlib import Path
from apps.compute.drivers.process import ProcessDriver
state, run, level, spec = pickle.load(sys.stdin.buffer)
ProcessDriver(Path(state), Path(run), level=level).start(spec)
print("started", flush=True)
time.sleep(100)
"""


STOPPER = """
import sys
from pathlib import Path
from apps.compute.drivers.base import Handle
from apps.compute.drivers.process import ProcessDriver
ProcessDriver(Path(sys.argv[1]), Path(sys.argv[2])).stop(Handle("process", "r1"), grace_s=60)
"""


def start_from_another(bench, spec, level):
    import pickle

    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    starter.stdin.write(pickle.dumps((str(bench.base / "state"), str(bench.base / "run"), level, spec)))
    starter.stdin.close()
    return starter


def test_lives_on_when_its_starter_is_killed(processes):
    level = str(processes.driver.level)
    starter = start_from_another(processes, processes.spec("r1"), level)
    assert starter.stdout.readline() == b"started\n"
    starter.kill()
    starter.wait(10)
    starter.stdout.close()
    adopter = Bench(ProcessDriver(processes.base / "state", processes.base / "run", level=level), processes.base, "")
    handle = Handle("process", "r1")
    seen = adopter.running(handle)
    assert request(seen.address) == (200, "Healthy")
    assert adopter.driver.start(processes.spec("r1")) == handle
    assert adopter.driver.observe(handle).started_at == seen.started_at
    assert adopter.driver.list(owner="tests") == [handle]
    adopter.driver.stop(handle, grace_s=5)
    assert adopter.driver.observe(handle).exit_code == 0


def test_two_starting_processes_make_one(processes):
    spec = processes.spec("r1")
    starters = [start_from_another(processes, spec, str(processes.driver.level)) for _ in range(3)]
    try:
        assert [starter.stdout.readline() for starter in starters] == [b"started\n"] * 3
        processes.running(Handle("process", "r1"))
        mains = [pid for pid in processes.processes("r1") if b"shim.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert processes.shim("r1")["pid"] in mains
        assert len([pid for pid in mains if os.getsid(pid) == pid and _parent(pid) not in mains]) == 1
    finally:
        for starter in starters:
            starter.kill()
            starter.wait(10)
            starter.stdout.close()


def _parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_recycled_pid_is_not_mistaken(best):
    handle = best.start("r1")
    best.running(handle)
    best.driver.stop(handle, grace_s=5)
    other = subprocess.Popen(["/bin/sleep", "100"])
    try:
        record = best.shim("r1")
        record |= {"pid": other.pid, "child": [other.pid, 1], "inner": [other.pid, 1]}
        (best.base / "state" / "r1" / "shim.json").write_text(json.dumps(record))
        (best.base / "state" / "r1" / "exit.json").unlink()
        assert best.state(handle) is State.EXITED
        best.driver.stop(handle, grace_s=1)
        best.driver.forget(handle)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)


def test_before_a_restart_of_the_machine(best):
    handle = best.start("r1")
    best.running(handle)
    path = best.base / "state" / "r1" / "shim.json"
    true_record = path.read_text()
    path.write_text(json.dumps(json.loads(true_record) | {"boot_id": "another"}))
    assert best.driver.observe(handle).failure.code == "machine_restarted"
    path.write_text(true_record)
    assert best.state(handle) is State.RUNNING


def test_interrupted_start_is_told(best):
    folder = best.base / "state" / "r1"
    best.names.append("r1")
    folder.mkdir()
    (folder / "spec.json").write_text("{}")
    handle = Handle("process", "r1")
    assert best.state(handle) is State.STARTING
    os.utime(folder / "spec.json", (time.time() - 100, time.time() - 100))
    assert best.driver.observe(handle).failure.code == "start_interrupted"
    best.start("r1")
    best.running(handle)


@pytest.mark.parametrize(("mode", "code"), [(("exit", "0"), 0), (("exit", "7"), 7), (("signal", "11"), -11)])
def test_exit_codes(processes, mode, code):
    assert processes.exited(processes.start("r1", *mode)).exit_code == code


def test_stop_before_it_listens(processes):
    handle = processes.start("r1", "late", "100")
    processes.driver.stop(handle, grace_s=5)
    assert processes.driver.observe(handle).exit_code == -15


def test_shorter_second_stop_wins(best):
    handle = best.start("r1", "stubborn")
    best.running(handle)
    arguments = [str(best.base / "state"), str(best.base / "run")]
    first = subprocess.Popen([sys.executable, "-c", STOPPER, *arguments])
    until((best.base / "state" / "r1" / "stop.json").exists)
    began = time.monotonic()
    best.driver.stop(handle, grace_s=0.2)
    assert time.monotonic() - began < 5
    assert first.wait(10) == 0


def test_log_is_bounded_and_its_end_is_kept(best):
    handle = best.start("r1", "shout", "12000")
    best.exited(handle, seconds=30)
    sizes = [path.stat().st_size for path in (best.base / "state" / "r1").glob("log*")]
    assert len(sizes) == 2
    assert sum(sizes) <= 8 * MIB
    lines = best.driver.logs(handle, tail=5000)
    assert len(lines) == 5000
    assert lines[-1].text.startswith("line 11999 ")
    assert lines[0].text.startswith("line 7000 ")


def test_odd_text_is_cleaned_and_cut(best):
    handle = best.start("r1", "odd")
    best.exited(handle)
    lines = [line.text for line in best.driver.logs(handle)]
    assert lines[0] == "ab"
    assert sum(len(line) for line in lines if set(line) == {"y"}) == 100_000
    assert max(map(len, lines)) <= 16 * 1024
    assert lines[-2:] == ["\ufffd\ufffd", "unfinished"]


def test_follow_goes_on_over_a_rotation(best):
    handle = best.start("r1", "late", "0.3")
    stream = best.driver.follow(handle, timeout_s=20)
    log = best.base / "state" / "r1" / "log"
    best.running(handle)
    first = next(stream)
    assert first.text == "listening"
    log.replace(log.with_name("log.1"))
    log.write_text("2026-01-01T00:00:00.000000Z o after the rotation\n")
    assert next(stream).text == "after the rotation"
    stream.close()


def test_hostile_links_are_not_followed(processes):
    secret = processes.base / "secret.json"
    secret.write_text('{"code": "leaked", "message": "secret"}')
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(processes.base / "private.sock"))
        handle = processes.start("r1", "link", str(processes.base / "private.sock"), str(secret))
        until(lambda: os.path.lexists(processes.base / "run" / "r1" / "s" / "failure.json"))
        time.sleep(0.3)
        assert processes.driver.observe(handle).address is None
        processes.driver.stop(handle, grace_s=0)
        assert processes.driver.observe(handle).failure is None


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ('{"code": "c", "message": "' + "m" * 9000 + '"}', ("c", "m" * 2000, "")),
        ('{"code": ["x"], "message": "a\\u0000b\\ud800"}', ('["x"]', "ab?", "")),
        ("not json", ("unreadable", "The replica left a failure report that is no JSON.", "not json")),
        ("[" * 50_000, ("unreadable", "The replica left a failure report that is no JSON.", "[" * 16_000)),
    ],
)
def test_failure_report_is_a_strangers_text(best, report, expected):
    handle = best.start("r1", "fail", "{}")
    best.exited(handle)
    (best.base / "run" / "r1" / "s" / "failure.json").write_text(report)
    failure = best.driver.observe(handle).failure
    assert (failure.code, failure.message, failure.evidence) == expected


def test_huge_failure_report_is_not_read_whole(best):
    handle = best.start("r1", "fail", "{}")
    best.exited(handle)
    (best.base / "run" / "r1" / "s" / "failure.json").write_text("z" * 5_000_000)
    assert len(best.driver.observe(handle).failure.evidence) == 16_000


def test_recreated_socket_is_followed(best):
    handle = best.start("r1")
    address = best.running(handle).address.removeprefix("unix:")
    before = os.lstat(address).st_ino
    with socket.socket(socket.AF_UNIX) as new:
        inner = best.base / "run" / "r1" / "s" / "m.sock"
        inner.unlink()
        new.bind(str(inner))
        until(lambda: is_socket(address) and os.lstat(address).st_ino != before, seconds=5)


def test_missing_program(processes):
    spec = processes.spec("r1")
    from dataclasses import replace

    with pytest.raises(ImageError, match="missing"):
        processes.driver.start(replace(spec, argv=("/nowhere/python", "x")))
    with pytest.raises(ImageError, match="missing"):
        processes.driver.start(replace(spec, argv=("/usr", "x")))


def test_program_outside_the_mounts_is_told(best):
    from dataclasses import replace

    program = best.base / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    if best.driver.isolation.sandboxed:
        with pytest.raises(ImageError, match="none of the replica's mounts"):
            best.driver.start(replace(best.spec("r1"), argv=(str(program),)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "../up"}, "no replica name"),
        ({"name": "x" * 64}, "no replica name"),
        ({"argv": ()}, "absolute path"),
        ({"argv": ("python",)}, "absolute path"),
        ({"argv": ("/bin/echo", "a\0b")}, "NUL"),
        ({"env": {"A=B": "x"}}, "no name for an environment variable"),
        ({"mounts": (Mount("/nowhere", "/m"),)}, "does not exist"),
        ({"mounts": (Mount("/usr", "m"),)}, "plain path"),
        ({"mounts": (Mount("/usr", "/a/../proc"),)}, "plain path"),
        ({"mounts": (Mount("/usr", "/proc/self"),)}, "covers a folder of the system"),
        ({"mounts": (Mount("/usr", "/run"),)}, "covers a folder of the system"),
        ({"mounts": (Mount("/usr", "/m"), Mount("/bin", "/m"))}, "same target"),
    ],
)
def test_wrong_specs(best, change, text):
    from dataclasses import replace

    with pytest.raises(SpecError, match=text):
        best.driver.validate(replace(best.spec("r1"), **change))


def test_too_long_socket_path(best):
    driver = ProcessDriver(best.base / "state", best.base / ("long" * 20))
    with pytest.raises(SpecError, match="choose a shorter run folder"):
        driver.validate(best.spec("r1"))


def test_required_level_is_enforced(base):
    bench = process_bench(base, "rlimits", require="bwrap")
    with pytest.raises(DriverUnavailable, match="“bwrap” is required and this machine gives “rlimits”"):
        bench.start("r1")
    assert bench.driver.describe()["required"] == "bwrap"
    assert bench.state(Handle("process", "r1")) is State.GONE


def test_without_bwrap_it_says_what_to_install(base, monkeypatch):
    monkeypatch.setenv("PATH", str(base))
    isolation.probe.cache_clear()
    try:
        with pytest.raises(DriverUnavailable, match="apt-get install bubblewrap"):
            Bench(ProcessDriver(base / "state", base / "run", require="bwrap"), base, sys.executable).start("r1")
    finally:
        isolation.probe.cache_clear()


def test_usage_grows(processes):
    handle = processes.start("r1", "busy", "1.5")
    until(lambda: (used := processes.driver.usage(handle)) and used.cpu_seconds > 0.3)
    used = processes.driver.usage(handle)
    assert 2 * MIB < used.mem_bytes < 100 * MIB
    processes.exited(handle)
    record = json.loads((processes.base / "state" / "r1" / "exit.json").read_text())
    assert 0.3 < record["usage"]["cpu_seconds"] < 5
    assert record["usage"]["peak_bytes"] > 2 * MIB
    assert record["ended"] > record["started"]


def test_idle_shim_sleeps(processes):
    """Once a closed pipe in its select() made every shim use a third of a core."""
    handle = processes.start("r1")
    processes.running(handle)
    watched = [processes.shim("r1")["pid"], processes.shim("r1")["child"][0]]
    time.sleep(0.3)
    before = sum(map(_processor_ticks, watched))
    time.sleep(1.5)
    assert sum(map(_processor_ticks, watched)) - before <= 2


def _processor_ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_nothing_stays_on_disk(processes):
    handle = processes.start("r1")
    processes.running(handle)
    record = processes.shim("r1")
    processes.driver.forget(handle)
    state, run = processes.base / "state", processes.base / "run"
    assert [path.name for path in state.iterdir() if not path.name.startswith(".")] == []
    assert list(run.iterdir()) == []
    for path in record["cgroups"]:
        assert not Path(path).parent.exists()


def test_no_zombie_and_no_open_file_in_the_starter(best):
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before, had = len(list(Path("/proc/self/fd").iterdir())), children.read_text()
    for number in range(3):
        handle = best.start(f"r{number}", "exit", "0")
        best.exited(handle)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert set(children.read_text().split()) <= set(had.split())  # others' may end meanwhile


def test_cgroup_usage_reads_both_versions(tmp_path):
    (tmp_path / "cur").write_text("5000\n")
    (tmp_path / "stat").write_text("anon 1\ninactive_file 1000\n")
    (tmp_path / "cpu").write_text("usage_usec 2500000\nuser_usec 1\n")
    files = {"mem": str(tmp_path / "cur"), "stat": str(tmp_path / "stat"), "cpu_stat": str(tmp_path / "cpu")}
    assert cgroups.usage(files) == cgroups.Usage(2.5, 4000)
    assert cgroups.usage({}) is None


def rotate(log, shim_log):
    os.close(shim_log.fd)
    log.replace(log.with_name("log.1"))
    shim_log.open()


def test_read_goes_on_over_rotations_and_says_what_is_left(tmp_path):
    """Marks survive one rotation; after two the oldest lines are gone, and reading begins with what there is."""
    from apps.compute.drivers.process import logs
    from runtime.shim import Log

    path = tmp_path / "log"
    writer = Log(str(path))

    def say(*words):
        for word in words:
            time.sleep(0.002)
            writer.feed("o", word.encode() + b"\n")

    def words(after=""):
        found = []
        while (chunk := logs.read(path, after, 1)).lines:
            found += [line.text for line in chunk.lines]
            after = chunk.mark
        return found, after

    say("one", "two")
    assert words()[0] == ["one", "two"]
    early = words()[1]
    say("three")
    late = logs.mark(path, 1)
    rotate(path, writer)
    assert words(early)[0] == ["three"]
    say("four", "five")
    assert words(early)[0] == words(late)[0] == ["three", "four", "five"]
    assert [words(logs.mark(path, back))[0] for back in (0, 2, 3, 9)] == [
        [],
        ["four", "five"],
        ["three", "four", "five"],
        ["one", "two", "three", "four", "five"],
    ]
    rotate(path, writer)
    say("six")
    assert words(early)[0] == words()[0] == ["four", "five", "six"]
    with path.open("ab") as half:
        half.write(b"2026-01-01T00:00:00.000000Z o half a li")
    assert words(logs.mark(path, 1))[0] == ["six"]
    os.close(writer.fd)

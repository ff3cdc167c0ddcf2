"""The Docker driver against the real engine: what containers may not do, and what happens when things go wrong.

Isolation is proven with addresses of this machine only: containers, networks and listeners the tests make themselves.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest

from apps.compute.drivers.base import DriverUnavailable, Handle, ImageError, Mount, Network, SpecError, State
from apps.compute.drivers.docker import DockerDriver, networks, options, usage
from apps.compute.drivers.files import is_socket
from tests.drivers.conftest import APP, BASE_IMAGE, BASE_PYTHON, DOCKER_URL, MIB, MODEL, request, until

pytestmark = pytest.mark.docker
SAY = """
import socket, sys
host, port, text = sys.argv[1:]
with socket.create_connection((host, int(port)), timeout=3) as connection:
    connection.sendall(text.encode() + b"\\n")
    print(connection.makefile().readline().strip())
"""
LISTEN = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
while True:
    listener.accept()[0].close()
"""


@pytest.fixture
def engine():
    with contextlib.closing(docker.DockerClient(DOCKER_URL, timeout=30)) as client:
        yield client


def raw(containers, engine, handle):
    """The container itself."""
    return engine.containers.get(options.container_name(containers.driver.installation, handle.name))


def ours(containers, engine):
    return engine.containers.list(all=True, filters={"label": f"portway.installation={containers.driver.installation}"})


def say(address, text=""):
    """What a server of the mode `tcp` answers; asked by a child, since the test itself may only talk to loopback."""
    host, _, port = address.rpartition(":")
    command = [sys.executable, "-c", SAY, host, port, text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


# -- what a container may not do


def test_proof_from_inside(containers):
    (containers.base / "model").mkdir()
    model = Mount(str(containers.base / "model"), MODEL)
    writes = ("/new", "/usr/new", "/etc/passwd", "/run/new", "/dev/shm/new", "/tmp/new", "/var/tmp/new")
    handle = containers.start("r1", "look", MODEL, "9", *writes, mounts=(model,), env={"SECRET": "told"})
    found = containers.found(handle)
    status = dict(line.split(":\t", 1) for line in found["status"].splitlines() if ":\t" in line)
    assert found["uid"] == 10001
    assert {status[key] for key in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    allowed = {path for path, what in found["write"].items() if what == "written"}
    assert allowed == {"/tmp/new", "/dev/shm/new"}
    assert found["write"][f"{MODEL}/new"] == "OSError"  # read-only file system
    assert found["limits"] == {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 4096}
    assert found["interfaces"] == ["lo"]
    assert found["pids"] <= 3
    assert found["env"]["SECRET"] == "told"
    assert not {key for key in found["env"] if key.startswith(("PORTWAY", "DJANGO", "DATABASE"))}
    assert "uid 10001, read-only, no capabilities" in containers.driver.observe(handle).isolation


def test_processes_are_counted(containers):
    handle = containers.start("r1", "bomb", pids=40)
    containers.running(handle)
    made = int(until(lambda: containers.text(handle)).split("forked ")[1].split()[0])
    assert 0 < made < 40


def test_limits_reach_the_control_groups_and_can_be_changed_while_it_runs(containers, engine):
    handle = containers.start("r1", cpu=500, mem=128 * MIB)
    containers.running(handle)
    host = raw(containers, engine, handle).attrs["HostConfig"]
    assert (host["CpuQuota"], host["CpuPeriod"], host["NanoCpus"]) == (50_000, 100_000, 0)
    assert host["Memory"] == host["MemorySwap"] == 128 * MIB
    raw(containers, engine, handle).update(cpu_quota=80_000)
    assert raw(containers, engine, handle).attrs["HostConfig"]["CpuQuota"] == 80_000


def test_memory_that_runs_out_is_told(containers):
    handle = containers.start("r1", "eat", "500", mem=64 * MIB)
    seen = containers.exited(handle)
    assert (seen.oom, seen.exit_code) == (True, -9)
    containers.start("r1", "exit", "3")
    seen = containers.exited(handle)
    assert (seen.oom, seen.exit_code) == (False, 3)


@pytest.mark.parametrize("groups", [True, False])
def test_memory_that_runs_out_in_a_child_is_told_while_the_server_lives(containers, monkeypatch, groups):
    if not groups:  # as when the engine's control groups cannot be seen from here: its events tell
        monkeypatch.setattr(usage, "groups", lambda *_: {})
    handle = containers.start("r1", "hungry_child", mem=64 * MIB)
    seen = containers.running(handle)
    assert (seen.oom, seen.exit_code) == (True, None)


@pytest.mark.parametrize(
    ("mode", "code"),
    [(("exit", "3"), 3), (("exit", "0"), 0), (("signal", "9"), -9), (("signal", "15"), -15), (("exit", "200"), 200)],
)
def test_exit_codes(containers, mode, code):
    seen = containers.exited(containers.start("r1", *mode))
    assert (seen.exit_code, seen.oom) == (code, False)


def test_hostile_links_are_not_followed(containers):
    secret = containers.base / "secret"
    secret.write_text('{"code": "stolen"}')
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(containers.base / "private.sock"))
        handle = containers.start("r1", "link", str(containers.base / "private.sock"), str(secret))
        inside = containers.base / "run" / "r1" / "s"
        until((inside / "failure.json").is_symlink)
        assert containers.driver.observe(handle).address is None
        assert not is_socket(containers.base / "run" / "r1" / "m.sock")
        containers.driver.stop(handle, grace_s=0)
        assert containers.driver.observe(handle).failure is None


def test_folders_let_the_gateway_in_and_nobody_write(containers):
    handle = containers.start("r1")
    containers.running(handle)
    folder = containers.base / "run" / "r1"
    modes = [(each.stat().st_mode & 0o777, each.stat().st_uid) for each in (folder, folder / "s")]
    assert modes == [(0o755, os.geteuid()), (0o755, 10001)]


def test_engine_that_serves_nothing_but_the_shape_of_the_console(containers):
    told = containers.driver.describe()
    assert told["level"].startswith("docker")
    assert told["levels"][0]["level"] == told["level"]
    assert set(told["guarantees"]) == {"filesystem", "network", "own_user", "memory", "cpu", "pids", "oom_signal"}
    assert told["guarantees"]["memory"] == "cgroup"


# -- networks


@contextlib.contextmanager
def outside(name):
    """A listener in a network namespace of the test's own: the only "outside" a test may ask for."""
    near, far, namespace = "10.213.77.1", "10.213.77.2", f"n{name}"
    setup = [
        f"netns add {namespace}",
        f"link add {name} type veth peer name far netns {namespace}",
        f"addr add {near}/30 dev {name}",
        f"link set {name} up",
        f"-n {namespace} addr add {far}/30 dev far",
        f"-n {namespace} link set far up",
    ]
    try:
        for line in setup:
            subprocess.run(["ip", *line.split()], check=True, timeout=10)
        command = ["nsenter", f"--net=/var/run/netns/{namespace}", sys.executable, "-c", LISTEN, far]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            try:
                yield f"{far}:{listener.stdout.readline().strip()}"
            finally:
                listener.kill()
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=10)
        subprocess.run(["ip", "link", "del", name], check=False, timeout=10, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def plain_bridge(engine, name):
    """A network as Docker makes it when nobody asks for more."""
    network = engine.networks.create(name, driver="bridge")
    try:
        yield network
    finally:
        network.remove()


def speaker(containers, name, **more):
    handle = containers.driver.start(containers.spec(name, "tcp", "8000", port=8000, **more))
    address = containers.running(handle).address
    until(lambda: say(address) == "reached")
    return address


@pytest.mark.parametrize("network", list(Network))
def test_no_replica_reaches_another_one(containers, engine, network):
    one, other = (speaker(containers, name, network=network) for name in ("r1", "r2"))
    assert one != other
    assert say(one, one) == "reached"  # itself, so the question is a fair one
    assert say(one, other) != "reached"
    assert say(other, one) != "reached"
    with plain_bridge(engine, f"{containers.base.name}-plain") as plain:
        # on a bridge without the rule the same servers do reach each other
        for name in ("r1", "r2"):
            plain.connect(raw(containers, engine, Handle("docker", name)))
        try:
            there = [
                raw(containers, engine, Handle("docker", name)).attrs["NetworkSettings"]["Networks"][plain.name]
                for name in ("r1", "r2")
            ]
            until(lambda: say(one, f"{there[1]['IPAddress']}:8000") == "reached")
        finally:
            for name in ("r1", "r2"):
                plain.disconnect(raw(containers, engine, Handle("docker", name)), force=True)


@pytest.mark.skipif(not shutil.which("ip") or os.geteuid(), reason="making a network namespace takes iproute2 and root")
def test_only_egress_reaches_the_outside(containers):
    shut = speaker(containers, "r1")
    free = speaker(containers, "r2", network=Network.EGRESS)
    with outside(containers.base.name[:12]) as listener:
        assert say(free, listener) == "reached"
        assert say(shut, listener) != "reached"


def test_starters_at_once_make_one_network(containers, engine):
    drivers = [
        DockerDriver(DOCKER_URL, containers.driver.installation, BASE_IMAGE, containers.base / "run") for _ in range(4)
    ]
    specs = [containers.spec(f"r{number}", "tcp", "8000", port=8000) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda driver, spec: driver.start(spec), drivers, specs))
    name = networks.name_of(containers.driver.installation, "internal")
    assert [each.name for each in engine.networks.list(names=[name])] == [name]
    assert len(ours(containers, engine)) == 4


def test_network_removed_behind_our_back(containers, engine):
    spec = containers.spec("r1", "tcp", "8000", port=8000)
    handle = containers.driver.start(spec)
    containers.running(handle)
    until(lambda: "listening" in containers.text(handle))
    containers.driver.stop(handle, grace_s=1)
    engine.networks.get(networks.name_of(containers.driver.installation, "internal")).remove()
    containers.driver.start(spec)
    address = containers.running(handle).address
    until(lambda: say(address) == "reached")
    assert containers.text(handle).count("listening") == 2
    containers.driver.forget(handle)
    assert ours(containers, engine) == []


def test_a_strangers_network_of_our_name_is_not_used(containers, engine):
    name = networks.name_of(containers.driver.installation, "internal")
    network = engine.networks.create(name, internal=True)
    try:
        with pytest.raises(DriverUnavailable, match="was not made by Portway"):
            containers.driver.start(containers.spec("r1", "tcp", "8000", port=8000))
    finally:
        network.remove()
    assert ours(containers, engine) == []


# -- images and programs


@pytest.fixture
def own_image(containers, engine):
    """An image with a command and a user of its own."""
    container = engine.containers.create(BASE_IMAGE)
    code = (
        "import os; open('/run/x', 'w') if not os.getuid() else 0; print('own', os.getuid(), os.getcwd(), flush=True)"
    )
    command = json.dumps([BASE_PYTHON, "-c", code])
    tag = f"portway-test-{containers.base.name.lower()}"
    try:
        container.commit(tag, changes=[f"CMD {command}", "USER 1234", "WORKDIR /opt"])
        yield tag
    finally:
        container.remove(force=True)
        engine.images.remove(tag, force=True)


@pytest.mark.parametrize(("image_user", "said"), [(True, "own 1234 /opt"), (False, "own 10001 /opt")])
def test_an_image_with_its_own_command(containers, own_image, image_user, said):
    spec = containers.spec("r1", image=own_image, port=8000, image_user=image_user)
    handle = containers.driver.start(dataclasses.replace(spec, argv=()))
    containers.exited(handle)
    assert containers.text(handle) == said


def test_a_root_image_has_no_capabilities_and_its_run_folder_is_writable(containers):
    more = {"image": BASE_IMAGE, "image_user": True, "env": {"TMPDIR": "/tmp"}}
    handle = containers.start("r1", "look", MODEL, "9", "/run/new", "/var/tmp/new", **more)
    found = containers.found(handle)
    assert found["uid"] == 0
    assert "CapEff:\t0000000000000000" in found["status"]
    assert (found["write"]["/run/new"], found["write"]["/var/tmp/new"]) == ("written", "written")
    assert containers.driver.observe(handle).isolation.startswith("docker (user root")


def test_sockets_lie_above_the_run_folder_of_images(containers):
    handle = containers.start("r1", "serve", image=BASE_IMAGE)
    assert request(containers.running(handle).address) == (200, "Healthy")


def test_missing_image(containers, engine):
    with pytest.raises(ImageError, match=r"portway-none:1 .*docker pull portway-none:1"):
        containers.driver.start(containers.spec("r1", image="portway-none:1"))
    assert ours(containers, engine) == []


@pytest.mark.parametrize(
    ("program", "text"),
    [("/nope", "is not in the image"), ("/opt", "may not be run"), (f"{APP}/replica.py", "may not be run")],
)
def test_programs_that_cannot_be_run(containers, engine, program, text):
    with pytest.raises(ImageError, match=text):
        containers.driver.start(dataclasses.replace(containers.spec("r1"), argv=(program,)))
    assert ours(containers, engine) == []


def test_a_missing_program_looked_for_in_the_path_says_so_in_its_log(containers):
    handle = containers.driver.start(dataclasses.replace(containers.spec("r1"), argv=("no-such-program",)))
    assert containers.exited(handle).exit_code == 127
    assert "no-such-program" in containers.text(handle)


def test_missing_graphics_card(containers, engine):
    spec = containers.spec("r1")
    wanted = dataclasses.replace(spec.resources, gpus=1)
    with pytest.raises(SpecError, match="no graphics card"):
        containers.driver.start(dataclasses.replace(spec, resources=wanted))
    assert ours(containers, engine) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mem_bytes": 2**20}, "less than 16 MiB"),
        ({"mem_bytes": 2**60}, "bytes of memory and this machine has"),
        ({"cpu_milli": 10**7}, "10000 cores and this machine has"),
        ({"pids": 0}, "one process"),
    ],
)
def test_resources_that_cannot_be_had(containers, change, text):
    spec = containers.spec("r1")
    with pytest.raises(SpecError, match=text):
        containers.driver.validate(dataclasses.replace(spec, resources=dataclasses.replace(spec.resources, **change)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "a/b"}, "no replica name"),
        ({"argv": ()}, "no program to run"),
        ({"argv": ("/x", "a\0b")}, "NUL"),
        ({"mounts": (Mount("/nowhere", "/opt/x"),)}, "does not exist"),
        ({"mounts": (Mount("/opt", "/run"),)}, "covers a folder"),
        ({"port": 70000}, "no TCP port"),
    ],
)
def test_wrong_specs(containers, change, text):
    with pytest.raises(SpecError, match=text):
        containers.driver.validate(dataclasses.replace(containers.spec("r1"), **change))


# -- behind our back


def test_a_container_removed_behind_our_back(containers, engine):
    handle = containers.start("r1")
    containers.running(handle)
    raw(containers, engine, handle).remove(force=True)
    assert containers.state(handle) is State.GONE
    assert containers.driver.usage(handle) is None
    containers.start("r1")
    containers.running(handle)


def test_a_killed_container_is_started_again_in_place(containers, engine):
    handle = containers.start("r1")
    containers.running(handle)
    before = raw(containers, engine, handle)
    before.kill()
    assert containers.exited(handle).exit_code == -9
    containers.start("r1")
    containers.running(handle)
    assert raw(containers, engine, handle).id == before.id


def test_another_spec_makes_another_container_also_of_a_living_one(containers, engine):
    handle = containers.start("r1")
    containers.running(handle)
    before = raw(containers, engine, handle)
    containers.start("r1", env={"MORE": "1"})
    containers.running(handle)
    assert raw(containers, engine, handle).id != before.id
    assert containers.text(handle).splitlines()[:2] == ["listening", "drained"]
    assert containers.driver.list(owner="tests") == [handle]


def test_a_start_interrupted_after_creation_is_finished(containers, engine):
    spec = containers.spec("r1")
    place = containers.driver._place()
    sockets = containers.driver._prepare(spec, place)
    containers.driver._created(spec, place, "none", sockets=sockets)
    handle = Handle("docker", "r1")
    assert containers.state(handle) is State.STARTING
    containers.driver.start(spec)
    containers.running(handle)


def test_unknown_containers_of_ours_are_listed_and_can_be_removed(containers, engine):
    labels = {options.INSTALLATION: containers.driver.installation, options.OWNER: "tests"}
    names = [options.container_name(containers.driver.installation, each) for each in ("odd", "unnamed")]
    engine.containers.create(BASE_IMAGE, "true", name=names[0], labels=labels | {options.REPLICA: "../../etc"})
    engine.containers.create(BASE_IMAGE, "true", name=names[1], labels=labels)
    found = containers.driver.list(owner="tests")
    assert len(found) == 2
    for handle in found:
        containers.driver.stop(handle, grace_s=1)
        containers.driver.forget(handle)
    assert containers.driver.list(owner="tests") == []


def test_containers_of_others_are_never_touched(containers, engine):
    name = options.container_name(containers.driver.installation, "r1")
    labels = {options.INSTALLATION: "somebody-else", options.OWNER: "tests"}
    other = engine.containers.run(BASE_IMAGE, ["sleep", "100"], name=name, labels=labels, detach=True, network="none")
    try:
        handle = Handle("docker", "r1")
        assert containers.state(handle) is State.GONE
        assert containers.driver.list(owner="tests") == []
        assert containers.driver.logs(handle) == []
        assert containers.driver.usage(handle) is None
        containers.driver.stop(handle, grace_s=0)
        containers.driver.forget(handle)
        with pytest.raises(SpecError, match="was not made by Portway"):
            containers.start("r1")
        other.reload()
        assert other.status == "running"
    finally:
        other.remove(force=True)


def test_starters_at_once_in_several_processes_make_one(containers, engine):
    drivers = [
        DockerDriver(DOCKER_URL, containers.driver.installation, BASE_IMAGE, containers.base / "run") for _ in range(4)
    ]
    # as if they were on machines of their own, without a common lock: the engine decides
    for number, driver in enumerate(drivers):
        driver._locked = lambda name, number=number: contextlib.nullcontext()
    spec = containers.spec("r1", "tcp", "8000", port=8000)
    barrier = threading.Barrier(4)

    def start(driver):
        barrier.wait(10)
        return driver.start(spec)

    with ThreadPoolExecutor(4) as pool:
        handles = list(pool.map(start, drivers))
    assert handles == [Handle("docker", "r1")] * 4
    address = containers.running(handles[0]).address
    until(lambda: say(address) == "reached")
    assert len(ours(containers, engine)) == 1


# -- the engine does not answer


def every_verb(driver, spec):
    handle = Handle("docker", "r1")
    yield lambda: driver.validate(spec)
    yield lambda: driver.start(spec)
    yield lambda: driver.observe(handle)
    yield lambda: driver.stop(handle, grace_s=1)
    yield lambda: driver.forget(handle)
    yield lambda: driver.logs(handle)
    yield lambda: driver.mark(handle)
    yield lambda: driver.read(handle)
    yield lambda: list(driver.follow(handle, timeout_s=1))
    yield lambda: driver.usage(handle)
    yield lambda: driver.list(owner="tests")
    yield driver.describe


def test_a_dead_engine_is_unavailable_everywhere(containers):
    driver = DockerDriver(f"unix://{containers.base}/none.sock", "x", BASE_IMAGE, containers.base / "run")
    for verb in every_verb(driver, containers.spec("r1")):
        with pytest.raises(DriverUnavailable, match="does not answer"):
            verb()


def test_a_silent_engine_costs_one_wait(containers):
    path = containers.base / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(64)
        driver = DockerDriver(f"unix://{path}", "x", BASE_IMAGE, containers.base / "run", timeout_s=0.3)
        for verb in every_verb(driver, containers.spec("r1")):
            with pytest.raises(DriverUnavailable, match="answer"):
                verb()
        silent.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
    assert asked == 1


# -- logs and usage


def test_many_lines_of_one_moment_come_once_and_in_order(containers):
    handle = containers.start("r1", "both", "3000")
    containers.exited(handle)
    found, after = [], ""
    while (chunk := containers.driver.read(handle, after=after, most_bytes=2000)).lines:
        found += chunk.lines
        after = chunk.mark
    assert found == containers.driver.logs(handle, tail=10_000)
    for stream, rest in (("stdout", 0), ("stderr", 1)):
        lines = [line.text for line in found if line.stream == stream]
        assert lines == [f"line {number}" for number in range(rest, 3000, 2)]


def test_log_is_bounded_and_marks_outlive_its_rotation(containers):
    handle = containers.start("r1", "shout", "16000")
    until(lambda: containers.driver.logs(handle, tail=1))
    early = containers.driver.read(handle, most_bytes=1).mark
    containers.exited(handle, seconds=30)
    kept = containers.driver.logs(handle, tail=100_000)
    assert kept[-1].text.startswith("line 15999 ")
    assert sum(len(line.text) for line in kept) < 12 * MIB
    found, after = [], early
    while (chunk := containers.driver.read(handle, after=after, most_bytes=4 * MIB)).lines:
        found += chunk.lines
        after = chunk.mark
    assert found == kept


def test_odd_text_is_cleaned_and_cut(containers):
    handle = containers.start("r1", "odd")
    containers.exited(handle)
    lines = [line.text for line in containers.driver.logs(handle)]
    assert lines[0] == "ab"
    assert sum(len(line) for line in lines if set(line) == {"y"}) == 100_000
    assert max(map(len, lines)) <= 16 * 1024
    assert lines[-2:] == ["\ufffd\ufffd", "unfinished"]


@pytest.mark.parametrize("groups", [True, False])
def test_usage(containers, monkeypatch, groups):
    if not groups:
        monkeypatch.setattr(usage, "groups", lambda *_: {})
    handle = containers.start("r1", "serve")
    containers.running(handle)
    used = containers.driver.usage(handle)
    assert 0 < used.cpu_seconds < 10
    assert MIB < used.mem_bytes < 200 * MIB
    containers.driver.stop(handle, grace_s=1)
    assert containers.driver.usage(handle) is None

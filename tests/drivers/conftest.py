"""Real drivers over real processes, each in a folder of its own, all cleaned up by name."""

import contextlib
import functools
import http.client
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

import docker
import pytest

from apps.compute.drivers import isolation, sandbox
from apps.compute.drivers.base import (
    FAILURE_NAME,
    SOCKET_DIR,
    SOCKET_NAME,
    Handle,
    Mount,
    ReplicaSpec,
    Resources,
    State,
)
from apps.compute.drivers.docker import DockerDriver
from apps.compute.drivers.fake import FakeDriver
from apps.compute.drivers.process import ProcessDriver

MIB = 1024 * 1024
APP = "/opt/app"
MODEL = "/var/azureml-app"
DOCKER_URL = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
BASE_IMAGE = "python:3.11-slim"
BASE_PYTHON = "/usr/bin/python3.11"  # Debian's, in the image
LEVELS = [str(level) for level in isolation.LEVELS]


def need(level):
    """Skip, with the reason, what this machine cannot give."""
    found = isolation.probe()
    if level not in found.available:
        pytest.skip(f"{level}: {dict(found.reasons)[level]}")


def until(condition, *, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not so within {seconds} s")


def request(address, *, method="GET", path="/", body=None, timeout=10.0):
    """(status, text) over the unix socket."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(timeout)
    connection.sock.connect(address.removeprefix("unix:"))
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


class Bench:
    """A driver, and specs that suit it."""

    def __init__(self, driver, base, python):
        self.driver, self.base, self.python = driver, base, python
        self.names = []

    def spec(
        self, name, *mode, mem=200 * MIB, pids=64, cpu=1000, mounts=(), env=None, owner="tests", labels=None, **more
    ):
        self.names.append(name)
        sockets = (f"{SOCKET_DIR}/{SOCKET_NAME}", f"{SOCKET_DIR}/{FAILURE_NAME}")
        return ReplicaSpec(
            name,
            owner,
            (self.python, "-u", f"{APP}/replica.py", *sockets, *(mode or ("serve",))),
            {"NAME": name, "BENCH": self.base.name} | (env or {}),
            Resources(cpu, mem, pids),
            mounts=(Mount(str(self.base / "app"), APP), *self.python_mounts(), *mounts),
            labels=labels or {},
            **more,
        )

    def python_mounts(self):
        """The environment that holds the interpreter; every replica sees the system's own."""
        own = self.python == sys.executable and sys.prefix != "/usr"
        return (Mount(sys.prefix, sys.prefix),) if own else ()

    def start(self, name, *mode, **more):
        return self.driver.start(self.spec(name, *mode, **more))

    def state(self, handle):
        return self.driver.observe(handle).state

    def running(self, handle):
        return self.reach(handle, State.RUNNING)

    def exited(self, handle, *, seconds=15.0):
        return self.reach(handle, State.EXITED, seconds=seconds)

    def reach(self, handle, state, *, seconds=10.0):
        until(lambda: self.state(handle) is state, seconds=seconds)
        return self.driver.observe(handle)

    def text(self, handle):
        return "\n".join(line.text for line in self.driver.logs(handle))

    def found(self, handle):
        """What the mode `look` told."""
        self.exited(handle)
        line = next(line for line in self.text(handle).splitlines() if line.startswith("FOUND "))
        return json.loads(line.removeprefix("FOUND "))

    def processes(self, name):
        """Pids whose command line or environment names the replica, seen from the host."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    where = (entry / "environ").read_bytes() + b"\0" + (entry / "cmdline").read_bytes()
                    named = f"\0NAME={name}\0".encode() in b"\0" + where or f"/{name}/spec.json".encode() in where
                    if named and self.base.name.encode() in where:  # another run may have one of that name
                        found.append(int(entry.name))
        return found

    def shim(self, name):
        return json.loads((self.base / "state" / name / "shim.json").read_text())

    def close(self):
        for name in self.names:
            self.driver.forget(Handle(self.driver.name, name))


@pytest.fixture
def base():
    """Short (socket paths), and open to the replicas' user, which pytest's own folders are not."""
    path = Path(tempfile.mkdtemp(prefix="pw"))
    path.chmod(0o755)
    (path / "app").mkdir()
    shutil.copy(Path(__file__).with_name("replica.py"), path / "app" / "replica.py")
    (path / "app" / "replica.py").chmod(0o644)
    yield path
    shutil.rmtree(path)


def python_for(level):
    """This interpreter, or the system's where the replica's user cannot reach it."""
    drops = os.geteuid() == 0 and level == "setpriv+rlimits"
    if drops and sandbox.unreachable(sys.executable, sandbox.NOBODY):
        other = shutil.which("python3", path="/usr/bin:/usr/local/bin")
        if other is None:
            pytest.skip(f"{level}: user {sandbox.NOBODY} reaches no Python on this machine")
        return other
    return sys.executable


def process_bench(base, level, **more):
    need(level)
    return Bench(ProcessDriver(base / "state", base / "run", level=level, **more), base, python_for(level))


@functools.cache
def no_engine():
    """Why the container engine cannot be used; empty when it can."""
    try:
        with contextlib.closing(docker.DockerClient(DOCKER_URL, timeout=10)) as client:
            client.images.get(BASE_IMAGE)
    except (docker.errors.DockerException, OSError) as error:
        return f"no container engine at {DOCKER_URL} with the image {BASE_IMAGE}: {str(error)[:200]}"
    return ""


@contextlib.contextmanager
def docker_bench(base):
    """An installation of its own on the engine; everything that bears its label is removed behind it."""
    if reason := no_engine():
        pytest.skip(reason)
    installation = f"t{base.name.lower()}"
    made = Bench(DockerDriver(DOCKER_URL, installation, BASE_IMAGE, base / "run"), base, BASE_PYTHON)
    try:
        yield made
    finally:
        with contextlib.closing(docker.DockerClient(DOCKER_URL, timeout=60)) as client:
            ours = {"label": f"portway.installation={installation}"}
            for container in client.containers.list(all=True, filters=ours, ignore_removed=True):
                container.remove(force=True, v=True)
            for network in client.networks.list(filters=ours):
                network.remove()


@pytest.fixture
def containers(base):
    with docker_bench(base) as made:
        yield made


@pytest.fixture(params=["fake", *LEVELS, pytest.param("docker", marks=pytest.mark.docker)])
def bench(request, base):
    if request.param == "docker":
        with docker_bench(base) as made:
            yield made
        return
    if request.param == "fake":
        made = Bench(FakeDriver(registry=base.name, run_dir=base / "run"), base, sys.executable)
    else:
        made = process_bench(base, request.param)
    yield made
    made.close()


@pytest.fixture(params=LEVELS)
def processes(request, base):
    made = process_bench(base, request.param)
    yield made
    made.close()


@pytest.fixture
def best(base):
    """The strongest level of this machine."""
    made = process_bench(base, str(isolation.probe().level))
    yield made
    made.close()


@pytest.fixture
def listener():
    """Something on this machine's loopback that a replica without isolation can reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]

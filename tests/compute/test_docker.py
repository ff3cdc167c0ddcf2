"""Replica sets on a container engine: one that goes away, comes back without the containers, or is not there at all."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import docker
import psutil
import pytest

from apps.compute import domain
from apps.compute.domain import Recipe
from apps.compute.drivers.base import SOCKET_DIR, DriverUnavailable, State
from apps.compute.drivers.docker import DockerDriver
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.core.errors import Problem
from tests.drivers.conftest import APP, BASE_IMAGE, BASE_PYTHON, DOCKER_URL, no_engine, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.docker]


class Engine:
    """A second engine of the test's own: data, containerd, socket and pid file of its own, no bridge, no iptables."""

    def __init__(self, root):
        self.root = root
        self.url = f"unix://{root}/docker.sock"
        self.process = None

    def start(self):
        # in a network namespace of its own: an engine without a bridge removes docker0, which is another engine's
        command = ["unshare", "--net", "dockerd", "--host", self.url]
        command += ["--bridge", "none", "--iptables=false", "--ip-masq=false"]
        command += ["--data-root", f"{self.root}/data", "--exec-root", f"{self.root}/exec"]
        command += ["--pidfile", f"{self.root}/pid", "--shutdown-timeout", "3"]
        self.clear()
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until(self.answers, seconds=30)

    def clear(self):
        """After a kill: a pid file whose process is gone, or a zombie, makes the next engine wait for it in vain."""
        for path in (self.root / "pid", self.root / "exec/containerd/containerd.pid"):
            if path.exists():
                status = Path(f"/proc/{path.read_text()}/stat")
                until(
                    lambda status=status: not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"
                )
                path.unlink()

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError((self.root / "log").read_text()[-2000:])
        with contextlib.suppress(docker.errors.DockerException, OSError), self.client() as client:
            return client.ping()
        return False

    @contextlib.contextmanager
    def client(self):
        with contextlib.closing(docker.DockerClient(self.url, timeout=60)) as client:
            yield client

    def end(self, number):
        self.process.send_signal(number)
        self.process.wait(30)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGTERM)
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        mounts = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for each in sorted((mount for mount in mounts if mount.startswith(f"{self.root}/")), reverse=True):
            subprocess.run(["umount", "-l", each], check=False, timeout=10)

    def left(self):
        """What a killed engine leaves: its containerd, the shims of its containers, and their processes."""
        shims = [each for each in psutil.process_iter() if f"{self.root}/exec" in " ".join(command_of(each))]
        return [each.pid for shim in shims for each in (*shim.children(recursive=True), shim)]


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_of(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def private_engine():
    if reason := no_engine():
        pytest.skip(reason)
    if os.geteuid() or not shutil.which("dockerd"):
        pytest.skip("starting an engine of one's own takes root and dockerd")
    engine = Engine(Path(tempfile.mkdtemp(prefix="pwe")))
    try:
        engine.start()
        with contextlib.closing(docker.DockerClient(DOCKER_URL, timeout=60)) as source, engine.client() as target:
            target.images.load(source.images.get(BASE_IMAGE).save(named=BASE_IMAGE))
        yield engine
    finally:
        engine.close()
        shutil.rmtree(engine.root, ignore_errors=True)


@pytest.fixture
def on_docker(settings):
    """Use the engine at a URL for the driver "docker"."""
    made = []

    def use(url):
        settings.DOCKER_URL = url
        domain.driver.cache_clear()
        made.append(domain.driver("docker"))
        return made[-1]

    yield use
    for driver in made:
        with contextlib.suppress(DriverUnavailable):
            for handle in driver.list(owner=domain.OWNER):
                driver.forget(handle)
    domain.driver.cache_clear()


@pytest.fixture
def recipe():
    folder = Path(tempfile.mkdtemp(prefix="pwa"))
    folder.chmod(0o755)
    shutil.copy(Path(__file__).parents[1] / "drivers" / "replica.py", folder / "replica.py")
    (folder / "replica.py").chmod(0o644)
    argv = (BASE_PYTHON, "-u", f"{APP}/replica.py", f"{SOCKET_DIR}/m.sock", f"{SOCKET_DIR}/failure.json", "serve")
    yield Recipe(argv=argv, env={}, mounts=((str(folder), APP),), cpu_milli=500, mem_bytes=2**27, grace_s=2.0)
    shutil.rmtree(folder)


def make(recipe, desired=1):
    return domain.ensure_set(owner_key="iris/blue", revision=1, recipe=recipe, driver_name="docker", desired=desired)


def settle(replica_set, seconds=30):
    domain.settle(replica_set, tick=lambda: None, timeout_s=seconds)


def rows():
    return list(Replica.objects.order_by("index").values())


def test_replicas_come_back_after_the_engine_was_killed(private_engine, on_docker, recipe):
    driver = on_docker(private_engine.url)
    replica_set = make(recipe, desired=2)
    settle(replica_set)
    before = rows()
    private_engine.end(signal.SIGKILL)
    assert domain.reconcile(replica_set) is False
    assert rows() == before  # not known to be gone, so not replaced and not taken out of the routes
    private_engine.start()

    def back():
        domain.reconcile(replica_set)
        return domain.ready_count(replica_set) == 2 and all(
            row["started_at"] > was["started_at"] for row, was in pairs()
        )

    def pairs():
        return list(zip(rows(), before, strict=True))

    until(back, seconds=60)
    assert [row["address"] for row in rows()] == [row["address"] for row in before]
    handles = driver.list(owner=domain.OWNER)
    assert [driver.observe(handle).state for handle in handles] == [State.RUNNING, State.RUNNING]


def test_a_set_comes_up_stands_down_and_comes_back(on_docker, recipe):
    if reason := no_engine():
        pytest.skip(reason)
    driver = on_docker(DOCKER_URL)
    replica_set = make(recipe)
    settle(replica_set)
    addresses = domain.addresses(replica_set.pk)
    assert domain.stand_down("docker") == 1
    assert [driver.observe(handle).state for handle in driver.list(owner=domain.OWNER)] == [State.EXITED]
    settle(replica_set)
    assert domain.addresses(replica_set.pk) == addresses
    replica = Replica.objects.get()
    assert (replica.isolation, replica.restarts) == ("docker (uid 10001, read-only, no capabilities)", 0)
    assert [line.text for line in domain.logs(replica)] == ["listening", "drained", "listening"]
    domain.destroy(replica_set)
    assert driver.list(owner=domain.OWNER) == []


def test_containers_no_row_knows_are_swept(on_docker, recipe):
    if reason := no_engine():
        pytest.skip(reason)
    driver = on_docker(DOCKER_URL)
    replica_set = make(recipe)
    settle(replica_set)
    Replica.objects.all().delete()
    assert domain.sweep_orphans("docker") == 1
    assert driver.list(owner=domain.OWNER) == []


def test_an_engine_that_does_not_answer_leaves_rows_as_they_are(on_docker, recipe, tmp_path):
    if reason := no_engine():
        pytest.skip(reason)
    on_docker(DOCKER_URL)
    replica_set = make(recipe)
    settle(replica_set)
    before = rows()
    on_docker(f"unix://{tmp_path}/none.sock")
    assert domain.reconcile(replica_set) is False
    assert rows() == before
    for verb in (domain.halt, domain.destroy):
        with pytest.raises(Problem, match="does not answer"):
            verb(replica_set)
    assert [row["state"] for row in rows()] == [ReplicaState.READY]
    with pytest.raises(Problem, match="does not answer"):
        domain.logs(Replica.objects.get())
    with pytest.raises(DriverUnavailable):
        domain.stand_down("docker")


def test_new_replicas_wait_for_an_engine_that_does_not_answer(on_docker, recipe, tmp_path):
    on_docker(f"unix://{tmp_path}/none.sock")
    with pytest.raises(Problem, match="does not answer"):
        domain.validate(recipe, "docker")
    domain.reconcile(make(recipe))
    replica = Replica.objects.get()
    assert (replica.state, replica.reason["code"]) == (ReplicaState.BACKOFF, "driver-unavailable")
    assert replica.exits_in_a_row == 0


def test_without_an_engine_nothing_is_known_of_its_replicas(settings, recipe):
    domain.driver.cache_clear()
    settings.DOCKER_URL = ""
    replica_set = make(recipe)
    domain.reconcile(replica_set)
    assert Replica.objects.get().state == ReplicaState.BACKOFF
    assert "docker" in domain.drivers()  # it has some still
    with pytest.raises(DriverUnavailable, match="PORTWAY_DOCKER"):
        domain.driver("docker")


def test_an_engine_makes_a_driver(settings):
    settings.DOCKER_URL = "unix:///somewhere.sock"
    domain.driver.cache_clear()
    assert domain.drivers() == ["docker", "fake"]
    driver = domain.driver("docker")
    assert isinstance(driver, DockerDriver)
    assert driver.installation == settings.HOME.installation
    domain.driver.cache_clear()


def test_usage_of_others_is_told_when_one_driver_is_not_set_up(settings, recipe):
    domain.driver.cache_clear()
    settings.DOCKER_URL = ""
    replica = Replica.objects.create(
        set=make(recipe, desired=0), index=0, name="x", handle={"driver": "docker", "name": "x", "data": {}}
    )
    assert domain.usage([replica], deadline_s=5.0) == {}

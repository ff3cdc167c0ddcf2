"""`portway local`: real processes and real containers, from YAML to answer, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bench.product import ROOT, free_ports
from tests.engine import docker_client, engine  # noqa: F401 -- fixtures

pytestmark = pytest.mark.timeout(240)

YAML = """
name: blue
endpoint_name: my-endpoint
model: {path: ./model}
code_configuration: {code: ./code, scoring_script: score.py}
environment: {conda_file: ./env/conda.yml}
instance_type: small
"""
SCRIPT = """
import json, os
from pathlib import Path

def init():
    global factor
    factor = int(Path(os.environ["AZUREML_MODEL_DIR"], "model", "factor.txt").read_text())
    print("init is done")

def run(data):
    return json.loads(data)["x"] * factor
"""
SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() + body[::-1])

http.server.HTTPServer(("0.0.0.0", 8501), Handler).serve_forever()
"""
CONTAINER = """
name: own
environment:
  build: {path: ./image}
  inference_config:
    liveness_route: {port: 8501, path: /}
    readiness_route: {port: 8501, path: /}
    scoring_route: {port: 8501, path: /predict}
"""


class Local:
    """The command as a user calls it, from another folder than the YAML's."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "h"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PORTWAY_", "DJANGO_"))}
        self.environment = {**kept, "PORTWAY_LOCAL_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "cli", "local", *arguments], cwd="/", env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments, code=0):
        """Its output; of a failure what it says on stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=200)
        assert process.returncode == code, out + err
        return out if code == 0 else err

    def create(self, *more, verb="create", code=0, file="blue.yml"):
        return self(verb, "-f", str(self.folder / file), *more, code=code)

    def write(self, path, text):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def left(self):
        """Processes and files of replicas that are there."""
        mark, found = f"{self.home}/".encode(), []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += [each] if mark in each.read_bytes() else []
            except OSError:
                continue
        return [
            *found,
            *self.home.glob("run/r/local-*"),
            *self.home.glob("replicas/local-*"),
            *self.home.glob("local/*"),
        ]


@pytest.fixture
def local():
    folder = Path(tempfile.mkdtemp(prefix="pwl-", dir="/tmp"))
    folder.chmod(0o755)
    made = Local(folder)
    made.write("blue.yml", YAML)
    made.write("env/conda.yml", "dependencies: [python=3.11]\n")
    made.write("model/factor.txt", "7")
    made.write("code/score.py", SCRIPT)
    try:
        yield made
    finally:
        for each in made("list").splitlines():
            made("delete", each.split()[0])
        left = made.left()
        shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def test_from_yaml_to_a_changed_answer(local):
    local.create("--no-docker")
    assert local("invoke", "-d", '{"x": 6}') == "42\n"
    assert "init is done" in local("logs")
    assert '"state": "ready"' in local("show")
    assert '"endpoint_name": "my-endpoint"' in local("show")
    local.write("code/score.py", SCRIPT.replace("* factor", "+ factor"))
    assert local("invoke", "-d", '{"x": 6}') == "42\n"
    local.create("--no-docker", verb="update")
    assert local("invoke", "blue", "-d", '{"x": 6}') == "13\n"
    assert "exists already" in local.create("--no-docker", code=1)
    assert local("delete") == "blue is gone.\n"
    assert local("list") == ""
    assert local.left() == []
    assert list(local.home.glob("*.sqlite3")) == []


def test_an_error_of_the_script_is_its_answer(local):
    local.write("code/score.py", SCRIPT)
    local.create("--no-docker")
    assert "status 500" in local("invoke", "-d", '{"y": 1}', code=1)
    assert "KeyError" in local("logs")


def test_broken_script_says_why(local):
    local.write("code/score.py", "import nothing_of_that_name\n\ndef init(): ...\n\ndef run(data): ...\n")
    said = local.create("--no-docker", code=1)
    assert "The scoring script score.py could not be imported" in said
    assert "next: Add nothing_of_that_name to the environment, or the module to the code folder." in said
    assert "nothing_of_that_name" in local("logs")
    assert "could not be imported" in local("show", code=1)
    local.write("code/score.py", SCRIPT)
    local.create("--no-docker", verb="update")
    assert local("invoke", "-d", '{"x": 1}') == "7\n"


def test_a_syntax_error_starts_nothing(local):
    local.write("code/score.py", "def init(:\n")
    assert "score.py, line 1" in local.create("--no-docker", code=1)
    assert local.left() == []


def test_two_deployments(local):
    local.write("other/factor.txt", "2")
    local.write("code/other.py", SCRIPT.replace('"model"', '"other"'))
    local.create("--no-docker")
    changes = ("model.path=./other", "code_configuration.scoring_script=other.py")
    local.create("-n", "green", "--no-docker", *(word for each in changes for word in ("--set", each)))
    assert local("invoke", "green", "-d", '{"x": 6}') == "12\n"
    assert local("invoke", "blue", "-d", '{"x": 6}') == "42\n"
    assert "say which deployment; there are: blue, green" in local("invoke", "-d", "1", code=1)
    assert [line.split()[:3] for line in local("list").splitlines()] == [
        ["blue", "ready", "process"],
        ["green", "ready", "process"],
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("colour=red", "Unknown or unsupported field colour."),
        ("model.colour=red", "Unknown or unsupported field model.colour."),
        ("model.path=./none", "none does not exist"),
        ("model=azureml:mine:1", "azureml:mine:1 is not on this machine"),
        ("environment.conda_file=./none.yml", "none.yml does not exist"),
        ("code_configuration.scoring_script=../score.py", "must be a path inside the code folder"),
        ("name=x", "'x' is not a valid deployment name"),
        ("request_settings.request_timeout_ms=soon", "request_timeout_ms: must be a whole number above 0, not 'soon'"),
        ("environment_variables.AML_APP_ROOT=/", "AML_APP_ROOT is Portway's own"),
        ("environment={image: python:3.11-slim}", "it needs a container"),
    ],
)
def test_what_cannot_be_meant_is_refused(local, change, said):
    assert said in local.create("--no-docker", "--set", change, code=1)
    assert local.left() == []


def test_ctrl_c_leaves_nothing(local):
    local.write("code/score.py", "import time\n\ndef init():\n    time.sleep(600)\n\ndef run(data): ...\n")
    process = local.start("create", "-f", str(local.folder / "blue.yml"), "--no-docker")
    deadline = time.monotonic() + 60
    while not list(local.home.glob("replicas/local-blue/shim.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert local.left() == []


def test_debug_waits_for_a_debugger(local):
    (port,) = free_ports(1)
    process = local.start("create", "-f", str(local.folder / "blue.yml"), "--debug", "--debug-port", str(port))
    deadline = time.monotonic() + 90
    while str(port) not in subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f'"port": {port}' in out
    assert str(local.folder / "code") in out


@pytest.mark.docker
def test_in_a_container(local, docker_client):  # noqa: F811
    local.create()
    assert '"runs_as": "docker"' in local("show")
    assert local("invoke", "-d", '{"x": 6}') == "42\n"
    assert "init is done" in local("logs")
    local.write("model/factor.txt", "8")
    local.create(verb="update")
    assert local("invoke", "-d", '{"x": 6}') == "48\n"
    local("delete")
    assert containers(local, docker_client) == []


@pytest.mark.docker
def test_a_container_of_the_users_own(local, docker_client):  # noqa: F811
    local.write("image/Dockerfile", 'FROM python:3.11-slim\nCOPY s.py /s.py\nUSER 10001\nCMD ["python3", "/s.py"]\n')
    local.write("image/s.py", SERVER)
    local.write("own.yml", CONTAINER)
    try:
        local.create(file="own.yml")
        assert local("invoke", "-d", "abc") == "/predictcba\n"
        local("delete")
        assert containers(local, docker_client) == []
    finally:
        for image in docker_client.images.list(name=f"portway-local/{identity(local)}"):
            docker_client.images.remove(image.id, force=True)


def identity(local):
    from cli.home import Home

    return Home(local.home).installation


def containers(local, client):
    wanted = {"label": f"portway.installation={identity(local)}"}
    return client.containers.list(all=True, filters=wanted) + client.networks.list(filters=wanted)

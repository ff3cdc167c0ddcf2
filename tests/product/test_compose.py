"""docker-compose.yml as a user starts it: every part a service, models as containers beside them."""

import http.client
import http.cookiejar
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from docker.models.networks import Network

from bench.clients import until
from bench.product import ROOT, SHORT, Product
from tests.engine import BASE, engine_url

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(600)]

PLAIN = "dependencies: [python=3.11]\n"
SCRIPT = """
import json

def init():
    print('up')

def run(data):
    print('asked')
    return {'twice': json.loads(data)['x'] * 2}
"""
PARTS = {"web", "database", "broker", "worker", "controller", "gateway", "mlflow"}


def command():
    """`docker-compose`, or compose as a plugin of `docker`; None when there is neither."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else None


class Compose(Product):
    """A project with names, ports, secrets and state folder of its own; nothing of it stays."""

    def __init__(self, folder, client):
        super().__init__(folder / "s")
        self.client = client
        self.project = f"pwtest{uuid.uuid4().hex[:8]}"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        self.environment = kept | {
            "COMPOSE_PROJECT_NAME": self.project,
            "DOCKER_BUILDKIT": "0",  # Debian's engine has no other builder
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "PORTWAY_IMAGE": f"{self.project}/portway",
            "PORTWAY_POSTGRES_IMAGE": f"{self.project}/postgres",
            "PORTWAY_BROKER_IMAGE": f"{self.project}/broker",
            "PORTWAY_STATE": str(self.home),
            "PORTWAY_SECRETS": str(folder / "secrets"),
            "PORTWAY_DOCKER_GID": str(Path("/var/run/docker.sock").stat().st_gid),
            "PORTWAY_PORT": str(self.tls),
            "PORTWAY_HTTP_PORT": str(self.http),
            "PORTWAY_PRIVATE_PORT": str(self.private),
        }

    def call(self, *arguments, timeout_s=60):
        done = subprocess.run(
            [*command(), *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"compose {' '.join(arguments)}: {(done.stdout + done.stderr)[-3000:]}"
        return done.stdout

    def prepare(self):
        subprocess.run([ROOT / "deploy" / "prepare"], env=self.environment, check=True, capture_output=True, timeout=30)
        for name in ("postgres", "broker"):
            self.client.images.build(path=str(ROOT / "deploy" / "ci" / name), tag=f"{self.project}/{name}", rm=True)
        self.call("build", timeout_s=480)

    def services(self):
        """Containers of the project by service, also those that have ended."""
        found = self.client.containers.list(all=True, filters={"label": f"com.docker.compose.project={self.project}"})
        return {each.labels["com.docker.compose.service"]: each for each in found}

    def down(self):
        self.call("down", "-v", "--remove-orphans", timeout_s=180)

    def upload(self, folder):
        """As the README does it; what the server calls the files then."""
        archive = shutil.make_archive(str(folder), "zip", folder)
        token = (self.home / "secrets" / "sdk-token").read_text()
        done = subprocess.run(
            ["curl", "-sSf", "--cacert", self.home / "ca.pem", "-H", f"Authorization: Bearer {token}",
             "-F", f"file=@{archive}", f"https://localhost:{self.tls}{SHORT}/uploads"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)["uri"]

    def parts_up(self):
        """Empty while nobody answers."""
        try:
            return {name for name, part in self.health()["parts"].items() if part["up"]}
        except (OSError, http.client.HTTPException, KeyError, TypeError):
            return set()

    def healthy(self):
        """Services whose own check says so."""
        state = {name: each.attrs["State"] for name, each in self.services().items()}
        return {name for name, each in state.items() if each.get("Health", {}).get("Status") == "healthy"}

    def crash(self, service):
        """End its first process from outside, as the kernel would: the engine starts again what it did not stop."""
        container = self.services()[service]
        os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)

    def answer(self, key):
        """A prediction, if anybody answers."""
        try:
            return self.score("double", key, {"x": 4})
        except (OSError, http.client.HTTPException) as error:
            return type(error), str(error)

    def instances(self):
        return [each for each in self.left() if isinstance(each, Container) and "portway.replica" in each.labels]

    def left(self):
        """What of the project and its installation is on the engine."""
        identity = self.home / "engine" / "installation"
        marks = [f"com.docker.compose.project={self.project}"]
        marks += [f"portway.installation={identity.read_text()}"] if identity.exists() else []
        found = []
        for mark in marks:
            wanted = {"label": mark}
            found += self.client.containers.list(all=True, filters=wanted)
            found += self.client.networks.list(filters=wanted) + self.client.volumes.list(filters=wanted)
        return found

    def clean(self):
        """Whatever happened before, nothing stays."""
        try:
            self.down()
        finally:
            for each in self.left():
                each.remove(**({"force": True, "v": True} if isinstance(each, Container) else {}))
            for name in ("portway", "postgres", "broker"):
                self.client.api.remove_image(f"{self.project}/{name}", force=True)


@pytest.fixture(scope="module")
def compose():
    if not engine_url():
        pytest.skip("no container engine answers")
    if command() is None:
        pytest.skip("neither docker-compose nor the plugin compose is installed")
    folder = Path(tempfile.mkdtemp(prefix="pwc-", dir="/tmp"))
    folder.chmod(0o755)
    with closing(docker.DockerClient(base_url=engine_url(), timeout=60)) as client:
        try:
            client.images.get(BASE)
        except docker.errors.ImageNotFound:
            pytest.skip(f"the engine has no image {BASE}")
        made = Compose(folder, client)
        try:
            made.prepare()
            began = time.monotonic()
            made.call("up", "-d", timeout_s=180)
            until(lambda: made.parts_up() == PARTS, 120, "every part up")
            print(f"up in {time.monotonic() - began:.1f} s")
            yield made
        except BaseException:
            print(subprocess.run([*command(), "logs", "--tail=60"], cwd=ROOT, env=made.environment, text=True,
                                 capture_output=True, check=False).stdout)  # fmt: skip
            raise
        finally:
            made.clean()
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def key(compose):
    """A scoring script on containers; the endpoint's key."""
    folder = compose.home.parent / "src"
    folder.mkdir()
    (folder / "score.py").write_text(SCRIPT)
    code = compose.upload(folder)
    registered = compose.register("codes", "double", "1", codeUri=code)
    environment = compose.register("environments", "plain", "1", condaFile=PLAIN)
    made = compose.endpoint("double")
    what = {"codeConfiguration": {"codeId": registered, "scoringScript": "score.py"}, "environmentId": environment}
    compose.deploy("double", "blue", **what)
    compose.traffic("double", blue=100)
    return made


def test_every_service_is_healthy_and_without_rights(compose):
    checked = PARTS | {"engine"}
    until(lambda: compose.healthy() == checked, 90, "every health check")
    secrets = [file.read_text() for file in Path(compose.environment["PORTWAY_SECRETS"]).iterdir()]
    assert len(secrets) == 4
    for name, each in compose.services().items():
        host, config = each.attrs["HostConfig"], each.attrs["Config"]
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert not host["PortBindings"], name
        assert name in {"own", "database"} or config["User"] == "10001:10001", name
        assert not [secret for secret in secrets if secret in str(config["Env"])], name


def test_only_who_starts_containers_has_the_engine(compose):
    with_engine = {
        name
        for name, each in compose.services().items()
        if any(mount["Destination"] == "/var/run/docker.sock" for mount in each.attrs["Mounts"])
    }
    assert with_engine == {"worker", "controller", "replicas", "engine"}


def test_nothing_listens_but_the_gateway(compose):
    """The services that are on the machine's own network; the others are on none."""
    pids = {name: each.attrs["State"]["Pid"] for name, each in compose.services().items() if each.status == "running"}
    on_host = {name for name, each in compose.services().items() if each.attrs["HostConfig"]["NetworkMode"] == "host"}
    assert {each.attrs["HostConfig"]["NetworkMode"] for each in compose.services().values()} == {"host", "none"}
    listening = {name: listeners(pids[name]) for name in on_host}
    assert listening.pop("gateway") == {compose.tls, compose.http, compose.private}
    assert set().union(*listening.values()) == set()


def listeners(pid):
    """TCP ports on which a process or one of its children listens."""
    import psutil

    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = [link for each in family for link in each.net_connections(kind="tcp")]
    return {link.laddr.port for link in found if link.status == psutil.CONN_LISTEN}


def test_admin_signs_in(compose):
    password = (Path(compose.environment["PORTWAY_SECRETS"]) / "admin_password").read_text()
    assert "portway_session" in sign_in(compose, password)
    assert "portway_session" not in sign_in(compose, "not the password")


def test_predictions(compose, key):
    assert compose.score("double", key, {"x": 21}) == (200, {"twice": 42})
    assert compose.score("double", "wrong", {"x": 21})[0] == 401


def test_web_shows_a_container_log_through_the_window(compose, key):
    compose.score("double", key, {"x": 1})
    asked = {"containerType": "InferenceServer", "tail": 50}
    log = compose.rest("POST", "onlineEndpoints/double/deployments/blue/getLogs", asked)["content"]
    assert "asked" in log


def test_the_window_opens_on_nothing_else(compose, key):
    other = compose.services()["database"].name
    program = (
        "from pathlib import Path; from cli.supervisor import UnixLink; import sys\n"
        "link = UnixLink(Path(sys.argv[1])); link.request(*sys.argv[2:]); print(link.getresponse().status)"
    )
    web, socket = compose.services()["web"], str(compose.home / "engine" / "engine.sock")

    def asked(*what):
        return web.exec_run(["python", "-c", program, socket, *what]).output.decode().strip()

    assert asked("GET", "/info") == "200"
    assert asked("GET", f"/containers/{other}/json") == "404"
    assert asked("GET", f"/containers/{other}/logs?stdout=1") == "404"
    assert asked("GET", "/images/json") == "403"
    assert asked("GET", "/containers/x/../../images/json") == "403"
    assert asked("POST", f"/containers/{other}/kill") == "501"


def test_killed_worker_and_controller_fail_no_prediction(compose, key):
    before = {name: compose.services()[name].attrs["State"]["StartedAt"] for name in ("worker", "controller")}
    for name in before:
        compose.crash(name)
    answers = set()

    def back():
        answers.add(compose.score("double", key, {"x": 4})[0])
        state = {name: compose.services()[name].attrs["State"] for name in before}
        return all(each["Running"] and each["StartedAt"] != before[name] for name, each in state.items())

    until(back, 60, "the engine starts both again")
    until(lambda: compose.parts_up() == PARTS, 60, "both work again")
    compose.deploy("double", "green", **compose.rest("GET", "onlineEndpoints/double/deployments/blue")["properties"])
    assert answers == {200}
    assert compose.score("double", key, {"x": 5}) == (200, {"twice": 10})


def test_models_come_back_after_down_and_up(compose, key):
    compose.call("down", timeout_s=180)
    assert [each.name for each in compose.left() if isinstance(each, Container | Network)] == []
    compose.call("up", "-d", timeout_s=180)
    until(lambda: compose.answer(key) == (200, {"twice": 8}), 90, "a prediction")


def test_down_takes_everything_away(compose, key):
    """The last test: nothing of the project is on the engine then, the instances of models included."""
    until(lambda: len(compose.instances()) == 2, 60, "both instances")
    compose.down()
    assert compose.left() == []


def sign_in(product, password):
    """The names of the cookies one has after trying."""
    context = ssl.create_default_context(cafile=str(product.home / "ca.pem"))
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor(jar)
    )
    base = f"https://localhost:{product.tls}"
    page = opener.open(f"{base}/accounts/login/", timeout=30).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page).group(1)
    form = urllib.parse.urlencode({"login": "admin", "password": password, "csrfmiddlewaretoken": token}).encode()
    opener.open(urllib.request.Request(f"{base}/accounts/login/", form, {"Referer": f"{base}/accounts/login/"}))
    return {cookie.name for cookie in jar}

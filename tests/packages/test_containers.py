"""Packages on the real engine: built, deployed without model or code, and run where there is no Portway."""

import http.client
import io
import json
import subprocess
import tarfile
import time
import uuid
from contextlib import contextmanager

import pytest

from apps.builds import declared
from apps.builds.models import Package
from apps.builds.packaging import domain as packaging
from apps.builds.packaging.domain import PackageSpec
from apps.compute import domain as compute
from apps.core.errors import Problem
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec
from apps.registry import storage
from apps.registry.domain import register_code, register_environment, register_model
from apps.registry.enums import ModelType
from tests.engine import BASE, docker_client, engine  # noqa: F401 -- fixtures
from tests.world import PLAIN, tree_of

# where an engine makes its bridges, besides this machine's own addresses
BRIDGES = ["127.0.0.1", "::1", "localhost", "172.16.0.0/12", "192.168.0.0/16"]
pytestmark = [pytest.mark.envoy, pytest.mark.docker, pytest.mark.timeout(600), pytest.mark.allow_hosts(BRIDGES)]
ROWS = {"dataframe_split": {"columns": list("abc"), "data": [[1.0, 2.0, 3.0], [4.0, 0.0, 1.0]]}}
UP_S = 60.0


@pytest.fixture
def containers(docker_client, settings, world):  # noqa: F811
    compute.driver.cache_clear()
    settings.DEFAULT_DRIVER = "docker"
    return world


def diabetes(world):
    """An MLflow model that adds up its three columns."""
    import mlflow
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0, 0]], columns=list("abc"))
    model = LinearRegression().fit(rows, [1.0, 1.0, 1.0, 0.0])
    with storage.scratch() as folder:
        mlflow.sklearn.save_model(model, folder / "model")
        tree = storage.adopt(folder / "model")
    registered, _ = register_model(
        workspace=world.workspace, name="diabetes", tree=tree, path="", actor=world.actor, type=ModelType.MLFLOW
    )
    return registered


def package(world, model, name="pkg", **spec):
    made, operation = packaging.package(model=model, name=name, spec=PackageSpec(**spec), actor=world.actor)
    world.run(operation)
    return type(made).objects.get(pk=made.pk)


def deployed(world, name, version, **changes):
    """What an endpoint with nothing but the package answers to `ROWS` or `body`."""
    endpoint = world.endpoint(name)
    changes = {"instance_type": "medium"} | changes
    world.deploy(endpoint, spec=DeploymentSpec(environment=version, **changes))
    world.traffic(endpoint, blue=100)
    return endpoint


@contextmanager
def running(client, image, **options):
    """A container of the image as anybody would run it; its address."""
    port, path = options.pop("port", 5001), options.pop("path", "/")
    options = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"]} | options
    label = {"portway.test": "yes"}
    container = client.containers.run(
        image, detach=True, ports={f"{port}/tcp": ("127.0.0.1", None)}, labels=label, **options
    )
    try:
        deadline = time.monotonic() + UP_S
        while True:
            container.reload()
            found = container.ports.get(f"{port}/tcp")
            with_answer = found and answered(int(found[0]["HostPort"]), "GET", path)
            if with_answer and with_answer[0] == 200:
                yield int(found[0]["HostPort"])
                return
            if container.status == "exited" or time.monotonic() > deadline:
                raise AssertionError(container.logs().decode()[-3000:])
            time.sleep(0.2)
    finally:
        container.remove(force=True, v=True)


def answered(port, method, path, body=None):
    """(status, text), or None while nobody listens."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        link.request(method, path, json.dumps(body) if body is not None else None)
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        link.close()


def loaded(client, parts, name):
    """The archive loaded on the engine under a name of its own."""
    (image,) = client.images.load(b"".join(parts))
    image.tag(name, "other")
    return f"{name}:other"


def unpacked(parts, folder):
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts)), mode="r:gz") as tar:
        tar.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mlflow's own while it saves the model
def test_an_mlflow_model_is_the_same_everywhere(containers, docker_client, settings, tmp_path):  # noqa: F811
    world, client = containers, docker_client
    settings.BUILD_ARGS = {"INDEX_PASSWORD": "s3cret-of-the-index"}
    version = package(world, diabetes(world), mode="copy")
    row = Package.objects.get()
    assert row.ready_at
    assert "scikit-learn==" in row.lock
    image = client.images.get(row.image.image_id)
    config = image.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["ExposedPorts"] == {"5001/tcp": {}}
    assert "s3cret-of-the-index" not in json.dumps([image.history(), image.attrs])

    endpoint = deployed(world, "docker", version)
    blue = endpoint.deployments.get()
    assert blue.serving.spec["mounts"] == []
    assert blue.serving.spec["image"] == row.image.image_id
    status, _, expected = world.score("docker", body=ROWS)
    assert status == 200, expected
    settings.DEFAULT_DRIVER = "process"
    compute.driver.cache_clear()
    compute.seed_targets()
    endpoint = deployed(world, "process", version)
    assert world.score("process", body=ROWS)[2] == expected

    name = f"portway-test-{uuid.uuid4().hex[:8]}"
    try:
        _, parts = packaging.export(version=version, kind="image", actor=world.actor)
        with running(client, loaded(client, parts, name)) as port:
            assert answered(port, "GET", "/") == (200, "Healthy")
            assert json.loads(answered(port, "POST", "/score", ROWS)[1]) == expected
            assert answered(port, "GET", "/swagger.json")[0] == 200
    finally:
        client.images.remove(f"{name}:other")
    _, parts = packaging.export(version=version, kind="context", actor=world.actor)
    top = unpacked(parts, tmp_path)
    try:
        client.images.build(path=str(top), tag=f"{name}:built", rm=True, network_mode="host")
        with running(client, f"{name}:built") as port:
            assert json.loads(answered(port, "POST", "/score", ROWS)[1]) == expected
    finally:
        client.images.remove(f"{name}:built")


SCRIPT = """import os, pathlib
def init():
    global weight
    weight = int(pathlib.Path(os.environ["AZUREML_MODEL_DIR"], "weights").read_text())
def run(data):
    return {"times": weight, "greeting": os.environ["GREETING"], "odd": os.environ["ODD"]}
"""
ODD = 'a "b" $HOME \\ {c} # d'


def script_parts(world, **files):
    model, _ = register_model(
        workspace=world.workspace, name="m", tree=tree_of(weights="41"), path="", actor=world.actor
    )
    tree = tree_of(**{"my score's $x.py": SCRIPT, **files})
    code, _ = register_code(workspace=world.workspace, name="code", tree=tree, actor=world.actor)
    base, _ = register_environment(workspace=world.workspace, name="plain", conda_file=PLAIN, actor=world.actor)
    return model, {"code": code, "scoring_script": "my score's $x.py", "base": base}


def test_a_script_with_its_variables(containers, docker_client, tmp_path):  # noqa: F811
    world, client = containers, docker_client
    model, parts = script_parts(world)
    variables = {"GREETING": "hello", "ODD": ODD}
    version = package(world, model, mode="copy", environment_variables=variables, mount_path="/srv/models", **parts)
    deployed(world, "iris", version, environment_variables={"GREETING": "mine"}, instance_type="small")
    assert world.score(body=1)[2] == {"times": 41, "greeting": "mine", "odd": ODD}
    with running(client, Package.objects.get().image.image) as port:
        assert json.loads(answered(port, "POST", "/score", 1)[1]) == {"times": 41, "greeting": "hello", "odd": ODD}


def test_download_mode_mounts_what_copy_mode_has_in_it(containers):
    world = containers
    model, parts = script_parts(world)
    version = package(world, model, environment_variables={"GREETING": "a", "ODD": ODD}, **parts)
    assert Package.objects.get().image is None
    endpoint = deployed(world, "iris", version, instance_type="small")
    assert any(target.endswith("/m/1") for _, target in endpoint.deployments.get().serving.spec["mounts"])
    assert world.score(body=1)[2]["times"] == 41
    with pytest.raises(Problem) as refused:
        packaging.export(version=version, kind="image", actor=world.actor)
    assert "mode copy" in refused.value.next_step


SERVER = """
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = pathlib.Path(os.environ["AZUREML_MODEL_DIR"], "weights").read_bytes()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
ROUTES = {
    "livenessRoute": {"port": 8080, "path": "/live"},
    "readinessRoute": {"port": 8080, "path": "/ready"},
    "scoringRoute": {"port": 8080, "path": "/score"},
}


def test_a_container_of_ones_own(containers, docker_client, tmp_path):  # noqa: F811
    world, client = containers, docker_client
    model, _ = script_parts(world)
    dockerfile = f'FROM {BASE}\nCOPY app.py /app.py\nUSER 1234\nCMD ["python", "-u", "/app.py"]\n'
    base, _ = register_environment(
        workspace=world.workspace,
        name="own",
        build_context=tree_of(Dockerfile=dockerfile, **{"app.py": SERVER}),
        actor=world.actor,
    )
    version = package(world, model, base=base, server="custom", inference_config=ROUTES, mode="copy")
    deployed(world, "iris", version, instance_type="small")
    assert world.score(body=1)[2] == 41
    row = Package.objects.get()
    with running(client, row.image.image, port=8080) as port:
        assert answered(port, "POST", "/score", 1) == (200, "41")
    top = unpacked(packaging.export(version=version, kind="context", actor=world.actor)[1], tmp_path)
    assert (top / "README.md").read_text().count("    docker build") == 2
    assert (top / "base" / "Dockerfile").is_file()


def test_an_image_that_is_gone_is_built_again(containers, docker_client):  # noqa: F811
    world, client = containers, docker_client
    model, parts = script_parts(world)
    variables = {"GREETING": "hello", "ODD": "x"}
    version = package(world, model, mode="copy", environment_variables=variables, **parts)
    build = Package.objects.get().image
    client.images.remove(build.image, force=True)
    with pytest.raises(Problem) as refused:
        packaging.export(version=version, kind="image", actor=world.actor)
    assert refused.value.code == "image-unavailable"
    deployed(world, "iris", version, instance_type="small")
    assert world.score(body=1)[2]["times"] == 41


def test_no_image_is_pruned_that_a_package_has(containers):
    from apps.builds import prune

    world = containers
    model, parts = script_parts(world)
    package(world, model, mode="copy", environment_variables={"GREETING": "a", "ODD": "b"}, **parts)
    build = Package.objects.get().image
    (stored,) = prune.stored([build])
    assert stored.users == ("package pkg:1",)
    assert "package pkg:1" in prune.remove(build.pk)


def test_the_installed_command_line_agrees(containers, docker_client, tmp_path):  # noqa: F811
    """`docker build` and `docker run` as the README says them, where there is a command line of the engine."""
    if subprocess.run(["sh", "-c", "command -v docker"], capture_output=True, check=False).returncode:
        pytest.skip("no docker command")
    model, parts = script_parts(containers)
    version = package(containers, model, mode="copy", environment_variables={"GREETING": "a", "ODD": "b"}, **parts)
    top = unpacked(packaging.export(version=version, kind="context", actor=containers.actor)[1], tmp_path)
    name = f"portway-test-{uuid.uuid4().hex[:8]}"
    command = ["docker", "build", "--network", "host", "-t", name, "."]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    docker_client.images.remove(name)


def test_nothing_is_left_of_a_package_that_fails(containers):
    world = containers
    model, _ = register_model(
        workspace=world.workspace, name="m", tree=tree_of(weights="41"), path="", actor=world.actor
    )
    base, _ = register_environment(
        workspace=world.workspace,
        name="broken",
        build_context=tree_of(Dockerfile=f"FROM {BASE}\nRUN false\n"),
        inference_config=ROUTES,
        actor=world.actor,
    )
    _, operation = packaging.package(
        model=model, name="pkg", spec=PackageSpec(base=base, server="custom"), actor=world.actor
    )
    with pytest.raises(Problem, match="still being made"):
        domain.create_deployment(
            endpoint=world.endpoint(),
            name="blue",
            spec=DeploymentSpec(environment=operation and Package.objects.get().environment),
            actor=world.actor,
        )
    assert world.run_failing(operation)["code"] == "environment-failed"
    assert not Package.objects.exists()
    assert not type(base).objects.filter(asset__name="pkg").exists()


@pytest.mark.slow
def test_a_triton_model_is_served_where_there_is_no_portway(containers, docker_client):  # noqa: F811
    from tests.endpoints.test_servers import client as nvidia
    from tests.endpoints.test_servers import register

    world = containers
    with storage.scratch() as folder:
        nvidia("model", folder)
        model = register(world, folder)
    # the official image has the library; the one that tests run on may be a copy of the machine's own system
    library = f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libpython3.11\n"
    base, _ = register_environment(
        workspace=world.workspace,
        name="library",
        build_context=tree_of(Dockerfile=library),
        requirements=declared.TRITON,
        actor=world.actor,
    )
    version = package(world, model, server="triton", mode="copy", base=base)
    image = Package.objects.get().image.image
    with running(docker_client, image, port=8000, tmpfs={"/tmp": "exec"}, path="/v2/health/ready") as port:
        assert answered(port, "POST", "/v2/repository/index")[0] == 200
        asked = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]}
        expected = json.loads(answered(port, "POST", "/v2/models/half/infer", asked)[1])["outputs"][0]["data"]
    assert expected == [0.5, 1.0, 1.5]
    deployed(world, "net", version, max_concurrent_requests=4)
    status, _, found = world.score("net", body=asked, path="/v2/models/half/infer")
    assert status == 200, found
    assert found["outputs"][0]["data"] == expected

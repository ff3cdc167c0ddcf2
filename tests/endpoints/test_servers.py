"""Every kind of server that processes can run, deployed for real and asked through the gateway."""

import json
import re
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings

from apps.builds import domain as builds
from apps.core.errors import Problem
from apps.endpoints import domain, servers
from apps.endpoints.domain import DeploymentSpec
from apps.gateway import domain as gateway
from apps.gateway.models import Route
from apps.registry import storage
from apps.registry.domain import register_environment, register_model
from apps.registry.enums import ModelType
from tests.world import tree_of

pytestmark = pytest.mark.envoy

CLIENT = "tritonclient[grpc,http]==2.73.0\nonnx==1.23.2"
AZUREML = {servers.PROPERTY: servers.Server.AZUREML}
WHERE = """import os
def init():
    global found
    found = os.environ["AZUREML_MODEL_DIR"]
def run(data): return found
"""


@pytest.fixture(autouse=True)
def real_processes(settings):
    settings.DEFAULT_DRIVER = "process"


def register(world, folder, name="net"):
    version, _ = register_model(
        workspace=world.workspace,
        name=name,
        tree=storage.adopt(folder),
        path="",
        actor=world.actor,
        type=ModelType.TRITON,
    )
    return version


def client(*arguments):
    """NVIDIA's client, in an environment with its own pins."""
    built = builds.ensure(builds.EnvironmentSpec(requirements=CLIENT), log=lambda _: None, check=lambda: None)
    script = Path(__file__).with_name("triton_client.py")
    done = subprocess.run(
        [built.python, script, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) if done.stdout else None


@pytest.fixture
def triton(world):
    endpoint = world.endpoint("net")
    with storage.scratch() as folder:
        client("model", folder)
        model = register(world, folder)
    world.deploy(endpoint, spec=DeploymentSpec(model=model, instance_type="medium", max_concurrent_requests=4))
    world.traffic(endpoint, blue=100)
    return world


SEEN = {
    "live": True,
    "ready": True,
    "name": "triton",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "batch": 4,
    "index": ["fixed", "half"],
    "answers": [[[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]] * 2,
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_triton_answers_its_own_client_over_http_and_grpc(triton, secure):
    assert triton.fresh_named("net").scoring_uri == f"{settings.BASE_URL}/e/net/"
    address = f"localhost:{settings.PORT if secure else settings.HTTP_PORT}"
    more = [settings.HOME.ca] if secure else []
    for kind, where in (("http", "/e/net"), ("grpc", "net")):
        seen = client(kind, address, where, triton.key("net"), *more)
        assert seen.pop("counted") >= 2
        assert seen.pop("unknown")
        assert re.search("401|Unauthorized|UNAUTHENTICATED", seen.pop("no_key"), re.IGNORECASE)
        assert seen == SEEN


def test_a_broken_triton_model_says_which_and_why(world):
    endpoint = world.endpoint("net")
    with storage.scratch() as folder:
        (folder / "bad" / "1").mkdir(parents=True)
        (folder / "bad" / "1" / "model.onnx").write_bytes(b"no model at all")
        model = register(world, folder)
    spec = DeploymentSpec(model=model, instance_type="medium")
    _, operation = domain.create_deployment(endpoint=endpoint, name="blue", spec=spec, actor=world.actor)
    error = world.run_failing(operation)
    assert error["code"] == "model-load"
    assert error["fault"] == "user"
    assert "bad" in error["evidence"]


def test_microsofts_server_scores_with_its_own_headers(world):
    endpoint = world.endpoint()
    model, _ = register_model(
        workspace=world.workspace, name="m", tree=tree_of(weights="1"), path="", actor=world.actor
    )
    blue = world.deploy(endpoint, script=WHERE, model=model, properties=AZUREML, max_concurrent_requests=2)
    world.traffic(endpoint, blue=100)
    status, headers, body = world.score()
    assert (status, body) == (200, "/var/azureml-app/azureml-models/m/1")
    assert headers["x-ms-run-function-failed"] == "False"
    context = ssl.create_default_context(cafile=str(settings.HOME.ca))
    asked = urllib.request.Request(
        f"https://localhost:{settings.PORT}/e/iris/swagger.json", headers={"Authorization": f"Bearer {world.key()}"}
    )
    with urllib.request.urlopen(asked, context=context, timeout=20) as answer:
        assert json.loads(answer.read())["swagger"] == "2.0"

    spec = domain.spec_of(blue, properties={})
    world.run(domain.update_deployment(deployment=blue, spec=spec, actor=world.actor))
    blue.refresh_from_db()
    assert blue.revision == 2  # another server needs other replicas
    assert world.score()[0] == 200


@pytest.mark.parametrize(
    ("script", "code", "evidence"),
    [
        ("from json import nowhere\ndef init(): pass\ndef run(x): return x\n", "UserScriptImportError", "score.py:1"),
        ("def init():\n    raise RuntimeError('no luck')\ndef run(x): return x\n", "UserScriptInitFailed", "no luck"),
        ("def init(): globals()\n", "UserScriptFunctionNotFound", ""),
        ("import os\ndef init(): os._exit(1)\ndef run(x): return x\n", "UserScriptInitFailed", ""),
    ],
)
def test_microsofts_server_that_cannot_start_says_why(world, script, code, evidence):
    endpoint = world.endpoint()
    spec = world.spec(script=script, properties=AZUREML)
    _, operation = domain.create_deployment(endpoint=endpoint, name="blue", spec=spec, actor=world.actor)
    error = world.run_failing(operation)
    assert (error["azure"], error["fault"]) == (code, "user")
    assert evidence in error["evidence"]


def test_microsofts_server_falls_back_where_its_pins_fit_nothing(world):
    endpoint = world.endpoint()
    environment, _ = register_environment(
        workspace=world.workspace,
        name="old",
        version="1",
        requirements="pydantic<2\nflask<3\nwerkzeug<3",
        actor=world.actor,
    )
    spec = world.spec(properties=AZUREML, environment=environment)
    _, operation = domain.create_deployment(endpoint=endpoint, name="blue", spec=spec, actor=world.actor)
    world.run(operation)
    said = "\n".join(step.log for step in operation.steps.all())
    assert "azureml-inference-server-http==1.5.1 does not fit" in said
    assert "Portway's own server is used instead" in said
    assert world.score(azureml_model_deployment="blue")[0] == 200


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ({servers.PROPERTY: "tomcat"}, servers.PROPERTY),
        ({servers.GRPC_PORT: "x"}, servers.GRPC_PORT),
        ({servers.GRPC_PORT: "0"}, servers.GRPC_PORT),
        ({servers.GRPC_PORT: "9" * 40}, servers.GRPC_PORT),
        ({servers.GRPC_PORT: "0000801234"}, servers.GRPC_PORT),
        ({servers.GRPC_PORT: "8001"}, servers.GRPC_PORT),  # no container
    ],
)
def test_properties_that_name_no_server_are_refused(world, properties, field):
    with pytest.raises(Problem) as raised:
        domain.create_deployment(
            endpoint=world.endpoint(), name="blue", spec=world.spec(properties=properties), actor=world.actor
        )
    assert field in raised.value.target


def test_a_route_that_cannot_be_told_keeps_no_other_from_being_published(world):
    """Whoever brought it about: the others' routes, keys and repairs go on reaching the gateway."""
    world.endpoint()
    world.endpoint("other")
    bad = {"replica_set": None, "concurrency": 1, "request_timeout_ms": -1, "session": "", "ready_path": "/readyz"}
    Route.objects.filter(endpoint="iris").update(deployments={"blue": bad})
    assert [each.name for each in gateway.desired()] == ["other"]
    third = world.endpoint("third")
    assert world.fresh(third).state == "Succeeded"
    assert world.score("third", key="nonsense")[0] == 401

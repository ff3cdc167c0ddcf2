"""Deployments in real containers of a real engine: the fast path, and images that bring their own server."""

import http.client

import pytest
from django.conf import settings

from apps.compute import domain as compute
from apps.compute.models import Replica
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec
from apps.registry.domain import register_environment, register_model
from tests.engine import BASE, docker_client, engine  # noqa: F401 -- fixtures
from tests.world import tree_of

# where an engine makes its bridges, besides this machine's own addresses
BRIDGES = ["127.0.0.1", "::1", "localhost", "172.16.0.0/12", "192.168.0.0/16"]
pytestmark = [pytest.mark.envoy, pytest.mark.timeout(300), pytest.mark.allow_hosts(BRIDGES)]

WHO = """import os, pathlib
def init(): pass
def run(data):
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return {"uid": os.getuid(), "caps": status["CapEff"].strip(), "root": os.access("/", os.W_OK), "data": data}
"""


@pytest.fixture
def containers(docker_client, settings, world):  # noqa: F811
    compute.driver.cache_clear()
    settings.DEFAULT_DRIVER = "docker"
    return world


def test_a_script_runs_in_a_container_without_rights(containers):
    world = containers
    endpoint = world.endpoint()
    blue = world.deploy(endpoint, script=WHO)
    world.traffic(endpoint, blue=100)
    status, _, body = world.score(body=7)
    assert (status, body) == (200, {"uid": 10001, "caps": "0000000000000000", "root": False, "data": "7"})
    assert blue.serving.driver == "docker"
    replica = Replica.objects.get()
    assert replica.isolation.startswith("docker")
    world.run(domain.delete_endpoint(endpoint=world.fresh(endpoint), actor=world.actor))
    assert compute.driver("docker").list(owner=compute.OWNER) == []


FLASK = """
import os, time
from flask import Flask, Response, jsonify, request
app = Flask(__name__)

@app.get("/live")
def live(): return "ok"

@app.get("/ready")
def ready(): return "ok"

@app.post("/predict/<int:times>")
def predict(times): return jsonify([each * times for each in request.get_json()])

@app.get("/model")
def model(): return open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "weights")).read()

@app.get("/stream")
def stream():
    def lines():
        for number in range(3):
            yield f"data: {number}\\n\\n"
            time.sleep(0.2)
    return Response(lines(), mimetype="text/event-stream")

app.run(host="0.0.0.0", port=8080)
"""

ROUTES = {
    "livenessRoute": {"port": 8080, "path": "/live"},
    "readinessRoute": {"port": 8080, "path": "/ready"},
    "scoringRoute": {"port": 8080, "path": "/predict/2"},
}


def routes(port, *, ready="/", score="/"):
    return {
        "livenessRoute": {"port": port, "path": ready},
        "readinessRoute": {"port": port, "path": ready},
        "scoringRoute": {"port": port, "path": score},
    }


def built(world, name, inference_config, **files):
    """An environment of a Dockerfile and the files beside it."""
    environment, _ = register_environment(
        workspace=world.workspace,
        name=name,
        version="1",
        build_context=tree_of(**files),
        dockerfile_path="Dockerfile",
        inference_config=inference_config,
        actor=world.actor,
    )
    return environment


def get(world, path, name="iris"):
    link = http.client.HTTPConnection("localhost", settings.HTTP_PORT, timeout=30)
    try:
        link.request("GET", f"/e/{name}{path}", headers={"Authorization": f"Bearer {world.key(name)}"})
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        link.close()


def test_a_flask_container_of_ones_own(containers):
    world = containers
    endpoint = world.endpoint()
    model, _ = register_model(
        workspace=world.workspace, name="m", tree=tree_of(weights="41"), path="", actor=world.actor
    )
    dockerfile = f'FROM {BASE}\nRUN pip install -q flask\nCOPY app.py /app.py\nCMD ["python", "/app.py"]\n'
    environment = built(world, "flask", ROUTES, Dockerfile=dockerfile, **{"app.py": FLASK})
    spec = DeploymentSpec(
        model=model,
        model_mount_path="/var/models",
        environment=environment,
        environment_variables={"GREETING": "hello"},
        max_concurrent_requests=4,
    )
    world.deploy(endpoint, spec=spec)
    world.traffic(endpoint, blue=100)
    assert world.fresh(endpoint).scoring_uri.endswith("/e/iris/predict/2")
    assert world.score(body=[1, 2], path="/predict/2")[2] == [2, 4]
    assert world.score(body=[1, 2], path="/predict/5")[2] == [5, 10]
    assert get(world, "/model")[2] == "41"
    assert world.score(body=[1], path="/nowhere")[0] == 424
    status, headers, text = get(world, "/stream")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    assert text.count("data:") == 3


@pytest.mark.parametrize(
    ("inference_config", "evidence", "hint"),
    [
        (routes(8080, ready="/nope"), "answered 404", "nothing at this path"),
        (routes(9999, ready="/ready"), "port 9999", "0.0.0.0"),
    ],
)
def test_wrong_routes_say_what_was_asked_and_what_came(containers, settings, inference_config, evidence, hint):
    settings.START_DEADLINE_S = 6
    world = containers
    endpoint = world.endpoint()
    server = "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n    def do_GET(s):\n        s.send_response(404)\n        s.end_headers()\nh.HTTPServer(('', 8080), H).serve_forever()\n"  # noqa: E501
    dockerfile = f'FROM {BASE}\nCOPY app.py /app.py\nCMD ["python", "-u", "/app.py"]\n'
    environment = built(world, "plain-server", inference_config, Dockerfile=dockerfile, **{"app.py": server})
    spec = DeploymentSpec(environment=environment)
    _, operation = domain.create_deployment(endpoint=endpoint, name="blue", spec=spec, actor=world.actor)
    error = world.run_failing(operation)
    assert (error["code"], error["azure"]) == ("not-ready", "ResourceNotReady")
    assert evidence in error["evidence"]
    assert hint in error["next"]

"""Deployments in real containers of a real engine: the fast path, and images that bring their own server."""

import http.client
import io
import subprocess
import warnings
from dataclasses import replace
from importlib.metadata import version

import docker
import pytest
from django.conf import settings

from apps.builds import domain as builds
from apps.compute import domain as compute
from apps.compute.models import Replica
from apps.core.errors import Problem
from apps.endpoints import domain, servers
from apps.endpoints.domain import DeploymentSpec
from apps.registry import storage
from apps.registry.domain import register_environment, register_model
from apps.registry.enums import ModelType
from tests.endpoints.test_servers import client as triton_client
from tests.endpoints.test_servers import register as register_triton
from tests.engine import BASE
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
def containers(docker_client, settings, world):
    compute.driver.cache_clear()
    settings.DEFAULT_DRIVER = "docker"
    return world


@pytest.fixture
def diabetes():
    """Registers an MLflow model that adds up its three columns."""

    def register(world):
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

    return register


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


NGINX = """
daemon off; pid /tmp/nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
  server { listen 8081; location / { return 200 "static answer"; } location = /health { return 200; } }
}
"""


def test_nginx_with_static_answers(containers):
    world = containers
    endpoint = world.endpoint()
    dockerfile = (
        f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light\n"
        'COPY nginx.conf /etc/nginx/nginx.conf\nUSER 1000\nCMD ["nginx", "-e", "stderr"]\n'
    )
    files = {"Dockerfile": dockerfile, "nginx.conf": NGINX}
    environment = built(world, "nginx", routes(8081, ready="/health", score="/score"), **files)
    world.deploy(endpoint, spec=DeploymentSpec(environment=environment))
    world.traffic(endpoint, blue=100)
    assert get(world, "/anything")[2] == "static answer"
    assert world.score(body=1)[2] == "static answer"


MANY_MODELS = """
import json, os, pathlib
from flask import Flask, jsonify, request
app = Flask(__name__)
models = {each.stem: json.loads(each.read_text()) for each in pathlib.Path(os.environ["AZUREML_MODEL_DIR"]).iterdir()}

@app.get("/")
def health(): return "ok"

@app.post("/score")
@app.post("/score/<name>")
def score(name="double"):
    return jsonify([each * models[name]["factor"] for each in request.get_json()["data"]])
"""


def test_gunicorn_with_several_models(containers):
    world = containers
    endpoint = world.endpoint()
    dockerfile = f"FROM {BASE}\nRUN pip install -q flask gunicorn\nCOPY many.py /app/many.py\nWORKDIR /app\n"
    dockerfile += 'USER 1234\nCMD ["gunicorn", "-b", "0.0.0.0:5005", "-w", "2", "many:app"]\n'
    files = {"Dockerfile": dockerfile, "many.py": MANY_MODELS}
    environment = built(world, "many", routes(5005, score="/score"), **files)
    tree = tree_of(**{"double.json": '{"factor": 2}', "triple.json": '{"factor": 3}'})
    model, _ = register_model(workspace=world.workspace, name="m", tree=tree, path="", actor=world.actor)
    world.deploy(endpoint, spec=DeploymentSpec(model=model, environment=environment, max_concurrent_requests=2))
    world.traffic(endpoint, blue=100)
    assert world.score(body={"data": [1, 2]})[2] == [2, 4]
    assert world.score(body={"data": [1, 2]}, path="/score/triple")[2] == [3, 6]


@pytest.mark.filterwarnings("ignore")  # of mlflow's own while it saves the model
def test_mlflows_own_server(containers, diabetes):
    world = containers
    endpoint = world.endpoint()
    dockerfile = (
        f"FROM {BASE}\nRUN pip install -q mlflow=={version('mlflow')} scikit-learn=={version('scikit-learn')}\n"
        "ENV MLFLOW_HOME=/tmp HOME=/tmp\n"
        "CMD exec uvicorn --host 0.0.0.0 --port 5001 mlflow.pyfunc.scoring_server.app:app\n"
    )
    environment = built(world, "mlflow", routes(5001, ready="/ping", score="/invocations"), Dockerfile=dockerfile)
    spec = DeploymentSpec(
        model=diabetes(world),
        environment=environment,
        instance_type="medium",
        environment_variables={"__pyfunc_model_path__": "/var/azureml-app/azureml-models/diabetes/1"},
    )
    world.deploy(endpoint, spec=spec)
    world.traffic(endpoint, blue=100)
    rows = {"dataframe_split": {"columns": list("abc"), "data": [[1.0, 2.0, 3.0]]}}
    status, _, body = world.score(body=rows, path="/invocations")
    assert status == 200, body
    assert body["predictions"] == pytest.approx([6.0])


GRPC = """
import grpc
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer

class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

def echo(request, context): return request[::-1]

handler = grpc.method_handlers_generic_handler("test.Echo", {"Say": grpc.unary_unary_rpc_method_handler(echo)})
server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((handler,))
server.add_insecure_port("0.0.0.0:8500")
server.start()
HTTPServer(("0.0.0.0", 8501), Health).serve_forever()
"""
GRPC_CALL = """
import sys, grpc
address, endpoint, key = sys.argv[1:]
call = grpc.insecure_channel(address).unary_unary("/test.Echo/Say")
headers = (("authorization", f"Bearer {key}"), ("azureml-endpoint", endpoint))
print(call(b"abc", metadata=headers, timeout=20).decode())
"""


def test_a_container_that_speaks_grpc(containers):
    world = containers
    endpoint = world.endpoint()
    dockerfile = f'FROM {BASE}\nRUN pip install -q grpcio\nCOPY app.py /app.py\nCMD ["python", "/app.py"]\n'
    environment = built(world, "grpc", routes(8501), Dockerfile=dockerfile, **{"app.py": GRPC})
    spec = DeploymentSpec(environment=environment, properties={servers.GRPC_PORT: "8500"})
    world.deploy(endpoint, spec=spec)
    world.traffic(endpoint, blue=100)
    client = builds.ensure(builds.EnvironmentSpec(requirements="grpcio"), log=lambda _: None, check=lambda: None)
    command = [client.python, "-c", GRPC_CALL, f"localhost:{settings.HTTP_PORT}", "iris", world.key()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "cba\n", done.stderr


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


def scored(world, endpoint, **changes):
    world.deploy(endpoint, **changes)
    world.traffic(endpoint, blue=100)
    return world.score(body=7)


def test_a_script_runs_with_the_python_of_its_image(containers):
    """An environment of only an image: nothing is built, our server runs behind what the image has."""
    world = containers
    environment, _ = register_environment(
        workspace=world.workspace, name="bare", version="1", image=BASE, actor=world.actor
    )
    status, _, body = scored(world, world.endpoint(), script=WHO, environment=environment)
    assert (status, body["uid"]) == (200, 10001)


def test_microsofts_server_in_a_container(containers):
    properties = {servers.PROPERTY: servers.Server.AZUREML}
    status, headers, body = scored(containers, containers.endpoint(), script=WHO, properties=properties)
    assert (status, body["uid"]) == (200, 10001)
    assert headers["x-ms-run-function-failed"] == "False"


def test_an_mlflow_model_without_code_in_a_container(containers, diabetes):
    with warnings.catch_warnings(action="ignore"):  # MLflow's own while it saves the model
        model = diabetes(containers)
    endpoint = containers.endpoint()
    containers.deploy(endpoint, spec=DeploymentSpec(model=model))
    containers.traffic(endpoint, blue=100)
    status, _, body = containers.score(body={"input_data": {"columns": list("abc"), "data": [[1.0, 2.0, 3.0]]}})
    assert (status, body) == (200, pytest.approx([6.0]))


LABELS = {"portway.test": settings.HOME.installation}  # tests.engine removes what carries it


def has_libpython(client):
    code = "import ctypes; ctypes.CDLL('libpython3.11.so.1.0')"
    try:
        client.containers.run(BASE, ["python", "-c", code], remove=True, network_mode="none")
    except docker.errors.ContainerError:
        return False
    return True


def test_triton_in_a_container(containers, docker_client):
    world = containers
    with storage.scratch() as folder:
        triton_client("model", folder)
        model = register_triton(world, folder)
    endpoint = world.endpoint("net")
    spec = DeploymentSpec(model=model, instance_type="medium", max_concurrent_requests=4)
    if not has_libpython(docker_client):  # the stand-in for the official image of a machine without a registry
        _, operation = domain.create_deployment(endpoint=endpoint, name="green", spec=spec, actor=world.actor)
        assert "libpython3.11.so" in world.run_failing(operation)["message"]
    tag = f"portway-test-libpython:{settings.HOME.installation}"
    dockerfile = f"FROM {BASE}\nRUN apt-get update -qq && apt-get install -y -qq libpython3.11\n"
    docker_client.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=tag, labels=LABELS, rm=True)
    environment, _ = register_environment(
        workspace=world.workspace, name="lib", version="1", image=tag, requirements="numpy<2", actor=world.actor
    )
    world.deploy(endpoint, spec=replace(spec, environment=environment))
    world.traffic(endpoint, blue=100)
    for kind, where in (("http", "/e/net"), ("grpc", "net")):
        seen = triton_client(kind, f"localhost:{settings.HTTP_PORT}", where, world.key("net"))
        assert seen["answers"] == [[[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]] * 2


def test_a_container_without_an_engine_is_refused_at_once(world, settings):
    """No image is looked at and nothing is left: the workspace has no compute for it."""
    settings.DEFAULT_DRIVER = "process"
    endpoint = world.endpoint()
    environment, _ = register_environment(
        workspace=world.workspace, name="own", version="1", image="a/b", inference_config=ROUTES, actor=world.actor
    )
    with pytest.raises(Problem) as raised:
        domain.create_deployment(
            endpoint=endpoint, name="blue", spec=DeploymentSpec(environment=environment), actor=world.actor
        )
    assert raised.value.code in {"no-target", "target-unfit"}
    assert endpoint.deployments.count() == 0

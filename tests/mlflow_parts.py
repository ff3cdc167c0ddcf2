"""A real MLflow server and a web behind the real gateway, and small requests straight to MLflow's socket."""

import contextlib
import http.client
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer

from apps.core.unixhttp import UnixConnection

SOURCE = Path(__file__).resolve().parent.parent
API = "/mlflow/api/2.0/mlflow/"
MLMODEL = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    env: {conda: conda.yaml}\nrun_id: abc\n"


def start_mlflow():
    """Start the server as the supervisor does; returns when it answers."""
    socket = settings.HOME.mlflow_socket
    socket.unlink(missing_ok=True)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings", "PORTWAY_HOME": str(settings.HOME.root)}
    with (settings.HOME.logs / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "mlflow_server"], cwd=SOURCE, env=environment, stdout=log, stderr=log
        )
    deadline = time.monotonic() + 90
    while True:
        try:
            if call("GET", "/mlflow/health")[0] == 200:
                return process
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError((settings.HOME.logs / "mlflow.log").read_text()[-3000:])
        time.sleep(0.1)


def call(method, path, body=None, *, workspace="default", user="test", **headers):
    """(status, parsed answer) of a request to MLflow's socket, as the gateway would send it."""
    link = UnixConnection(settings.HOME.mlflow_socket, timeout=10)
    sent = {"x-portway-user": user, "x-mlflow-workspace": workspace, "content-type": "application/json"} | headers
    data = body if isinstance(body, bytes) or body is None else json.dumps(body)
    try:
        with contextlib.suppress(BrokenPipeError):  # refused before the body was read: the answer is there all the same
            link.request(method, path, data, {name: value for name, value in sent.items() if value is not None})
        answer = link.getresponse()
        text = answer.read()
    finally:
        link.close()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, text


def good(method, path, body=None, **options):
    status, answer = call(method, path, body, **options)
    assert status == 200, (path, status, answer)
    return answer


def make_version(workspace, name, *, files=None, tags=None, model=True):
    """Register a model version as MLflow's client does: run, files, registered model, version; (run id, version)."""
    run = good("POST", API + "runs/create", {"experiment_id": "0", "start_time": 1}, workspace=workspace)["run"]
    run_id, place = run["info"]["run_id"], run["info"]["artifact_uri"]
    below = place.removeprefix("mlflow-artifacts:/")
    for file, content in (
        files if files is not None else {"MLmodel": MLMODEL, "conda.yaml": "dependencies: []\n"}
    ).items():
        url = f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{below}/model/{file}"
        good("PUT", url, content if isinstance(content, bytes) else content.encode(), workspace=workspace)
    if model:
        call("POST", API + "registered-models/create", {"name": name}, workspace=workspace)
    body = {"name": name, "source": f"{place}/model", "run_id": run_id, "tags": tags or []}
    found = good("POST", API + "model-versions/create", body, workspace=workspace)["model_version"]
    return run_id, found


class _Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    address_family = http.client.socket.AF_UNIX
    daemon_threads = True

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.base_environ, self.server_name, self.server_port = {}, "localhost", 443
        self.setup_environ()

    def get_request(self):
        link, _ = self.socket.accept()
        return link, ("127.0.0.1", 0)


@contextmanager
def web():
    """Django on web's socket, in a thread, on the test's own database."""
    from django.core.handlers.wsgi import WSGIHandler

    settings.HOME.web_socket.unlink(missing_ok=True)
    server = _Server(str(settings.HOME.web_socket), _Handler, bind_and_activate=False)
    server.allow_reuse_address = server.allow_reuse_port = False
    server.server_bind()
    server.server_activate()
    server.set_app(WSGIHandler())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        settings.HOME.web_socket.unlink(missing_ok=True)

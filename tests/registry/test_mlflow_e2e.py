"""MLflow's own client through the real gateway: what it registers becomes deployable, and nobody else sees it."""

import http.client
import json
import re
import ssl
import threading
import time
import uuid
import warnings
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from apps.accounts import domain as accounts
from apps.accounts.models import Membership, User, Workspace
from apps.registry import mlflow_link, storage
from apps.registry.models import MlflowImport, ModelVersion

pytestmark = [pytest.mark.envoy, pytest.mark.slow]


@pytest.fixture
def teams(mlflow_door):
    """Ann's and Bob's workspaces, each with a reader; (name of workspace, token) by person."""
    made = {}
    for owner, reader in (("ann", "rea"), ("bob", "ron")):
        workspace = Workspace.objects.create(name=f"{owner}-{uuid.uuid4().hex[:8]}")
        for name, role in ((owner, "data-scientist"), (reader, "reader")):
            user = User.objects.create_user(username=name, password="a long password")
            Membership.objects.create(user=user, workspace=workspace, role=role)
            made[name] = (workspace, accounts.create_token(user=user, name="test")[1])
    return made


@pytest.fixture
def client(mlflow_door, monkeypatch):
    """A function: MLflow's client as somebody, in their own or a named workspace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.sklearn
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(settings.HOME.ca))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "false")

    def make(token, workspace=None):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        mlflow.set_tracking_uri(mlflow_door)
        mlflow.set_registry_uri(mlflow_door)
        mlflow.set_workspace(workspace)
        return mlflow.MlflowClient()

    yield make
    mlflow.end_run()
    mlflow.set_workspace(None)
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@contextmanager
def controller():
    """The controller's job at its real pace."""
    stop = threading.Event()

    def run():
        while not stop.wait(1.0):
            mlflow_link.sync()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def log_model(name):
    import mlflow
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    with warnings.catch_warnings(), mlflow.start_run() as run:
        warnings.simplefilter("ignore")
        mlflow.log_metric("rmse", 0.5)
        model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
        mlflow.sklearn.log_model(model, name="model", registered_model_name=name, pip_requirements=["scikit-learn"])
    return run.info.run_id


def test_a_logged_model_is_deployable_within_two_seconds(teams, client):
    workspace, token = teams["ann"]
    client(token)
    with controller():
        run_id = log_model("diabetes")
        started = time.monotonic()
        while not ModelVersion.objects.filter(asset__workspace=workspace, asset__name="diabetes").exists():
            assert time.monotonic() - started < 10, list(MlflowImport.objects.values())
            time.sleep(0.02)
        took = time.monotonic() - started
    version = ModelVersion.objects.get(asset__workspace=workspace)
    assert (version.version, version.type, version.source) == ("1", "mlflow_model", "models:/diabetes/1")
    assert version.run_id == run_id
    assert "sklearn" in version.flavors
    assert (storage.tree_path(version.tree_id) / version.path / "MLmodel").is_file()
    print(f"\nimported after {took:.2f} s")  # noqa: T201
    assert took < 2.5


def test_a_workspace_sees_nothing_of_another(teams, client):
    from mlflow.exceptions import MlflowException

    ann, token = teams["ann"]
    client(token)
    run_id = log_model("secret")
    bob, token = teams["bob"]
    other = client(token)
    assert other.search_registered_models() == []
    assert other.search_model_versions("") == []
    assert [each.name for each in other.search_experiments()] in ([], ["Default"])
    for refused in (
        lambda: other.get_run(run_id),
        lambda: other.get_model_version("secret", "1"),
        lambda: other.download_artifacts(run_id, ""),
        lambda: other.set_tag(run_id, "a", "b"),
        lambda: other.delete_registered_model("secret"),
        lambda: other.create_model_version("secret", f"runs:/{run_id}/model", run_id),
    ):
        with pytest.raises(MlflowException):
            refused()
    with pytest.raises(MlflowException, match=r"403|no such workspace"):
        client(token, ann.name).search_registered_models()
    mlflow_link.sync()
    assert not ModelVersion.objects.filter(asset__workspace=bob).exists()


def test_readers_read_and_no_more(teams, client):
    from mlflow.exceptions import MlflowException

    _, token = teams["ann"]
    client(token)
    log_model("shared")
    _, token = teams["rea"]
    reader = client(token)
    assert [each.name for each in reader.search_registered_models()] == ["shared"]
    with pytest.raises(MlflowException, match="does not allow this"):
        reader.create_registered_model("mine")
    with pytest.raises(MlflowException, match="does not allow this"):
        reader.create_experiment("mine")


def test_somebody_in_two_workspaces_names_one(teams, client):
    import mlflow

    ann, token = teams["ann"]
    bob, _ = teams["bob"]
    Membership.objects.create(user=User.objects.get(username="ann"), workspace=bob, role="reader")
    client(token)
    log_model("firsts")
    assert client(token, bob.name).search_registered_models() == []
    assert [each.name for each in client(token, ann.name).search_registered_models()] == ["firsts"]
    assert {each.name for each in mlflow.list_workspaces()} == {ann.name, bob.name}


def get(path, **headers):
    """(status, headers, body) of a GET through the gateway."""
    context = ssl.create_default_context(cafile=str(settings.HOME.ca))
    link = http.client.HTTPSConnection("localhost", settings.PORT, timeout=20, context=context)
    try:
        link.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read().decode(errors="replace")
    finally:
        link.close()


def test_the_page_opens_for_somebody_signed_in(teams):
    browser = Client()
    browser.force_login(User.objects.get(username="rea"))
    cookie = f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"
    status, _, page = get("/mlflow/", cookie=cookie)
    assert status == 200
    script = re.search(r'src="(static-files/[^"]+\.js)"', page)[1]
    assert get(f"/mlflow/{script}", cookie=cookie)[0] == 200
    status, headers, _ = get("/mlflow", cookie=cookie)
    assert (status, headers["location"]) == (308, f"https://localhost:{settings.PORT}/mlflow/")
    status, _, listed = get("/mlflow/ajax-api/3.0/mlflow/workspaces", cookie=cookie)
    assert json.loads(listed)["workspaces"] == [{"name": teams["rea"][0].name}]
    assert get("/mlflow/ajax-api/2.0/mlflow/experiments/search", cookie=cookie, origin="https://localhost:1")[0] == 403


def test_strangers_stay_outside(mlflow_door):
    status, headers, _ = get("/mlflow/", accept="text/html")
    assert (status, headers["location"]) == (302, "/accounts/login/?next=/mlflow/")
    assert get("/mlflow/api/2.0/mlflow/experiments/search?max_results=1")[0] == 401
    assert get("/internal/authz/mlflow/mlflow/")[0] == 404
    forged = {"x_portway_user": "root", "x_mlflow_workspace": "default"}
    assert get("/mlflow/api/2.0/mlflow/experiments/search?max_results=1", **forged)[0] == 401


@pytest.mark.parametrize(
    "path", ["webhooks", "%77ebhooks", "runs/../webhooks", "runs/%2e%2e/webhooks", "gateway/secrets/list"]
)
def test_what_is_not_open_however_it_is_spelt(teams, path):
    _, token = teams["ann"]
    sent = {"authorization": f"Bearer {token}"}
    assert get(f"/mlflow/api/2.0/mlflow/{path}", **sent)[0] == 404
    assert get(f"/mlflow/api/3.0/mlflow/{path}", **sent)[0] == 404

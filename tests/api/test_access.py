"""Who may call what, over every URL of the API: a new URL without an expectation fails here."""

import json
import uuid

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.domain import create_token
from apps.builds.models import Package
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway.domain import ensure_keys, keys_of
from apps.registry.domain import (
    register_code,
    register_component,
    register_data,
    register_environment,
    register_model,
)
from apps.registry.models import Datastore
from tests.world import tree_of

REQUEST = str(uuid.uuid4())
OPEN = {"metadata/endpoints", "discovery", "msi/token", "healthz", "readyz"}
SIGNED_IN = {"api/v1/openapi.json", "api/v1/docs", "api/v1/workspaces"}
READ, WRITE, KEYS, DELETE = "reader", "scientist", "keys", "delete"
ASSETS = ("models", "environments", "codes", "components", "data")
# path below the workspace → method → who may
EXPECTED = {
    "": {"get": READ},
    "operations": {"get": READ},
    "operations/<uuid:operation>": {"get": READ},
    "requests/<str:request_id>": {"get": READ},
    "instanceTypes": {"get": READ},
    "usages": {"get": READ},
    "uploads": {"post": WRITE},
    **{f"{kind}": {"get": READ} for kind in ASSETS},
    **{f"{kind}/<str:name>": {"get": READ, "put": WRITE} for kind in ASSETS},
    **{f"{kind}/<str:name>/versions": {"get": READ} for kind in ASSETS},
    **{f"{kind}/<str:name>/versions/<str:version>": {"get": READ, "put": WRITE, "delete": DELETE} for kind in ASSETS},
    "datastores": {"get": READ},
    "datastores/<str:name>": {"get": READ, "put": WRITE, "delete": DELETE},
    "datastores/<str:name>/listSecrets": {"post": KEYS},
    "environments/<str:name>/versions/<str:version>/builds": {"get": READ},
    "environments/<str:name>/versions/<str:version>/build": {"post": WRITE},
    "environments/<str:name>/versions/<str:version>/package": {"get": READ},
    "environments/<str:name>/versions/<str:version>/export": {"get": READ},
    "models/<str:name>/versions/<str:version>/package": {"post": WRITE},
    "operations/<uuid:operation>/log": {"get": READ},
    "onlineEndpoints": {"get": READ},
    "onlineEndpoints/<str:endpoint>": {"get": READ, "put": WRITE, "patch": WRITE, "delete": DELETE},
    "onlineEndpoints/<str:endpoint>/listKeys": {"post": KEYS},
    "onlineEndpoints/<str:endpoint>/regenerateKeys": {"post": KEYS},
    "onlineEndpoints/<str:endpoint>/token": {"post": KEYS},
    "onlineEndpoints/<str:endpoint>/metrics": {"get": READ},
    "onlineEndpoints/<str:endpoint>/deployments": {"get": READ},
    "onlineEndpoints/<str:endpoint>/deployments/<str:deployment>": {
        "get": READ,
        "put": WRITE,
        "patch": WRITE,
        "delete": DELETE,
    },
    "onlineEndpoints/<str:endpoint>/deployments/<str:deployment>/getLogs": {"post": READ},
    "onlineEndpoints/<str:endpoint>/deployments/<str:deployment>/skus": {"get": READ},
}
SHORT = "api/v1/workspaces/<str:workspace>"


def urls(patterns=None, prefix=""):
    for pattern in patterns if patterns is not None else get_resolver("apps.api.urls").url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path


def test_every_url_has_an_expectation():
    known = {SHORT + (f"/{path}" if path else "") for path in EXPECTED} | OPEN | SIGNED_IN
    short = {path for path in urls() if not path.startswith(("subscriptions", "internal/"))}
    assert short - known == set()
    arm = {
        path.split("workspaces/<str:workspace>")[-1].strip("/") for path in urls() if path.startswith("subscriptions")
    }
    assert arm - set(EXPECTED) <= {path for path in arm if path.endswith("workspaces")}


@pytest.fixture
def rows(people, workspace):
    olga = people["olga"]
    endpoint = OnlineEndpoint.objects.create(workspace=workspace, name="iris", state="Succeeded")
    ensure_keys("iris")
    OnlineDeployment.objects.create(endpoint=endpoint, name="blue", instance_type="small", state="Succeeded")
    model, _ = register_model(workspace=workspace, name="thing", tree=tree_of(a="x"), path="", actor=olga)
    register_code(workspace=workspace, name="thing", tree=tree_of(b="x"), actor=olga)
    register_data(workspace=workspace, name="thing", uri="https://example.com/x", type="uri_file", actor=olga)
    Datastore.objects.create(workspace=workspace, name="thing", type="S3", settings={"bucketName": "thing"})
    made, _ = register_environment(workspace=workspace, name="thing", requirements="numpy", actor=olga)
    Package.objects.create(environment=made, model=model, ready_at=timezone.now())
    component = {"type": "command", "command": "true", "environment": "azureml:thing:1"}
    register_component(workspace=workspace, name="thing", document=component, actor=olga)
    operation = Operation.objects.create(kind="online-endpoint.create", workspace="lab", target="t", lock="other")
    line = {
        "ts": "2026-03-01T10:00:00.000Z",
        "request_id": REQUEST,
        "workspace": "lab",
        "endpoint": "iris",
        "code": 200,
    }
    log = settings.HOME.logs / "access.jsonl"
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return {"operation": operation.pk}


def client_of(user):
    client = APIClient()
    if user is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(user=user, name='t')[1]}")
    return client


def concrete(path, rows, workspace="lab"):
    made = f"/{SHORT}" + (f"/{path}" if path else "")
    values = {"workspace": workspace, "operation": str(rows["operation"]), "name": "thing", "version": "1"}
    values |= {"endpoint": "iris", "deployment": "blue", "request_id": REQUEST}
    for key, value in values.items():
        made = made.replace(f"<str:{key}>", value).replace(f"<uuid:{key}>", value)
    return made


CASES = [(path, method, need) for path, methods in EXPECTED.items() for method, need in methods.items()]


@pytest.mark.parametrize(
    ("path", "method", "need"), CASES, ids=[f"{method} {path or '.'}" for path, method, _ in CASES]
)
def test_strangers_see_nothing_and_readers_change_nothing(envoy_process, rows, people, path, method, need):
    url = concrete(path, rows)

    def status(user):
        return getattr(client_of(user), method)(
            url, {}, format="json" if path != "uploads" else "multipart"
        ).status_code

    before = (OnlineEndpoint.objects.values_list().get(), OnlineDeployment.objects.values_list().get(), keys_of("iris"))
    assert status(None) == 401
    assert status(people["charlie"]) == 404
    assert status(people["rita"]) == (200 if need == READ else 403)
    after = (OnlineEndpoint.objects.values_list().get(), OnlineDeployment.objects.values_list().get(), keys_of("iris"))
    assert after == before
    assert status(people["dan"]) not in {401, 403, 404}


def test_another_workspace_cannot_be_reached_through_ones_own(rows, people):
    client = client_of(people["charlie"])
    for path in EXPECTED:
        if path and "<" in path:
            assert client.get(concrete(path, rows, workspace="other")).status_code in {404, 405, 200}
    assert client.get(concrete("onlineEndpoints", rows, workspace="other")).json()["value"] == []
    assert client.get(concrete("onlineEndpoints/<str:endpoint>", rows, workspace="other")).status_code == 404
    assert client.get(concrete("operations/<uuid:operation>", rows, workspace="other")).status_code == 404
    assert client.get(f"/api/v1/workspaces/other/operations/{uuid.uuid4()}").status_code == 404


def test_revoked_expired_and_locked_tokens_are_401(people):
    from datetime import timedelta

    from django.utils import timezone

    from apps.accounts.domain import revoke_token

    row, token = create_token(user=people["dan"], name="a")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    assert client.get("/api/v1/workspaces").status_code == 200
    row.refresh_from_db()
    assert row.last_used_at is not None
    assert token not in str(row.__dict__)
    revoke_token(token=row, actor=people["dan"])
    assert client.get("/api/v1/workspaces").status_code == 401
    _, late = create_token(user=people["dan"], name="b", expires_at=timezone.now() - timedelta(seconds=1))
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {late}")
    assert client.get("/api/v1/workspaces").status_code == 401
    _, good = create_token(user=people["dan"], name="c")
    people["dan"].is_active = False
    people["dan"].save()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {good}")
    assert client.get("/api/v1/workspaces").status_code == 401


def test_a_managed_identity_token_works_on_the_api(people):
    _, token = create_token(user=people["dan"], name="sdk")
    client = APIClient()
    answer = client.get("/msi/token?resource=https://ml.azure.com&api-version=2019-08-01", HTTP_X_IDENTITY_HEADER=token)
    signed = answer.json()["access_token"]
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {signed}")
    assert [each["name"] for each in client.get("/api/v1/workspaces").json()["value"]] == ["lab"]
    assert client.get("/msi/token", HTTP_X_IDENTITY_HEADER="wrong").status_code == 401

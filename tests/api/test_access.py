"""Who may call what, over every URL of the API: a new URL without an expectation fails here."""

import json
import uuid

import pytest
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.domain import create_token
from apps.batch.engine import joblogs
from apps.batch.models import Schedule
from apps.builds.models import Package
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway.domain import ensure_keys, keys_of
from apps.registry import locations
from apps.registry.domain import (
    register_code,
    register_component,
    register_data,
    register_environment,
    register_model,
)
from apps.registry.models import Datastore
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_job, make_node
from tests.world import tree_of

REQUEST = str(uuid.uuid4())
OPEN = {"metadata/endpoints", "discovery", "msi/token", "healthz", "readyz"}
SIGNED_IN = {"api/v1/openapi.json", "api/v1/docs", "api/v1/workspaces"}
# signed: see test_batch_files and test_blobs
LINKS = {"joblogs/<str:token>"}
LINKS |= {f"storage.blob.<str:suffix>/<artifacts:container>{rest}" for rest in ("", "/<path:blob>")}
LINKS |= {"storage.blob.<str:suffix>/<str:container>", "storage.blob.<str:suffix>/<str:container>/<path:blob>"}
READ, WRITE, KEYS, DELETE, COMPUTE = "reader", "scientist", "keys", "delete", "compute"
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
    "codes/<str:name>/versions/<str:version>/startPendingUpload": {"post": WRITE},
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
    "batchEndpoints": {"get": READ},
    "batchEndpoints/<str:endpoint>": {"get": READ, "put": WRITE, "patch": WRITE, "delete": DELETE},
    "batchEndpoints/<str:endpoint>/listKeys": {"post": KEYS},
    "batchEndpoints/<str:endpoint>/jobs": {"get": READ},
    "batchEndpoints/<str:endpoint>/jobs/<str:job>": {"get": READ},
    "batchEndpoints/<str:endpoint>/deployments": {"get": READ},
    "batchEndpoints/<str:endpoint>/deployments/<str:deployment>": {
        "get": READ,
        "put": WRITE,
        "patch": WRITE,
        "delete": DELETE,
    },
    "batchEndpoints/<str:endpoint>/deployments/<str:deployment>/jobs": {"get": READ},
    "computes": {"get": READ},
    "computes/<str:compute>": {"get": READ, "put": COMPUTE, "delete": COMPUTE},
    "computes/<str:compute>/listNodes": {"post": READ},
    "computes/<str:compute>/nodes/<str:node>/preempt": {"post": COMPUTE},
    "schedules": {"get": READ},
    "schedules/<str:name>": {"get": READ, "put": WRITE, "delete": DELETE},
    "schedules/<str:name>/trigger": {"post": WRITE},
    "jobs": {"get": READ},
    "jobs/<str:job>": {"get": READ, "put": WRITE, "patch": WRITE, "delete": DELETE},
    "jobs/<str:job>/cancel": {"post": WRITE},
    "jobs/<str:job>/retry": {"post": WRITE},
    "jobs/<str:job>/miniBatches": {"get": READ},
    "jobs/<str:job>/miniBatches/<int:number>": {"get": READ},
    "jobs/<str:job>/stream": {"get": READ},
    "jobs/<str:job>/logs": {"get": READ},
    "jobs/<str:job>/logs/<path:name>": {"get": READ},
    "jobs/<str:job>/outputs/<str:name>": {"get": READ},
    "jobs/<str:job>/outputs/<str:name>/<path:path>": {"get": READ},
}
# under prefixes of their own; the first lists are those of batch endpoints again
HISTORY = {
    "runs/<str:run>/details": {"get": READ},
    "runs/<str:run>/children": {"get": READ},
    "runs/<str:run>/serviceinstances/<int:node>": {"get": READ},
    "rundata": {"post": READ},
}
LOCATION = "subscriptions/<str:subscription>/providers/Microsoft.MachineLearningServices/locations/<str:location>"
LOCATIONS = {f"{LOCATION}/usages", f"{LOCATION}/vmSizes"}
INVOKE = {
    "batch/<str:endpoint>/jobs": {"get": READ, "post": WRITE},
    "batch/<str:endpoint>/jobs/<str:job>": {"get": READ},
}
DATA = {"dataversion/batchGetResolvedUris": {"post": READ}}
SHORT = "api/v1/workspaces/<str:workspace>"
ARM = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/portway"
    "/providers/Microsoft.MachineLearningServices/workspaces/lab"
)


def urls(patterns=None, prefix=""):
    for pattern in patterns if patterns is not None else get_resolver("apps.api.urls").url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield path


def test_every_url_has_an_expectation():
    known = {SHORT + (f"/{path}" if path else "") for path in EXPECTED} | OPEN | SIGNED_IN | LINKS | set(INVOKE)
    elsewhere = ("subscriptions", "internal/", "mferp/", "history/", "data/")
    served = [path for path in urls() if not path.endswith("/<path:rest>")]  # what is not: see below
    short = {path for path in served if not path.startswith(elsewhere)}
    assert short - known == set()
    arm = {
        path.split("workspaces/<str:workspace>")[-1].strip("/") for path in served if path.startswith("subscriptions")
    } - LOCATIONS
    assert arm - set(EXPECTED) <= {path for path in arm if path.endswith("workspaces")}
    for prefix, expected in (("mferp/", EXPECTED), ("history/", HISTORY), ("data/", DATA)):
        found = {path.split("workspaces/<str:workspace>/")[-1] for path in served if path.startswith(prefix)}
        assert found
        assert found <= set(expected)


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
    job = make_world_of_jobs(workspace)
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
    return {"operation": operation.pk, "run": job.name}


def make_world_of_jobs(workspace):
    """A batch endpoint of the same name, with an ended job that has a log and a result."""
    cluster = make_cluster(workspace, "cpu", tier="LowPriority")
    make_node(cluster, "cpu-1")
    blue = make_batch_deployment(make_batch_endpoint(workspace, "iris"), "blue", cluster=cluster)
    Schedule.objects.create(workspace=workspace, name="thing", endpoint=blue.endpoint, cron="0 3 * * *")
    job = make_job(blue, "thing", parts=1, state="Completed")
    joblogs.note(job, "hello")
    path = locations.resolve(job.outputs["score"]["uri"], workspace=workspace, actor=None).local_path()
    path.mkdir(parents=True, exist_ok=True)
    (path / "predictions.csv").write_text("1\n")
    return job


def client_of(user):
    client = APIClient()
    if user is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(user=user, name='t')[1]}")
    return client


def concrete(path, rows, workspace="lab"):
    made = f"/{SHORT}" + (f"/{path}" if path else "")
    values = {"workspace": workspace, "operation": str(rows["operation"]), "name": "thing", "version": "1"}
    values |= {"endpoint": "iris", "deployment": "blue", "request_id": REQUEST}
    values |= {"compute": "cpu", "node": "cpu-1", "job": "thing", "number": "0", "run": "thing"}
    values["node"] = "0" if "runs/" in path else "cpu-1"
    values["path"] = "predictions.csv"
    if path.startswith("jobs/"):
        values["name"] = "logs/sys/master_role.txt" if "/logs/" in path else "score"
    for key, value in values.items():
        for kind in ("str", "uuid", "int", "path"):
            made = made.replace(f"<{kind}:{key}>", value)
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
    able = people["carl"] if need == COMPUTE else people["dan"]
    assert need != COMPUTE or status(people["dan"]) == 403
    assert status(able) not in {401, 403, 404}


OTHERS = [
    *((f"history/v1.0{ARM}/{path}", method, need) for path, each in HISTORY.items() for method, need in each.items()),
    *((f"data/v1.0{ARM}/{path}", method, need) for path, each in DATA.items() for method, need in each.items()),
    *(
        (f"mferp/managementfrontend{ARM}/{path}", "get", READ)
        for path in EXPECTED
        if path.startswith("batch") and "jobs" in path
    ),
    *((path, method, need) for path, each in INVOKE.items() for method, need in each.items()),
]


@pytest.mark.parametrize(("path", "method", "need"), OTHERS)
def test_the_other_prefixes_ask_the_same_questions(rows, people, path, method, need):
    url = f"/{concrete(path, rows).removeprefix('/' + SHORT.replace('<str:workspace>', 'lab') + '/')}"

    body = {"values": []} if path.startswith("data/") else {"runId": "thing"}

    def status(user):
        return getattr(client_of(user), method)(url, body, format="json").status_code

    assert status(None) == 401
    assert status(people["charlie"]) == 404
    assert status(people["rita"]) == (200 if need == READ else 403)
    assert status(people["dan"]) not in {401, 403, 404}


def test_subscriptions_tell_only_of_workspaces_of_ones_own(rows, people):
    for path in LOCATIONS:
        url = "/" + path.replace("<str:subscription>", ARM.split("/")[2]).replace("<str:location>", "local")
        assert client_of(None).get(url).status_code == 401
        answer = client_of(people["charlie"]).get(url)
        assert answer.status_code == 200
        assert "workspaces/lab" not in answer.content.decode()
    assert "workspaces/lab" in client_of(people["rita"]).get(url.replace("vmSizes", "usages")).content.decode()


def test_what_is_not_served_says_so_as_json(people):
    dan = client_of(people["dan"])
    for url in (f"{ARM}/connections/x", "/modelmanagement/v1.0/x", "/api/v1/nothing", f"/history/v1.0{ARM}/x"):
        assert client_of(None).get(url).status_code == 401
        assert dan.get(url).json()["error"]["code"] == "ResourceNotFound"
        refused = dan.put(url, {}, format="json")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "BadArgument")


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

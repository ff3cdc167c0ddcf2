"""Packages on the wire: Azure's bodies, reasoned refusals, and files to take away."""

import asyncio
import gzip
import io
import itertools
import json
import tarfile

import pytest
from django.test import AsyncClient
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.domain import create_token
from apps.builds.models import Package
from apps.core import operations
from apps.core.models import AuditRecord, Operation
from apps.registry.models import Environment
from tests.packages.parts import ROUTES, Parts

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = "/api/v1/workspaces/lab"


@pytest.fixture
def parts(workspace, people):
    return Parts(workspace, people["olga"])


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


def body(workspace, **changes):
    """As azure-ai-ml 1.35 sends it, with its kinds of ids."""
    arm = f"azureml:/{workspace.arm_id}"
    return {
        "targetEnvironmentId": "azureml://locations/local/workspaces/0000/environments/pkg",
        "baseEnvironmentSource": {
            "baseEnvironmentSourceType": "environment_asset",
            "resourceId": f"{arm}/environments/plain/versions/1",
        },
        "inferencingServer": {
            "serverType": "AzureMLOnline",
            "codeConfiguration": {"codeId": f"{arm}/codes/code/versions/1", "scoringScript": "score.py"},
        },
        "modelConfiguration": {"mode": "download"},
        "environmentVariables": {"GREETING": "hello"},
        "tags": {"team": "vision"},
    } | changes


def post(api, given, model="plain-model", prefix=SHORT):
    return api.post(f"{prefix}/models/{model}/versions/1/package", given, format="json")


@pytest.mark.parametrize("prefix", ["short", "arm"])
def test_a_package_as_the_sdk_asks_for_it(parts, api, workspace, prefix):
    where = SHORT if prefix == "short" else workspace.arm_id
    answer = post(api, body(workspace), prefix=where)
    assert answer.status_code == 202, answer.content
    assert "/operations/" in answer.headers["Azure-AsyncOperation"]
    result = answer.headers["Location"].partition("/subscriptions")
    found = api.get("/subscriptions" + result[2]).json()
    assert found["buildState"] == "Running"
    assert found["targetEnvironmentId"] == f"{workspace.arm_id}/environments/pkg/versions/1"
    assert (found["targetEnvironmentName"], found["targetEnvironmentVersion"]) == ("pkg", "1")
    assert found["inferencingServer"]["serverType"] == "AzureMLOnline"
    assert found["inferencingServer"]["codeConfiguration"]["scoringScript"] == "score.py"
    assert found["modelConfiguration"] == {"mode": "Download", "mountPath": None}
    assert found["baseEnvironmentSource"]["resourceId"].endswith("/environments/plain/versions/1")
    shown = api.get(f"{SHORT}/environments/pkg/versions/1").json()["properties"]
    assert shown["provisioningState"] == "Creating"
    assert shown["modelPackage"]["modelId"].endswith("/models/plain-model/versions/1")
    assert shown["tags"] == {"team": "vision"}

    Package.objects.update(ready_at=timezone.now())
    shown = api.get(f"{SHORT}/environments/pkg/versions/1").json()
    assert shown["properties"]["provisioningState"] == "Succeeded"
    back = api.put(f"{SHORT}/environments/pkg/versions/1", shown, format="json")
    assert back.status_code == 200, back.content
    assert Package.objects.count() == 1
    assert api.get(f"{SHORT}/environments/plain/versions/1/package").status_code == 404


def test_a_package_is_made_and_deployed_with_nothing_else(parts, api, workspace):
    post(api, body(workspace))
    operation = Operation.objects.get()
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == "succeeded", operation.error
    log = operation.steps.get(name="image").log
    assert "left out" in log
    assert "no container engine" in log
    row = Package.objects.get()
    assert row.python
    assert row.ready_at
    assert api.get(f"{SHORT}/environments/pkg/versions/1/package").json()["buildState"] == "Succeeded"


@pytest.mark.parametrize(
    ("target", "name", "version"),
    [
        ({"targetEnvironmentId": "pkg"}, "pkg", "1"),
        ({"targetEnvironmentId": "azureml:pkg:4"}, "pkg", "4"),
        ({"targetEnvironmentId": "azureml://locations/l/workspaces/w/environments/a.b/versions/3"}, "a.b", "3"),
        ({"targetEnvironmentName": "pkg", "targetEnvironmentVersion": "x1"}, "pkg", "x1"),
    ],
)
def test_the_target_by_any_of_its_names(parts, api, workspace, target, name, version):
    given = body(workspace)
    del given["targetEnvironmentId"]
    assert post(api, given | target).status_code == 202
    assert str(Package.objects.get().environment) == f"{name}:{version}"


def test_the_sdks_triton_server_is_called_custom(parts, api, workspace):
    given = {"targetEnvironmentName": "pkg", "inferencingServer": {"serverType": "Custom"}}
    assert post(api, given, model="net").status_code == 202
    assert Package.objects.get().server == "triton"


def test_what_is_missing_is_said(parts, api, workspace, settings):
    cases = [
        (body(workspace) | {"targetEnvironmentId": None}, "targetEnvironmentId"),
        (body(workspace) | {"targetEnvironmentId": "a b"}, ""),
        (body(workspace) | {"baseEnvironmentSource": None}, "baseEnvironmentSource"),
        (body(workspace) | {"baseEnvironmentSource": {"resourceId": "azureml:nobody:1"}}, "baseEnvironmentSource"),
        (body(workspace) | {"modelConfiguration": {"mode": "Copy"}}, "mode"),
        (body(workspace) | {"inputs": []}, "inputs"),
    ]
    for given, target in cases:
        answer = post(api, given)
        assert answer.status_code == 400, answer.content
        assert target in answer.json()["error"].get("target", "")
    copy = post(api, cases[4][0]).json()["error"]
    assert any(each["code"] == "NextStep" and "download" in each["message"] for each in copy["details"])
    assert post(api, body(workspace), model="nobody").status_code == 404
    assert not Environment.objects.filter(name="pkg").exists()
    assert not Operation.objects.exists()


WRONG = [None, True, 7, -1, 1.5, "", "x", "\x00", "a\nb", [], ["x"], {}, {"x": 1}, "x" * 40_000]
PATHS = [
    ("targetEnvironmentId",),
    ("targetEnvironmentName",),
    ("targetEnvironmentVersion",),
    ("baseEnvironmentSource",),
    ("baseEnvironmentSource", "baseEnvironmentSourceType"),
    ("baseEnvironmentSource", "resourceId"),
    ("inferencingServer",),
    ("inferencingServer", "serverType"),
    ("inferencingServer", "codeConfiguration"),
    ("inferencingServer", "codeConfiguration", "codeId"),
    ("inferencingServer", "codeConfiguration", "scoringScript"),
    ("inferencingServer", "inferenceConfiguration"),
    ("inferencingServer", "inferenceConfiguration", "scoringRoute"),
    ("inferencingServer", "inferenceConfiguration", "scoringRoute", "port"),
    ("modelConfiguration",),
    ("modelConfiguration", "mode"),
    ("modelConfiguration", "mountPath"),
    ("environmentVariables",),
    ("environmentVariables", "A"),
    ("description",),
    ("tags",),
    ("nothing known",),
]


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_wrong_value_is_a_reasoned_400_and_makes_nothing(parts, api, workspace, path):
    for wrong in WRONG:
        given = json.loads(json.dumps(body(workspace)))
        if "inferenceConfiguration" in path:
            given["inferencingServer"]["inferenceConfiguration"] = json.loads(json.dumps(ROUTES))
        place = given
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = wrong
        before = Package.objects.count()
        answer = post(api, given)
        assert answer.status_code in {202, 400}, (path, wrong, answer.content[:300])
        if answer.status_code == 400:
            assert answer.json()["error"]["message"]
            assert Package.objects.count() == before
            assert Environment.objects.filter(versions=None).count() == 0
        Operation.objects.update(state="succeeded")


def test_a_body_that_is_no_object_is_a_400(parts, api):
    for wrong in (None, [], "x", 7):
        assert post(api, wrong).status_code == 400


def fetched(user, path):
    """(status, headers, content), streamed as the server does it."""
    _, token = create_token(user=user, name="t")

    async def go():
        answer = await AsyncClient(raise_request_exception=False).get(
            path, headers={"Authorization": f"Bearer {token}"}
        )
        parts = [part async for part in answer.streaming_content] if answer.streaming else [answer.content]
        return answer.status_code, answer.headers, b"".join(parts)

    return asyncio.run(go())


def test_a_context_is_streamed_to_whoever_may_read(parts, api, workspace, people):
    post(api, body(workspace))
    path = f"{SHORT}/environments/pkg/versions/1/export"
    assert api.get(path).status_code == 409
    Package.objects.update(ready_at=timezone.now(), lock="numpy==2.0.0\n", python="3.11.7")
    for _ in range(2):  # each gives its turn back
        status, headers, data = fetched(people["rita"], path)
        assert status == 200
        assert headers["Content-Disposition"] == 'attachment; filename="pkg-1-context.tar.gz"'
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
            assert "pkg-1/requirements.lock" in tar.getnames()
    record = AuditRecord.objects.filter(action="package.export").first()
    assert (record.actor, record.target) == (people["rita"], "environment/pkg:1")
    assert fetched(people["charlie"], path)[0] == 404
    for kind, expected in (("nothing", 400), ("image", 400), ("..%2F", 400), ("context", 200)):
        assert fetched(people["rita"], f"{path}?kind={kind}")[0] == expected


def test_an_answer_that_nobody_reads_gives_its_turn_back(parts, api, workspace, people):
    post(api, body(workspace))
    Package.objects.update(ready_at=timezone.now(), python="3.11.7")
    path = f"{SHORT}/environments/pkg/versions/1/export"
    for _ in itertools.repeat(None, 3):
        answer = api.get(path)
        assert answer.status_code == 200, answer.content
        answer.close()

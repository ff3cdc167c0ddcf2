"""Batch endpoints, deployments and compute with the bodies that the SDK sends; every field of them fuzzed."""

import pytest
from rest_framework.test import APIClient

from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster
from apps.compute.models import Reservation
from apps.core import operations
from apps.core.models import Operation, OperationState
from tests.api import batch_bodies as bodies
from tests.api.batch_bodies import ARM, DROP, SHORT, paths, with_changes
from tests.batch.parts import (
    make_batch_deployment,
    make_batch_endpoint,
    make_cluster,
    make_code,
    make_component,
    make_environment,
)
from tests.batch.parts import make_node as node
from tests.factories import make_model

pytestmark = pytest.mark.django_db(transaction=True)
WEIRD = [None, "", "x" * 40, -1, 0, 2**40, 1.5, True, [], {}, [{}], {"a": {"b": []}}, "PT", "\u0663", "azureml:x"]
FORESTS = f"{ARM}/batchEndpoints/forests"


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["carl"])
    return client


@pytest.fixture
def assets(workspace):
    make_model(workspace)
    make_code(workspace)
    make_environment(workspace)
    make_component(workspace)
    return make_cluster(workspace, "batch-cluster")


def finish(api, answer, status="Succeeded"):
    """Poll as the SDK does."""
    path = answer.headers["Azure-AsyncOperation"].split("/", 3)[3]
    assert answer.headers["Retry-After"] == "1"
    assert api.get(f"/{path}").json()["status"] == "InProgress"
    for operation in Operation.objects.filter(state=OperationState.QUEUED):
        operations.run(operation.pk)
    assert api.get(f"/{path}").json()["status"] == status


def test_the_life_of_an_endpoint_as_the_sdk_leads_it(api, assets, settings):
    made = api.put(f"{FORESTS}?api-version=2023-10-01", bodies.ENDPOINT, format="json")
    assert made.status_code == 201
    shown = made.json()
    assert shown["id"] == FORESTS
    assert shown["type"] == "Microsoft.MachineLearningServices/workspaces/batchEndpoints"
    assert shown["properties"] == {
        **bodies.ENDPOINT["properties"],
        "authMode": "AADToken",
        "provisioningState": "Creating",
        "scoringUri": f"{settings.BASE_URL}/batch/forests/jobs",
        "swaggerUri": None,
        "defaults": {"deploymentName": None},
    }
    finish(api, made)
    pipeline = api.put(f"{FORESTS}/deployments/hello", bodies.PIPELINE, format="json")
    assert pipeline.status_code == 201
    finish(api, pipeline)
    shown = api.get(f"{FORESTS}/deployments/hello").json()["properties"]
    sent = bodies.PIPELINE["properties"]["deploymentConfiguration"]
    assert shown["deploymentConfiguration"] == {**sent, "description": "", "tags": {}}

    echoed = api.get(FORESTS).json()
    echoed["properties"]["defaults"] = {"deploymentName": "hello"}
    echoed["properties"]["properties"] = {"createdBy": "x", "createdAt": "2026-01-01T00:00:00.000000+0000"}
    moved = api.put(FORESTS, echoed, format="json")
    assert (moved.status_code, moved.json()["properties"]["provisioningState"]) == (200, "Updating")
    finish(api, moved)
    shown = api.get(FORESTS).json()["properties"]
    assert (shown["defaults"], shown["properties"]) == ({"deploymentName": "hello"}, {})
    assert [each["name"] for each in api.get(f"{ARM}/batchEndpoints").json()["value"]] == ["forests"]
    refused = api.post(f"{FORESTS}/listkeys")
    assert (refused.status_code, "does not use keys" in refused.json()["error"]["message"]) == (400, True)

    gone = api.delete(FORESTS)
    assert (gone.status_code, "Location" in gone.headers) == (202, True)
    finish(api, gone)
    assert api.get(FORESTS).status_code == 404
    assert api.delete(FORESTS).status_code == 204


def test_a_deployment_comes_back_as_it_was_sent(api, workspace, assets):
    make_batch_endpoint(workspace)
    made = api.put(f"{FORESTS}/deployments/blue", bodies.DEPLOYMENT, format="json")
    assert made.status_code == 201, made.content
    sent = bodies.DEPLOYMENT["properties"]
    shown = made.json()["properties"]
    expected = {**sent, "loggingLevel": "Info", "provisioningState": "Creating", "environmentVariables": {}}
    expected["resources"] = {**sent["resources"], "instanceType": None}
    assert shown == expected
    Operation.objects.update(state="succeeded")
    BatchDeployment.objects.update(state="Succeeded")
    again = api.put(f"{FORESTS}/deployments/blue", api.get(f"{FORESTS}/deployments/blue").json(), format="json")
    assert (again.status_code, again.json()["properties"]) == (200, {**expected, "provisioningState": "Updating"})
    Operation.objects.update(state="succeeded")
    patched = api.patch(
        f"{FORESTS}/deployments/blue", {"tags": {"a": 1}, "properties": {"description": "new"}}, format="json"
    )
    assert (patched.json()["tags"], patched.json()["properties"]["description"]) == ({"a": "1"}, "new")
    Operation.objects.update(state="succeeded")
    assert api.delete(f"{FORESTS}/deployments/blue").status_code == 202


def test_what_is_left_out_gets_azures_defaults(api, workspace, assets):
    make_batch_endpoint(workspace)
    names = ("outputFileName", "outputAction", "errorThreshold", "resources", "retrySettings", "loggingLevel")
    names += ("miniBatchSize", "maxConcurrencyPerInstance", "properties", "description")
    body = with_changes(bodies.DEPLOYMENT, {f"properties.{name}": DROP for name in names})
    shown = api.put(f"{SHORT}/batchEndpoints/forests/deployments/blue", body, format="json").json()["properties"]
    assert {name: shown[name] for name in names if name != "description"} == {
        "outputFileName": "predictions.csv",
        "outputAction": "AppendRow",
        "errorThreshold": -1,
        "resources": {"instanceCount": 1, "instanceType": None, "properties": {}},
        "retrySettings": {"maxRetries": 3, "timeout": "PT30S"},
        "loggingLevel": "Info",
        "miniBatchSize": 10,
        "maxConcurrencyPerInstance": 1,
        "properties": {},
    }


def test_a_cluster_as_the_sdk_makes_it(api, workspace):
    make_cluster(workspace, "seed").delete()
    url = f"{ARM}/computes/batch-cluster"
    made = api.put(f"{url}?api-version=2023-08-01-preview", bodies.COMPUTE, format="json")
    assert made.status_code == 201, made.content
    inner = made.json()["properties"]["properties"]
    assert inner["vmSize"].lower() == "standard_ds3_v2"
    assert inner["scaleSettings"] == bodies.COMPUTE["properties"]["properties"]["scaleSettings"]
    assert (inner["allocationState"], inner["currentNodeCount"]) == ("Steady", 0)
    assert set(inner["nodeStateCounts"]) == {
        f"{name}NodeCount" for name in ("idle", "running", "preparing", "unusable", "leaving", "preempted")
    }
    finish(api, made)
    node(Cluster.objects.get(), "one")
    listed = api.post(f"{url}/listNodes").json()["nodes"]
    assert [(each["nodeId"], each["nodeState"], each["runId"]) for each in listed] == [("one", "idle", None)]
    echoed = api.get(url).json()
    echoed["properties"]["properties"]["scaleSettings"]["maxNodeCount"] = 3
    changed = api.put(url, echoed, format="json")
    assert changed.status_code == 200, changed.content
    finish(api, changed)
    assert Cluster.objects.get().max_nodes == 3
    assert api.post(f"{url}/nodes/one/preempt").status_code == 200
    Cluster.objects.get().nodes.all().delete()
    assert api.delete(f"{url}?underlyingResourceAction=Detach").status_code == 400
    finish(api, api.delete(f"{url}?underlyingResourceAction=Delete"))
    assert api.get(url).status_code == 404
    assert api.delete(url).status_code == 204


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"properties.colour": 1}, "properties.colour"),
        ({"properties.compute": f"{ARM}/computes/none"}, "properties.compute"),
        ({"properties.compute": f"{ARM}/computes/none".replace("lab", "other")}, "properties.compute"),
        ({"properties.compute": DROP}, "compute"),
        ({"properties.resources.instanceType": "huge"}, "properties.resources.instanceType"),
        ({"properties.resources.properties": {"a": 1}}, "properties.resources.properties"),
        ({"properties.retrySettings.timeout": "30"}, "properties.retrySettings.timeout"),
        ({"properties.loggingLevel": "loud"}, "properties.loggingLevel"),
        ({"properties.model.assetId": f"{ARM}/models/iris/versions/9"}, "properties.model.assetId"),
        ({"properties.model.referenceType": "OutputPath"}, "properties.model.referenceType"),
    ],
)
def test_a_wrong_deployment_is_400_and_names_the_field(api, workspace, assets, change, target):
    make_batch_endpoint(workspace)
    answer = api.put(f"{FORESTS}/deployments/blue", with_changes(bodies.DEPLOYMENT, change), format="json")
    assert (answer.status_code, answer.json()["error"].get("target")) == (400, target), answer.content
    assert not BatchDeployment.objects.exists()


CASES = [
    ("batchEndpoints/meadows", bodies.ENDPOINT, BatchEndpoint),
    ("batchEndpoints/forests/deployments/green", bodies.DEPLOYMENT, BatchDeployment),
    ("batchEndpoints/forests/deployments/green", bodies.PIPELINE, BatchDeployment),
    ("computes/another", bodies.COMPUTE, Cluster),
]


@pytest.mark.parametrize(("path", "body", "model"), CASES, ids=["endpoint", "deployment", "pipeline", "compute"])
def test_no_value_of_any_field_is_a_5xx_or_leaves_half_of_a_thing(api, workspace, assets, path, body, model):
    make_batch_deployment(make_batch_endpoint(workspace), cluster=assets)
    before = model.objects.count()
    for field in paths(body):
        for value in [*WEIRD, DROP]:
            answer = api.put(f"{SHORT}/{path}", with_changes(body, {field: value}), format="json")
            assert answer.status_code in {201, 400}, (field, value, answer.content)
            made = model.objects.count() - before
            assert made == Operation.objects.count() == (answer.status_code == 201), (field, value)
            Operation.objects.all().delete()
            model.objects.order_by("-pk")[:1].get().delete() if made else None
    assert not Reservation.objects.exists()


def test_another_workspaces_things_cannot_be_named(api, people, workspace, assets):
    from apps.accounts.models import Workspace

    other = Workspace.objects.get(name="other")
    make_batch_deployment(make_batch_endpoint(other, "hidden"), cluster=make_cluster(other, "theirs"))
    for path in ("batchEndpoints/hidden", "batchEndpoints/hidden/deployments/blue", "computes/theirs"):
        assert api.get(f"{SHORT}/{path}").status_code == 404
        assert api.delete(f"{SHORT}/{path}").status_code in {204, 404}
    assert BatchDeployment.objects.count() == 1
    make_batch_endpoint(workspace)
    answer = api.put(
        f"{FORESTS}/deployments/blue", with_changes(bodies.DEPLOYMENT, {"properties.compute": "theirs"}), format="json"
    )
    assert answer.status_code == 400

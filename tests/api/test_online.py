"""The REST API in the wire shape, through its URLs, with the engine behind it (fake driver, real Envoy)."""

import pytest
from rest_framework.test import APIClient

from apps.accounts.domain import create_token
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment

pytestmark = pytest.mark.envoy
SHORT = "/api/v1/workspaces/lab"
ARM = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/portway"
    "/providers/Microsoft.MachineLearningServices/workspaces/lab"
)


@pytest.fixture
def api(world):
    client = APIClient()
    _, token = create_token(user=world.actor, name="test")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def assets(world):
    """Registers what `body()` refers to."""
    world.spec()


def body(**properties):
    return {
        "location": "local",
        "tags": {},
        "sku": {"name": "Default", "capacity": 1},
        "properties": {
            "endpointComputeType": "Managed",
            "codeConfiguration": {"codeId": f"{ARM}/codes/code/versions/1", "scoringScript": "score.py"},
            "environmentId": f"{ARM}/environments/plain/versions/1",
            "instanceType": "Standard_DS3_v2",
            "environmentVariables": {},
            "appInsightsEnabled": False,
            "scaleSettings": {"scaleType": "Default"},
            "requestSettings": {
                "requestTimeout": "PT3S",
                "maxConcurrentRequestsPerInstance": 2,
                "maxQueueWait": "PT1S",
            },
            "livenessProbe": {"initialDelay": "PT5S", "period": "PT5S", "timeout": "PT2S", "failureThreshold": 10},
            "properties": {},
            **properties,
        },
    }


def endpoint_body(**properties):
    given = {"authMode": "Key", "properties": {}, "traffic": {}, "mirrorTraffic": {}, **properties}
    return {"location": "local", "identity": {"type": "SystemAssigned"}, "tags": {}, "properties": given}


def finish(world, api, answer):
    """Poll as the SDK does: the operation runs, then its URL says how it ended."""
    url = answer.headers["Azure-AsyncOperation"]
    path = url.split("/", 3)[3]
    assert api.get(f"/{path}").json()["status"] == "InProgress"
    world.run_all()
    return api.get(f"/{path}").json()


def test_the_life_of_an_endpoint_under_the_arm_prefix(world, api, assets):
    made = api.put(f"{ARM}/onlineEndpoints/iris?api-version=2022-02-01-preview", endpoint_body(), format="json")
    assert made.status_code == 201
    assert made.json()["properties"]["provisioningState"] == "Creating"
    assert finish(world, api, made)["status"] == "Succeeded"

    deployed = api.put(f"{ARM}/onlineEndpoints/iris/deployments/blue", body(), format="json")
    assert (deployed.status_code, deployed.json()["properties"]["provisioningState"]) == (201, "Creating")
    assert finish(world, api, deployed)["status"] == "Succeeded"
    shown = api.get(f"{ARM}/onlineEndpoints/iris/deployments/blue").json()
    assert shown["sku"]["capacity"] == 1
    assert shown["properties"]["requestSettings"]["requestTimeout"] == "PT3S"
    assert shown["properties"]["codeConfiguration"]["codeId"] == f"{ARM}/codes/code/versions/1"

    echoed = api.get(f"{ARM}/onlineEndpoints/iris").json()
    echoed["properties"]["traffic"] = {"blue": 100}
    echoed["properties"]["properties"] = {"createdBy": "someone", "createdAt": "2026-01-01T00:00:00.000000+0000"}
    moved = api.put(f"{ARM}/onlineEndpoints/iris", echoed, format="json")
    assert (moved.status_code, moved.json()["properties"]["provisioningState"]) == (200, "Updating")
    assert finish(world, api, moved)["status"] == "Succeeded"
    shown = api.get(f"{ARM}/onlineEndpoints/iris").json()["properties"]
    assert (shown["traffic"], shown["properties"], shown["provisioningState"]) == ({"blue": 100}, {}, "Succeeded")

    keys = api.post(f"{ARM}/onlineEndpoints/iris/listKeys").json()
    assert world.score(body={"x": 1}, key=keys["secondaryKey"])[2]["echo"] == {"x": 1}

    refused = api.delete(f"{ARM}/onlineEndpoints/iris/deployments/blue")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "DeploymentHasTraffic")
    gone = api.delete(f"{ARM}/onlineEndpoints/iris")
    assert gone.status_code == 202
    world.run_all()
    assert api.get(f"{ARM}/onlineEndpoints/iris").status_code == 404
    assert api.delete(f"{ARM}/onlineEndpoints/iris").status_code == 204


def test_both_prefixes_and_any_case_give_the_same(world, api, assets):
    world.deploy(world.endpoint())
    for path in (
        "onlineEndpoints",
        "onlineEndpoints/iris",
        "onlineEndpoints/iris/deployments/blue",
        "environments/plain/versions/1",
    ):
        short, arm = api.get(f"{SHORT}/{path}"), api.get(f"{ARM}/{path}")
        shouted = api.get(
            f"{ARM}/{path}".replace("resourceGroups", "RESOURCEGROUPS").replace("onlineEndpoints", "onlineendpoints")
        )
        assert short.status_code == 200
        assert short.json() == arm.json() == shouted.json()


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"colour": "red"}, "properties.colour"),
        ({"instanceType": "huge"}, "instanceType"),
        ({"requestSettings": {"requestTimeout": "3 seconds"}}, "properties.requestSettings.requestTimeout"),
        ({"requestSettings": {"requestTimeout": "PT4M"}}, "requestSettings.requestTimeout"),
        (
            {"codeConfiguration": {"codeId": f"{ARM}/codes/code/versions/9", "scoringScript": "score.py"}},
            "properties.codeConfiguration.codeId",
        ),
        (
            {"codeConfiguration": {"codeId": f"{ARM}/codes/code/versions/1", "scoringScript": "nope.py"}},
            "codeConfiguration.scoringScript",
        ),
        ({"codeConfiguration": {"codeId": f"{ARM}/codes/code/versions/1", "scoringScript": "../../etc/passwd"}}, ""),
        ({"scaleSettings": {"scaleType": "TargetUtilization"}}, "properties.scaleSettings.scaleType"),
        ({"endpointComputeType": "Kubernetes"}, "properties.endpointComputeType"),
        ({"environmentVariables": {"PORTWAY_SOCKET": 1, "a=b": "c"}}, "environmentVariables"),
        ({"environmentId": None}, "environmentId"),
        ({"codeConfiguration": None}, "codeConfiguration"),
    ],
)
def test_a_wrong_deployment_is_400_and_names_the_field(world, api, assets, change, target):
    world.endpoint()
    answer = api.put(f"{SHORT}/onlineEndpoints/iris/deployments/blue", body(**change), format="json")
    assert answer.status_code == 400, answer.content
    assert answer.json()["error"].get("target", "") == target
    assert not OnlineDeployment.objects.exists()


@pytest.mark.parametrize(
    ("traffic", "mirror"),
    [
        ({"blue": 50}, {}),
        ({"red": 100}, {}),
        ({"blue": 100}, {"blue": 10}),
        ({"blue": 100}, {"green": 51}),
        ({"blue": "x"}, {}),
    ],
)
def test_wrong_traffic_is_400_and_changes_nothing(world, api, assets, traffic, mirror):
    endpoint = world.endpoint()
    world.deploy(endpoint, "blue")
    world.deploy(endpoint, "green")
    answer = api.put(
        f"{SHORT}/onlineEndpoints/iris", endpoint_body(traffic=traffic, mirrorTraffic=mirror), format="json"
    )
    assert answer.status_code == 400
    assert world.fresh(endpoint).traffic == {}
    assert not Operation.objects.filter(kind="online-endpoint.update").exists()


def test_a_second_operation_on_the_endpoint_is_409_until_the_first_has_ended(world, api, assets):
    world.endpoint()
    assert api.put(f"{SHORT}/onlineEndpoints/iris/deployments/blue", body(), format="json").status_code == 201
    busy = api.put(f"{SHORT}/onlineEndpoints/iris/deployments/green", body(), format="json")
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "Conflict")
    assert not OnlineDeployment.objects.filter(name="green").exists()
    world.run_all()
    assert api.put(f"{SHORT}/onlineEndpoints/iris/deployments/green", body(), format="json").status_code == 201


def test_a_failed_operation_says_what_whose_fault_and_what_next(world, api, assets):
    world.endpoint()
    given = body()
    given["tags"] = {"fake.fail_on": "oom"}
    answer = api.put(f"{SHORT}/onlineEndpoints/iris/deployments/blue", given, format="json")
    ended = finish(world, api, answer)
    assert ended["status"] == "Failed"
    assert ended["error"]["code"] == "ResourceNotReady"
    assert "memory" in ended["error"]["message"]
    assert ended["error"]["additionalInfo"][0]["info"]["fault"] == "user"
    assert (
        api.get(f"{SHORT}/onlineEndpoints/iris/deployments/blue").json()["properties"]["provisioningState"] == "Failed"
    )


def test_if_match_protects_from_overwriting_somebody_elses_change(world, api, assets):
    endpoint = world.endpoint()
    tag = api.get(f"{SHORT}/onlineEndpoints/iris").headers["ETag"]
    assert (
        api.patch(f"{SHORT}/onlineEndpoints/iris", {"tags": {"a": "1"}}, format="json", HTTP_IF_MATCH=tag).status_code
        == 200
    )
    world.run_all()
    late = api.patch(f"{SHORT}/onlineEndpoints/iris", {"tags": {"a": "2"}}, format="json", HTTP_IF_MATCH=tag)
    assert late.status_code == 412
    assert world.fresh(endpoint).tags == {"a": "1"}


def test_scaling_by_patch_and_logs(world, api, assets):
    world.deploy(world.endpoint())
    answer = api.patch(f"{SHORT}/onlineEndpoints/iris/deployments/blue", {"sku": {"capacity": 2}}, format="json")
    assert (answer.status_code, answer.json()["properties"]["provisioningState"]) == (200, "Scaling")
    world.run_all()
    logs = api.post(f"{SHORT}/onlineEndpoints/iris/deployments/blue/getLogs", {"tail": 500}, format="json").json()[
        "content"
    ]
    assert logs.count("listening") == 2
    prepared = api.post(
        f"{SHORT}/onlineEndpoints/iris/deployments/blue/getLogs", {"containerType": "StorageInitializer"}, format="json"
    ).json()["content"]
    assert "Python 3.11" in prepared


def test_what_is_stored_without_effect_is_said_in_the_timeline(world, api, assets):
    world.endpoint()
    given = body(readinessProbe={"period": "PT7S"}, appInsightsEnabled=True)
    answer = api.put(f"{SHORT}/onlineEndpoints/iris/deployments/blue", given, format="json")
    steps = finish(world, api, answer)["properties"]["steps"]
    for word in (
        "Of readinessProbe",
        "Of livenessProbe",
        "maxQueueWait is not used",
        "appInsightsEnabled is not used",
    ):
        assert word in steps[0]["log"]


def test_the_sdk_regenerates_a_key_by_sending_the_current_one(world, api):
    world.endpoint()
    before = api.post(f"{SHORT}/onlineEndpoints/iris/listKeys").json()
    sent = {"keyType": "Secondary", "keyValue": before["secondaryKey"]}
    answer = api.post(f"{SHORT}/onlineEndpoints/iris/regenerateKeys", sent, format="json")
    assert answer.status_code == 202
    world.run_all()
    after = api.post(f"{SHORT}/onlineEndpoints/iris/listKeys").json()
    assert after["primaryKey"] == before["primaryKey"]
    assert after["secondaryKey"] != before["secondaryKey"]


def test_token_endpoints_take_their_own_tokens_only(world, api, assets):
    for name in ("iris", "rose"):
        endpoint = world.endpoint(name, auth_mode="AMLToken")
        world.deploy(endpoint)
        world.traffic(endpoint, blue=100)
    token = api.post(f"{SHORT}/onlineEndpoints/iris/token").json()
    assert token["refreshAfterTimeUtc"] < token["expiryTimeUtc"]
    assert world.score("iris", body=1, key=token["accessToken"])[0] == 200
    assert world.score("rose", body=1, key=token["accessToken"])[0] == 403
    assert world.score("iris", body=1, key="nonsense")[0] == 401
    assert api.post(f"{SHORT}/onlineEndpoints/iris/listKeys").json()["error"]["code"] == "BadArgument"


def test_names_and_limits(world, api, settings):
    assert api.put(f"{SHORT}/onlineEndpoints/x", endpoint_body(), format="json").status_code == 400
    assert (
        api.put(f"{SHORT}/onlineEndpoints/iris", endpoint_body(traffic={"blue": 100}), format="json").status_code == 400
    )
    settings.LIMITS = {**settings.LIMITS, "endpoints": 1}
    assert api.put(f"{SHORT}/onlineEndpoints/iris", endpoint_body(), format="json").status_code == 201
    over = api.put(f"{SHORT}/onlineEndpoints/rose", endpoint_body(), format="json")
    assert (over.status_code, over.json()["error"]["code"]) == (400, "OutOfQuota")

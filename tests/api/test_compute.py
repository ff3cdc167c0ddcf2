"""Sizes, resources and quotas on the wire: bad values are reasoned refusals, and nothing is half-created."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as some
from rest_framework.test import APIClient

from apps.compute import domain as compute
from apps.compute.models import InstanceType, Reservation
from apps.compute.quantities import GIB
from apps.core.models import AuditRecord, Operation
from apps.endpoints.models import OnlineDeployment
from tests.factories import make_endpoint, make_model

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = "/api/v1/workspaces/lab"
BLUE = f"{SHORT}/onlineEndpoints/iris/deployments/blue"


@pytest.fixture
def api(people, workspace):
    compute.seed_instance_types()
    compute.seed_targets()
    make_endpoint(workspace, "iris")
    make_model(workspace, "iris")
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


def body(sku=None, **properties):
    given = {"model": "azureml:iris:1", "instanceType": "small", **properties}
    return {"sku": {"capacity": 1} if sku is None else sku, "properties": given}


def resources(requests=None, limits=None):
    parts = {"containerResourceRequests": requests, "containerResourceLimits": limits}
    return {"containerResourceRequirements": {key: part for key, part in parts.items() if part is not None}}


def put(api, document):
    return api.put(BLUE, json.dumps(document), content_type="application/json")


def rows():
    return OnlineDeployment.objects.count(), Operation.objects.count(), Reservation.objects.count()


def test_resources_are_kept_held_and_shown(api):
    asked = resources({"cpu": "0.1", "memory": "0.2Gi"}, {"cpu": "500m", "memory": "1Gi"})
    answer = put(api, body({"name": "Default", "capacity": 3}, **asked))
    assert answer.status_code == 201, answer.content
    shown = api.get(BLUE).json()["properties"]
    assert shown["containerResourceRequirements"] == asked["containerResourceRequirements"]
    held = Reservation.objects.get()
    assert (held.owner_key, held.target, held.workspace.name) == ("iris/blue", "fake", "lab")
    assert (held.cpu_milli, held.mem_bytes, held.gpus, held.instances) == (1500, 3 * GIB, 0, 3)


def test_what_was_shown_can_be_sent_back_and_a_patch_keeps_it(api):
    put(api, body(**resources(limits={"cpu": "500m"})))
    Operation.objects.all().delete()
    shown = api.get(BLUE).json()
    assert put(api, shown).status_code == 200
    Operation.objects.all().delete()
    assert api.patch(BLUE, {"sku": {"capacity": 2}}, format="json").status_code == 200
    assert OnlineDeployment.objects.get().resources == {"limits": {"cpu": "500m"}}
    assert Reservation.objects.get().cpu_milli == 1000
    Operation.objects.all().delete()
    assert put(api, body()).status_code == 200
    assert OnlineDeployment.objects.get().resources == {}
    assert "containerResourceRequirements" not in api.get(BLUE).json()["properties"]


def test_a_gpu_has_kubernetes_name_too(api):
    assert put(api, body(**resources(limits={"nvidia.com/gpu": 1}))).status_code == 201
    assert Reservation.objects.get().gpus == 1
    assert OnlineDeployment.objects.get().resources == {"limits": {"gpu": "1"}}


def test_numbers_are_taken_as_they_are_meant(api):
    assert put(api, body(**resources(limits={"cpu": 0.5, "memory": 2 * GIB}))).status_code == 201
    assert Reservation.objects.get().cpu_milli == 500


ANYTHING = [None, True, False, 0, -1, 1.5, 10**30, "", "x", "\u0000", "1" * 5000, [], [1], {}, {"a": 1}, "NaN", "1e99"]
FIELDS = {
    "sku": lambda value: body(value) if value is not None else {**body(), "sku": None},
    "sku.capacity": lambda value: body({"capacity": value}),
    "sku.name": lambda value: body({"name": value, "capacity": 1}),
    "instanceType": lambda value: body(instanceType=value),
    "containerResourceRequirements": lambda value: body(containerResourceRequirements=value),
    "containerResourceRequests": lambda value: body(**resources(requests=value)),
    "containerResourceLimits": lambda value: body(**resources(limits=value)),
}


KINDS = ("cpu", "memory", "gpu", "nvidia.com/gpu", "disk")
for kind in KINDS:
    FIELDS[f"requests.{kind}"] = lambda value, kind=kind: body(**resources(requests={kind: value}))
    FIELDS[f"limits.{kind}"] = lambda value, kind=kind: body(**resources(limits={kind: value}))


def refused_or_whole(answer):
    """Either it was made in full, or refused with a reason that does not make the SDK try again."""
    assert answer.status_code in {201, 400}, answer.content
    if answer.status_code == 201:
        assert rows() == (1, 1, 1)
    else:
        assert rows() == (0, 0, 0)
        error = answer.json()["error"]
        assert error["message"]
        assert error["code"] in {"BadArgument", "OutOfQuota"}


@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("field", FIELDS)
def test_no_value_of_any_type_breaks_anything(api, field, value):
    refused_or_whole(put(api, FIELDS[field](value)))


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=30),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(field=some.sampled_from(sorted(FIELDS)), value=JSON)
@hypothesis(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_breaks_anything(api, field, value):
    for model in (Operation, OnlineDeployment, Reservation):
        model.objects.all().delete()
    refused_or_whole(put(api, FIELDS[field](value)))


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        (resources({"cpu": "2"}, {"cpu": "1"}), "containerResourceRequirements.containerResourceRequests.cpu"),
        (resources({"memory": "9Gi"}), "containerResourceRequirements.containerResourceRequests.memory"),
        (resources(limits={"cpu": "1m"}), "containerResourceRequirements.containerResourceLimits.cpu"),
        ({"instanceType": "none"}, "instanceType"),
    ],
)
def test_a_refusal_names_its_field(api, asked, target):
    answer = put(api, body(**asked))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadArgument")
    assert answer.json()["error"]["target"] == target


def test_a_hidden_type_can_be_kept_but_not_chosen(api):
    put(api, body())
    Operation.objects.all().delete()
    InstanceType.objects.filter(name="small").update(enabled=False)
    assert api.patch(BLUE, {"sku": {"capacity": 2}}, format="json").status_code == 200
    Operation.objects.all().delete()
    answer = api.put(f"{BLUE}2", body(), format="json")
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "instanceType")
    assert "not offered any more" in answer.json()["error"]["message"]


def test_what_does_not_fit_is_out_of_quota_and_leaves_nothing(api, workspace):
    quotas = {"cpu_milli": 2000, "mem_bytes": None, "gpus": None, "instances": None}
    compute.save_workspace_compute(workspace=workspace, target="", actor=None, **quotas)
    answer = put(api, body({"capacity": 3}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "OutOfQuota")
    assert "3 cores CPU asked, 2 cores of 2 cores free" in answer.json()["error"]["message"]
    assert rows() == (0, 0, 0)
    assert put(api, body({"capacity": 2})).status_code == 201
    Operation.objects.all().delete()
    before = AuditRecord.objects.count()
    answer = api.patch(BLUE, {"sku": {"capacity": 3}}, format="json")
    assert (answer.status_code, rows()) == (409, (1, 0, 1))
    assert OnlineDeployment.objects.get().instance_count == 2
    assert AuditRecord.objects.count() == before


def test_the_sizes_one_can_choose_with_price_and_what_is_free(api, workspace):
    size = {"cpu_milli": 1000, "mem_bytes": GIB, "position": 0, "actor": None}
    compute.save_instance_type(name="box", price_hour=Decimal("0.125"), isolation="sandbox", new=True, **size)
    compute.save_instance_type(name="hidden", enabled=False, new=True, **size)
    compute.save_workspace_compute(
        workspace=workspace, target="", cpu_milli=3000, mem_bytes=None, gpus=None, instances=None, actor=None
    )
    listed = api.get(f"{SHORT}/instanceTypes").json()["value"]
    assert "hidden" not in {each["name"] for each in listed}
    [box] = [each["properties"] for each in listed if each["name"] == "box"]
    assert (box["cpu"], box["memoryBytes"], box["gpus"], box["isolation"]) == (1, GIB, 0, "sandbox")
    assert box["price"] == {"perHour": "0.125", "currency": "USD"}
    assert box["free"] == {"instances": 3, "reason": "3 cores of the quota of CPU free"}
    [small] = [each["properties"] for each in listed if each["name"] == "small"]
    assert small["price"] is None


def test_the_list_of_sizes_asks_as_often_for_many_as_for_one(api, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as seen:
        api.get(f"{SHORT}/instanceTypes")
    for number in range(3):
        InstanceType.objects.create(name=f"more{number}", cpu_milli=1000, mem_bytes=GIB)
    with django_assert_num_queries(len(seen)):
        api.get(f"{SHORT}/instanceTypes")


def test_usages_have_azures_shape(api, workspace):
    quotas = {"cpu_milli": 2500, "mem_bytes": None, "gpus": 0, "instances": 4}
    compute.save_workspace_compute(workspace=workspace, target="", actor=None, **quotas)
    put(api, body({"capacity": 2}))
    shown = {each["name"]["value"]: each for each in api.get(f"{SHORT}/usages").json()["value"]}
    figures = {name: (each["currentValue"], each["limit"], each["unit"]) for name, each in shown.items()}
    assert figures == {
        "cores": (2, 2.5, "Count"),
        "memory": (2 * GIB, -1, "Bytes"),
        "gpus": (0, 0, "Count"),
        "instances": (2, 4, "Count"),
    }
    assert shown["cores"]["id"].endswith("/workspaces/lab/usages/cores")


def test_a_stranger_sees_neither(api, people):
    api.force_authenticate(people["charlie"])
    assert [api.get(f"{SHORT}/{path}").status_code for path in ("instanceTypes", "usages")] == [404, 404]
    api.force_authenticate(people["rita"])
    assert [api.get(f"{SHORT}/{path}").status_code for path in ("instanceTypes", "usages")] == [200, 200]

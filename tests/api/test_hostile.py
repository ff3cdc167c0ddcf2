"""Requests made to hurt: each is a 4xx that the SDK does not retry, and none takes the process along."""

import json

import pytest
from rest_framework.test import APIClient

from apps.core.errors import Problem
from apps.core.models import AuditRecord
from apps.registry.domain import delete_version
from apps.registry.models import Model
from tests.factories import make_deployment, make_endpoint, make_model, make_operation

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = "/api/v1/workspaces/lab"
ENDPOINT = f"{SHORT}/onlineEndpoints/iris"


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[" * 200_000, 400),
        ('{"properties": {"traffic": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}}", 400),
        ('{"properties": {"traffic": {"\\ud800": 100}}}', 400),
        ('{"\\ud800": 1}', 400),
        ('{"properties": {}, "identity": {"type": "a\\u0000b"}}', 400),
        ('{"properties": {"description": "' + "x" * (10 * 2**20) + '"}}', 413),
    ],
    ids=["deep-list", "deep-traffic", "half-a-pair", "half-a-pair-as-name", "nul", "large"],
)
def test_a_body_that_cannot_be_meant_is_refused(api, workspace, text, status):
    make_endpoint(workspace, "iris")
    answer = api.put(ENDPOINT, text, content_type="application/json")
    assert answer.status_code == status
    assert "error" in json.loads(answer.content)


def test_a_reader_cannot_make_us_parse(api, people):
    api.force_authenticate(people["rita"])
    assert api.put(ENDPOINT, "[" * 200_000, content_type="application/json").status_code == 403


@pytest.mark.parametrize(
    "top", ["\u00b2", "9" * 40, "-1", "x", "\u0663"], ids=["squared", "huge", "negative", "word", "arabic"]
)
def test_a_number_that_is_none_is_a_400(api, workspace, top):
    make_model(workspace, "thing")
    answer = api.get(f"{SHORT}/models/thing/versions", {"$top": top})
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "$top")


def test_an_etag_that_is_none_is_a_400(api, workspace):
    make_endpoint(workspace, "iris")
    answer = api.patch(ENDPOINT, {"tags": {}}, format="json", HTTP_IF_MATCH="9" * 40)
    assert answer.status_code == 400


def test_lists_of_operations_come_without_their_logs(api, workspace):
    operation = make_operation(make_endpoint(workspace, "iris"), steps=[("route", "done", "x" * 64_000)])
    listed = api.get(f"{SHORT}/operations")
    assert len(listed.content) < 2000
    assert "log" not in listed.json()["value"][0]["properties"]["steps"][0]
    one = api.get(f"{SHORT}/operations/{operation.pk}").json()
    assert len(one["properties"]["steps"][0]["log"]) == 64_000


def test_a_list_of_assets_takes_as_many_queries_for_three_as_for_one(api, workspace, django_assert_num_queries):
    make_model(workspace, "a", "1")
    with django_assert_num_queries(4) as seen:
        api.get(f"{SHORT}/models")
    for name in "bc":
        make_model(workspace, name, "1")
        make_model(workspace, name, "7")
    make_model(workspace, "c", "9", is_archived=True)
    with django_assert_num_queries(len(seen)):
        listed = api.get(f"{SHORT}/models").json()["value"]
    shown = [(each["properties"]["latestVersion"], each["properties"]["nextVersion"]) for each in listed]
    assert shown == [("1", "2"), ("7", "8"), ("7", "10")]


def test_a_container_keeps_what_it_was_sent_and_says_who_sent_it(api, workspace):
    make_model(workspace, "thing")
    sent = {"properties": {"description": "d", "tags": {"a": "b"}, "properties": {"p": "q"}, "isArchived": True}}
    assert api.put(f"{SHORT}/models/thing", sent, format="json").status_code == 200
    found = Model.objects.get()
    assert (found.description, found.tags, found.properties, found.is_archived) == ("d", {"a": "b"}, {"p": "q"}, True)
    record = AuditRecord.objects.get()
    assert (record.action, record.actor.username, record.target) == ("model.describe", "dan", "model/thing")


def test_a_version_deployed_since_one_looked_is_in_use(workspace):
    model = make_model(workspace, "thing")
    make_deployment(make_endpoint(workspace, "iris"), "blue", model=model)
    with pytest.raises(Problem) as caught:
        delete_version(version=model, actor=None, users=[])
    assert (caught.value.code, caught.value.params["users"]) == ("in-use", "iris/blue")

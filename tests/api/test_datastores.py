"""Datastores on the wire: their shapes, their secrets, and bodies that nobody means well."""

import copy

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.core.models import AuditRecord
from apps.registry.models import Datastore

pytestmark = pytest.mark.django_db(transaction=True)
SHORT = "/api/v1/workspaces/lab/datastores"
KEY, TOKEN = "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA==", "sv=2021&sig=very-secret"
AZURE = {
    "datastoreType": "AzureBlob",
    "description": "ours",
    "accountName": "ouraccount",
    "containerName": "our-container",
    "endpoint": "core.windows.net",
    "protocol": "https",
    "credentials": {"credentialsType": "AccountKey", "secrets": {"secretsType": "AccountKey", "key": KEY}},
    "tags": {"a": "b"},
}
S3 = {
    "datastoreType": "S3",
    "bucketName": "our-bucket",
    "endpoint": "https://s3.example.com",
    "region": "eu-central-1",
    "prefix": "in/here",
    "credentials": {"credentialsType": "AccountKey", "accessKeyId": "AKIA1", "secrets": {"key": KEY}},
}
NASTY = [
    None,
    True,
    -1,
    10**30,
    "",
    " ",
    "x" * 70_000,
    "\x00",
    "a\nb",
    "../..",
    "a/../b",
    "é",
    "http://x",
    "https://[::1",
]
NASTY += ["https://u:p@example.com", "a.b@evil.example", "a/evil", "a?b", "a#b", [], [1], {}, {"a": {"b": 1}}]


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


def put(api, properties, name="far"):
    return api.put(f"{SHORT}/{name}", {"properties": properties}, format="json")


def test_the_default_one_is_always_there(api, workspace, people, settings):
    listed = api.get(SHORT, {"count": 30, "isDefault": "true", "orderByAsc": "false"}).json()["value"]
    shown = api.get(f"{SHORT}/workspaceblobstore").json()
    assert listed == [shown]
    assert shown["id"] == f"{workspace.arm_id}/datastores/workspaceblobstore"
    expected = {
        "datastoreType": "AzureBlob",
        "accountName": f"{settings.HOST}:{settings.PORT}/storage",
        "containerName": f"azureml-blobstore-{workspace.pk}",
        "endpoint": "portway.local",
        "protocol": "https",
        "credentials": {"credentialsType": "Sas"},
        "isDefault": True,
        "serviceDataAccessAuthIdentity": "None",
        "tags": {},
        "properties": {},
    }
    assert expected.items() <= shown["properties"].items()
    body = {"expirableSecret": True, "expireAfterHours": 1}
    answer = api.post(f"{SHORT}/workspaceblobstore/listSecrets", body, format="json")
    assert answer.json()["secretsType"] == "Sas"
    assert "sig=" in answer.json()["sasToken"]  # see test_blobs
    assert api.delete(f"{SHORT}/workspaceblobstore").status_code == 409
    assert put(api, AZURE, "workspaceblobstore").status_code == 409
    assert api.get(f"{SHORT}/nobody").status_code == 404
    assert api.get(SHORT, {"isDefault": "false"}).json()["value"] == []
    assert api.get(SHORT, {"count": "x"}).status_code == 400


@pytest.mark.parametrize("body", [AZURE, S3], ids=["azure", "s3"])
def test_secrets_go_in_and_come_out_for_those_who_may(api, people, body, caplog):
    made = put(api, body)
    assert made.status_code == 201, made.content
    for answer in (made, api.get(f"{SHORT}/far"), api.get(SHORT)):
        assert KEY not in answer.content.decode()
    shown = made.json()["properties"]
    assert {key: value for key, value in body.items() if key != "credentials"}.items() <= shown.items()
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials, settings FROM registry_datastore WHERE name = 'far'")
        assert KEY not in str(cursor.fetchone())
    secrets = api.post(f"{SHORT}/far/listSecrets", {}, format="json").json()
    assert (secrets["secretsType"], secrets["key"]) == ("AccountKey", KEY)
    api.force_authenticate(people["rita"])
    assert api.post(f"{SHORT}/far/listSecrets", {}, format="json").status_code == 403
    assert api.get(f"{SHORT}/far").status_code == 200
    api.force_authenticate(people["charlie"])
    assert api.get(f"{SHORT}/far").status_code == 404
    records = list(AuditRecord.objects.filter(target="datastore/far").order_by("pk"))
    assert [each.action for each in records] == ["datastore.create", "datastore.list-secrets"]
    assert KEY not in str([each.detail for each in records]) + caplog.text


def test_secrets_stay_with_their_place(api):
    """Whoever changes the address must know the key: else the next request would carry it there."""
    put(api, AZURE)
    shown = api.get(f"{SHORT}/far").json()
    assert api.put(f"{SHORT}/far", shown, format="json").status_code == 200
    assert put(api, AZURE | {"credentials": {"credentialsType": "AccountKey"}, "prefix": "x"}).status_code == 200
    assert api.post(f"{SHORT}/far/listSecrets", {}, format="json").json()["key"] == KEY
    for change in ({"accountName": "evilaccount"}, {"endpoint": "evil.example"}, {"containerName": "other"}):
        answer = put(api, AZURE | {"credentials": {"credentialsType": "AccountKey"}} | change)
        assert (answer.status_code, answer.json()["error"]["target"]) == (400, "credentials.secrets")
    answer = put(api, AZURE | {"credentials": {"credentialsType": "Sas", "secrets": {"sasToken": TOKEN}}})
    assert answer.status_code == 200
    assert api.post(f"{SHORT}/far/listSecrets", {}, format="json").json() == {"secretsType": "Sas", "sasToken": TOKEN}
    assert put(api, AZURE | {"credentials": None}).status_code == 200
    assert Datastore.objects.get(name="far").credentials is None
    assert put(api, S3).status_code == 409
    assert api.delete(f"{SHORT}/far").status_code == 204
    assert api.delete(f"{SHORT}/far").status_code == 204
    assert put(api, S3).status_code == 201


def test_what_does_not_go_together_is_refused(api, people):
    for body in (
        AZURE | {"bucketName": "x"},
        S3 | {"containerName": "x"},
        S3 | {"root": "/"},
        AZURE | {"isDefault": True},
        AZURE | {"credentials": {"credentialsType": "Sas", "secrets": {"key": KEY}}},
        AZURE | {"credentials": {"credentialsType": "AccountKey"}},
        S3 | {"credentials": {"credentialsType": "Sas", "secrets": {"sasToken": TOKEN}}},
        S3 | {"credentials": {"credentialsType": "AccountKey", "secrets": {"key": KEY}}},
        S3 | {"endpoint": "http://s3.example.com"},
        AZURE | {"protocol": "http"},
        {"datastoreType": "Local", "root": "/tmp"},
        {"datastoreType": "AzureFile"},
        {},
    ):
        answer = put(api, body)
        assert answer.status_code == 400, body
        assert KEY not in answer.content.decode()
    api.force_authenticate(people["olga"])
    assert put(api, {"datastoreType": "Local", "root": "/tmp"}).status_code == 400
    assert not Datastore.objects.filter(is_default=False).exists()


@pytest.mark.parametrize("base", [AZURE, S3], ids=["azure", "s3"])
def test_every_field_with_every_kind_of_value(api, base):
    places = [(each,) for each in [*base, "isDefault", "nonsense", "root"]]
    places += [("credentials", each) for each in ("credentialsType", "accessKeyId", "secrets", "nonsense")]
    places += [("credentials", "secrets", each) for each in ("key", "sasToken", "nonsense")]
    for place in places:
        for value in NASTY:
            body = copy.deepcopy(base)
            at = body
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = value
            answer = put(api, body)
            assert answer.status_code in {200, 201, 400}, (place, value, answer.content[:300])
            if answer.status_code == 400:
                assert answer.json()["error"]["message"]
                assert not Datastore.objects.exists(), (place, value)
                assert not AuditRecord.objects.exists()
            Datastore.objects.all().delete()
            AuditRecord.objects.all().delete()


@pytest.mark.parametrize("name", ["a b", "..", "a" * 300, "é"])
def test_names_that_are_none(api, name):
    assert put(api, AZURE, name).status_code in {400, 404}
    assert not Datastore.objects.exists()

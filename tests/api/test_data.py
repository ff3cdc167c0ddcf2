"""Data assets on the wire, as the SDK sends them, and as those who mean harm do."""

import copy
import shutil

import pytest
from rest_framework.test import APIClient

from apps.core.models import AuditRecord
from apps.registry.models import Data, DataVersion
from apps.registry.queries import default_datastore
from apps.registry.stores.local import root_of

pytestmark = pytest.mark.django_db(transaction=True)
ARM = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/portway/providers"
    "/Microsoft.MachineLearningServices/workspaces/lab"
)
SHORT = "/api/v1/workspaces/lab"
GOOD = {
    "description": "An unlabeled dataset.",
    "isAnonymous": False,
    "tags": {},
    "isArchived": False,
    "properties": {},
    "dataUri": "azureml://datastores/workspaceblobstore/paths/LocalUpload/d282/data",
    "dataType": "uri_folder",
}
NASTY = [None, True, -1, 0, 1.5, 10**30, "", " ", "x" * 70_000, "\x00", "a\nb", "../..", [], [1], {}, {"a": {"b": 1}}]
NASTY += [
    "azureml://datastores/workspaceblobstore/paths/../x",
    "azureml:" + "a" * 1900,
    "https://[",
    "portway://data//",
]


@pytest.fixture
def api(people):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(people["dan"])
    return client


@pytest.fixture(autouse=True)
def folder(workspace):
    root = root_of(default_datastore(workspace))
    (root / "LocalUpload" / "d282" / "data").mkdir(parents=True)
    (root / "LocalUpload" / "d282" / "data" / "a.csv").write_text("1")
    yield root
    shutil.rmtree(root)


def put(api, properties, path=f"{SHORT}/data/heart/versions/1"):
    return api.put(path, {"properties": properties}, format="json")


def test_as_the_sdk_does_it(api):
    missing = api.get(f"{ARM}/data/heart")
    assert (missing.status_code, api.get(f"{ARM}/data/heart/versions").json()["value"]) == (404, [])
    made = put(api, GOOD, f"{ARM}/data/heart/versions/1")
    assert made.status_code == 201
    shown = made.json()
    assert shown["id"] == f"{ARM}/data/heart/versions/1"
    assert shown["type"] == "Microsoft.MachineLearningServices/workspaces/data/versions"
    assert shown["properties"] == {**GOOD, "provisioningState": "Succeeded"}
    container = api.get(f"{ARM}/data/heart").json()["properties"]
    assert (container["latestVersion"], container["nextVersion"], container["dataType"]) == ("1", "2", "uri_folder")
    assert put(api, GOOD, f"{ARM}/data/heart/versions/1").status_code == 200
    other = put(api, GOOD | {"dataType": "uri_file"}, f"{ARM}/data/heart/versions/1")
    assert other.status_code == 400
    elsewhere = put(api, GOOD | {"dataUri": GOOD["dataUri"] + "/.."}, f"{ARM}/data/heart/versions/1")
    assert (elsewhere.status_code, elsewhere.json()["error"]["target"]) == (400, "dataUri")


def test_archiving_is_a_put_of_what_get_gave(api):
    put(api, GOOD)
    body = api.get(f"{SHORT}/data/heart/versions/1").json()
    body["properties"]["isArchived"] = True
    assert api.put(f"{SHORT}/data/heart/versions/1", body, format="json").status_code == 200
    assert api.get(f"{SHORT}/data/heart/versions").json()["value"] == []
    listed = api.get(f"{SHORT}/data/heart/versions", {"listViewType": "All"}).json()["value"]
    assert [each["name"] for each in listed] == ["1"]
    assert api.get(f"{SHORT}/data/heart").json()["properties"]["latestVersion"] is None
    container = api.get(f"{SHORT}/data/heart").json()
    assert api.put(f"{SHORT}/data/heart", container, format="json").status_code == 200
    assert api.delete(f"{SHORT}/data/heart/versions/1").status_code == 204
    assert not Data.objects.exists()


def test_an_uploaded_folder(api):
    from django.core.files.uploadedfile import SimpleUploadedFile

    sent = {"files": [SimpleUploadedFile("a.csv", b"1")], "paths": ["top/a.csv"]}
    uri = api.post(f"{SHORT}/uploads", sent, format="multipart").json()["uri"]
    made = put(api, {"dataUri": uri, "dataType": "URI_FOLDER"})
    assert made.status_code == 201
    shown = made.json()["properties"]
    assert (shown["dataUri"], shown["dataType"]) == ("portway://data/heart/1", "uri_folder")
    assert api.put(f"{SHORT}/data/heart/versions/1", made.json(), format="json").status_code == 200


@pytest.mark.parametrize("place", [*GOOD, "nonsense"])
def test_every_field_with_every_kind_of_value(api, place):
    for value in NASTY:
        answer = put(api, copy.deepcopy(GOOD) | {place: value})
        assert answer.status_code in {200, 201, 400}, (value, answer.content[:300])
        if answer.status_code == 400:
            assert answer.json()["error"]["message"]
            assert not DataVersion.objects.exists()
            assert not Data.objects.exists()
            assert not AuditRecord.objects.exists()
        else:
            assert place not in {"dataUri", "nonsense"}
        Data.objects.all().delete()
        AuditRecord.objects.all().delete()


@pytest.mark.parametrize("name", ["..", "a b", "a" * 300, "é", "-a", "%00"])
def test_names_that_are_none(api, name):
    answer = api.put(f"{SHORT}/data/{name}/versions/1", {"properties": GOOD}, format="json")
    assert answer.status_code in {400, 404}
    assert not Data.objects.exists()


def test_lists_take_as_many_queries_for_three_as_for_one(api, django_assert_num_queries):
    put(api, GOOD)
    with django_assert_num_queries(4) as seen:
        api.get(f"{SHORT}/data")
    count = len(seen)
    for name in "ab":
        put(api, GOOD, f"{SHORT}/data/{name}/versions/1")
        put(api, GOOD, f"{SHORT}/data/{name}/versions/2")
    with django_assert_num_queries(count):
        assert len(api.get(f"{SHORT}/data").json()["value"]) == 3

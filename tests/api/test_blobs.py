"""The blob store of the SDK: its operations, its signatures, and callers who mean no good."""

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import Membership
from apps.api import blobs as views
from apps.api import sas
from apps.registry import blobs, storage
from apps.registry.models import BlobMetadata, CodeVersion, EnvironmentVersion, ModelVersion

pytestmark = pytest.mark.django_db(transaction=True)
WS = "/api/v1/workspaces/lab"
FOLDER = "LocalUpload/" + "ab" * 32


class Store:
    """One caller of one container."""

    def __init__(self, container, token):
        self.container, self.token, self.client = container, token, Client(raise_request_exception=False)

    def url(self, blob="", **query):
        path = f"/storage.blob.portway.local/{self.container}" + (f"/{quote(blob)}" if blob else "")
        return path + "?" + "&".join(filter(None, [urlencode(query), self.token]))

    def put(self, blob, content=b"", *, new=False, headers=None, **query):
        sent = (
            {"x-ms-blob-type": "BlockBlob", "Content-Length": str(len(content))}
            | ({"If-None-Match": "*"} if new else {})
            | (headers or {})
        )
        return self.client.put(self.url(blob, **query), content, content_type="application/octet-stream", headers=sent)

    def get(self, blob, **headers):
        return self.client.get(self.url(blob), headers=headers)

    def head(self, blob):
        return self.client.head(self.url(blob))

    def list(self, **query):
        """(names, folders, marker)."""
        answer = self.client.get(self.url(restype="container", comp="list", **query))
        assert answer.status_code == 200, answer.content
        found = ET.fromstring(answer.content)
        names = [each.text for each in found.iter("Name")]
        folders = [each.find("Name").text for each in found.iter("BlobPrefix")]
        return [name for name in names if name not in folders], folders, found.find("NextMarker").text


@pytest.fixture(autouse=True)
def no_blocks_stay():
    yield
    for each in settings.HOME.uploads.glob("blocks-*"):
        shutil.rmtree(each)


def api_of(person):
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(person)
    return client


def token_of(person):
    answer = api_of(person).post(f"{WS}/datastores/workspaceblobstore/listSecrets", {"expirableSecret": True}, "json")
    assert answer.status_code == 200, answer.json()
    return answer.json()["sasToken"]


@pytest.fixture
def name(people, workspace):
    shown = api_of(people["dan"]).get(f"{WS}/datastores/workspaceblobstore").json()["properties"]
    return shown["containerName"]


@pytest.fixture
def store(people, name):
    return Store(name, token_of(people["dan"]))


def code(answer):
    return answer.status_code, answer.headers.get("x-ms-error-code")


def read(answer):
    async def parts():
        return b"".join([part async for part in answer.streaming_content])

    return async_to_sync(parts)()


# -- operations


def test_a_blob_from_beginning_to_end(store, workspace):
    blob = f"{FOLDER}/model/a b.bin"
    assert code(store.head(blob)) == (404, "BlobNotFound")
    made = store.put(blob, b"0123456789", new=True)
    assert (made.status_code, bool(made.headers["ETag"]), "Last-Modified" in made.headers) == (201, True, True)
    noted = {"x-ms-meta-upload_status": "completed", "x-ms-meta-name": "mine", "x-ms-meta-version": "1"}
    assert store.put(blob, comp="metadata", headers=noted).status_code == 200
    found = store.head(blob)
    assert found.headers["Content-Length"] == "10"
    assert {key: found.headers[key] for key in noted} == noted
    assert found.headers["ETag"] == made.headers["ETag"]
    assert read(store.get(blob)) == b"0123456789"
    part = store.get(blob, **{"x-ms-range": "bytes=2-4"})
    assert (part.status_code, read(part), part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert read(store.get(blob, Range="bytes=8-")) == b"89"
    assert code(store.get(blob, Range="bytes=10-")) == (416, "InvalidRange")
    assert read(store.get(blob, Range="bytes=5-2")) == b"0123456789"
    tag = found.headers["ETag"]
    assert store.get(blob, **{"If-Match": tag}).status_code == 200
    assert code(store.get(blob, **{"If-Match": '"other"'})) == (412, "ConditionNotMet")
    assert (settings.HOME.artifacts / "blobs" / str(workspace.pk) / blob).read_bytes() == b"0123456789"

    assert code(store.put(blob, b"new", new=True)) == (409, "BlobAlreadyExists")
    assert store.put(blob, b"new").status_code == 201
    assert read(store.get(blob)) == b"new"
    assert "x-ms-meta-upload_status" not in store.head(blob).headers, "what was noted was of what was there before"


def staged(workspace):
    return list(Path(settings.HOME.uploads).glob(f"blocks-{workspace.pk}-*"))


@pytest.mark.timeout(20)
def test_lists_of_blocks_that_want_to_keep_a_parser_busy(store):
    for busy in (" " * 2**20, "<BlockList>" + " " * 2**20, "<?xml" * 2**18, "<BlockList>" + "<Latest>" * 2**17):
        assert code(store.put(f"{FOLDER}/x", busy, comp="blocklist")) == (400, "InvalidXmlDocument")


def test_a_blob_in_pieces(store, workspace):
    blob = f"{FOLDER}/big.bin"
    ids = ["YQ==", "Yg==", "Yw=="]
    for block, content in reversed(list(zip(ids, (b"a" * 10, b"b" * 10, b"c"), strict=True))):
        assert store.put(blob, content, comp="block", blockid=block).status_code == 201
    assert code(store.head(blob)) == (404, "BlobNotFound")
    listed = "<?xml version='1.0' encoding='utf-8'?>\n<BlockList>{}</BlockList>"
    text = listed.format("".join(f"<Latest>{block}</Latest>" for block in ids))
    missing = listed.format("<Latest>ZA==</Latest>")
    assert code(store.put(blob, missing, comp="blocklist")) == (404, "InvalidBlockList")
    assert store.put(blob, text, comp="blocklist", new=True).status_code == 201
    assert read(store.get(blob)) == b"a" * 10 + b"b" * 10 + b"c"
    assert not staged(workspace)
    assert store.put(blob, text, comp="blocklist").status_code == 201, "whose answer was lost may ask again"
    assert store.put(blob, b"d", comp="block", blockid="ZA==").status_code == 201
    assert store.put(blob, text, comp="blocklist").status_code == 201, "somebody else was faster with the same"
    assert code(store.put("other", text, comp="blocklist")) == (404, "InvalidBlockList")
    for bad in ("", "A_-b", "a b", "x" * 201):
        assert code(store.put(blob, b"x", comp="block", blockid=bad)) == (400, "InvalidInput")
    assert store.put(f"{FOLDER}/empty", "<BlockList />", comp="blocklist").status_code == 201
    for bad in ("", "<BlockList>", "<x/>", "<BlockList><Latest>&lt;</Latest></BlockList>", "\xff", listed + "x"):
        assert code(store.put(blob, bad.encode("latin1"), comp="blocklist")) == (400, "InvalidXmlDocument")


def test_pieces_nobody_puts_together_go_after_a_day(store, workspace):
    store.put(f"{FOLDER}/x", b"1", comp="block", blockid="YQ==")
    [folder] = staged(workspace)
    storage.collect()
    assert folder.exists()
    past = time.time() - 2 * 86_400
    os.utime(folder, (past, past))
    storage.collect()
    assert not folder.exists()


def test_lists(store):
    names = [f"{FOLDER}/m/a&b<c>.txt", f"{FOLDER}/m/deep/é.txt", f"{FOLDER}/m/z", f"{FOLDER}/other"]
    for each in names:
        store.put(each, b"x")
    store.put(names[2], comp="metadata", headers={"x-ms-meta-upload_status": "<&"})
    assert store.list(prefix=f"{FOLDER}/") == (names, [], None)
    assert store.list(prefix=names[2]) == ([names[2]], [], None)
    assert store.list(prefix=f"{FOLDER}/m/", delimiter="/") == ([names[0], names[2]], [f"{FOLDER}/m/deep/"], None)
    first, _folders, marker = store.list(prefix=f"{FOLDER}/", maxresults=3)
    rest, _folders, end = store.list(prefix=f"{FOLDER}/", maxresults=3, marker=marker)
    assert (first, rest, end) == (names[:3], names[3:], None)
    assert store.list(prefix="nothing/here") == ([], [], None)
    answer = store.client.get(store.url(comp="list", restype="container", include="metadata", prefix=names[2]))
    [noted] = ET.fromstring(answer.content).iter("Metadata")
    assert noted.find("upload_status").text == "<&"
    assert store.client.get(store.url(restype="container")).status_code == 200
    for bad in ({"maxresults": "x"}, {"maxresults": "-1"}, {"prefix": "../"}, {"prefix": "a/../b"}):
        answer = store.client.get(store.url(comp="list", restype="container", **bad))
        assert code(answer) == (400, "InvalidInput")


def test_a_list_asks_as_often_for_many_blobs_as_for_one(store, django_assert_max_num_queries):
    for number in range(30):
        store.put(f"{FOLDER}/many/{number:02}", b"x")
    with django_assert_max_num_queries(12):
        assert len(store.list(prefix=f"{FOLDER}/many/")[0]) == 30


def test_odd_files_beside_are_left_out(store, workspace):
    store.put(f"{FOLDER}/m/a", b"x")
    place = settings.HOME.artifacts / "blobs" / str(workspace.pk) / FOLDER / "m"
    os.mkfifo(place / "pipe")
    (place / "link").symlink_to("/etc/passwd")
    (place / os.fsdecode(b"\xff")).write_text("x")
    for query in ({}, {"delimiter": "/"}):
        assert store.list(prefix=f"{FOLDER}/m/", **query)[0] == [f"{FOLDER}/m/a"]


def test_results_of_jobs_are_not_overwritten(store, workspace):
    place = settings.HOME.artifacts / "blobs" / str(workspace.pk) / "azureml" / "run" / "score"
    place.mkdir(parents=True)
    (place / "predictions.csv").write_text("1\n")
    blob = "azureml/run/score/predictions.csv"
    assert read(store.get(blob)) == b"1\n"
    assert code(store.put(blob, b"2\n")) == (409, "BlobAlreadyExists")
    assert read(store.get(blob)) == b"1\n"
    assert store.list(prefix="azureml/run/score/")[0] == [blob]


# -- who may


def forged(token, **changes):
    given = {key: values[0] for key, values in parse_qs(token).items()} | changes
    return urlencode(given)


def test_only_who_holds_a_valid_signature(store, people, workspace, monkeypatch):
    blob = f"{FOLDER}/x"
    assert store.put(blob, b"mine").status_code == 201
    other = blobs.container_of(workspace.__class__.objects.get(name="other")).name
    reader = token_of(people["rita"])
    later = forged(store.token, se="2099-01-01T00:00:00Z")
    for token in ("", "sig=", forged(store.token, sig="x"), later, forged(reader, sp=sas.WRITES)):
        for answer in (Store(store.container, token).get(blob), Store(store.container, token).put(blob, b"theirs")):
            assert code(answer) == (403, "AuthenticationFailed")
    for container in (other, "azureml-blobstore-0", "azureml-blobstore-x", "nothing", "azureml-blobstore-" + "9" * 18):
        assert code(Store(container, store.token).get(blob)) == (403, "AuthenticationFailed")
    assert read(Store(store.container, reader).get(blob)) == b"mine"
    assert code(Store(store.container, reader).put(blob, b"theirs")) == (403, "AuthenticationFailed")
    assert read(store.get(blob)) == b"mine"

    Membership.objects.filter(user=people["dan"]).update(role="reader")
    assert code(store.put(blob, b"late")) == (403, "AuthenticationFailed")
    assert store.get(blob).status_code == 200
    people["dan"].is_active = False
    people["dan"].save()
    assert code(store.get(blob)) == (403, "AuthenticationFailed")


def test_a_signature_ends(store, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda now=timezone.now: now() + timedelta(minutes=61))
    assert code(store.get(f"{FOLDER}/x")) == (403, "AuthenticationFailed")


def test_secrets_of_other_datastores_need_more_than_to_read(people, workspace):
    body = {"properties": {"datastoreType": "S3", "bucketName": "our-bucket", "endpoint": "https://s3.example.com"}}
    assert api_of(people["dan"]).put(f"{WS}/datastores/far", body, "json").status_code == 201
    assert api_of(people["rita"]).post(f"{WS}/datastores/far/listSecrets", {}, "json").status_code == 403
    assert api_of(people["charlie"]).post(f"{WS}/datastores/far/listSecrets", {}, "json").status_code == 404


# -- input that nobody means well


@pytest.mark.parametrize(
    "blob",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "./x",
        "a/./b",
        "x\x01",
        "a\\..\\b\n",
        ".portway-partial-x",
        "x" * 300,
    ],
)
def test_names_that_no_blob_has(store, blob):
    before = sorted(Path(settings.HOME.artifacts).rglob("*"))
    answer = store.client.put(
        f"/storage.blob.portway.local/{store.container}/{quote(blob, safe='')}?{store.token}", b"x", content_type="x/y"
    )
    assert answer.status_code in {400, 404}
    assert sorted(Path(settings.HOME.artifacts).rglob("*")) == before


def test_a_link_in_the_datastore_leads_nowhere(store, workspace, tmp_path):
    root = settings.HOME.artifacts / "blobs" / str(workspace.pk)
    root.mkdir(parents=True, exist_ok=True)
    (tmp_path / "secret").write_text("s")
    (root / "out").symlink_to(tmp_path)
    try:
        assert code(store.get("out/secret")) == (400, "InvalidInput")
        assert code(store.put("out/new", b"x")) == (400, "InvalidInput")
        assert [each.name for each in tmp_path.iterdir()] == ["secret"]
    finally:
        (root / "out").unlink()


def test_bodies_and_headers_that_are_refused(store, monkeypatch):
    blob = f"{FOLDER}/x"
    assert code(store.put(blob, b"x", headers={"x-ms-blob-type": "PageBlob"})) == (400, "InvalidBlobType")
    assert code(store.put(blob, b"x", comp="lease")) == (400, "UnsupportedQueryParameter")
    assert code(store.put(blob, b"x", comp="metadata")) == (404, "BlobNotFound")
    assert code(store.put(blob, b"x", headers={"x-ms-meta-1/2": "x"})) == (400, "InvalidInput")
    assert code(store.put(blob, b"x", headers={"x-ms-meta-a": "x" * 9000})) == (400, "InvalidInput")
    assert code(store.head(blob)) == (404, "BlobNotFound")
    assert code(store.put("", b"x")) == (400, "InvalidInput")
    monkeypatch.setattr(views, "LARGEST", 3)
    assert code(store.put(blob, b"four")) == (413, "RequestBodyTooLarge")
    assert store.client.delete(store.url(blob)).status_code == 405
    assert store.client.post(store.url(blob)).status_code == 405
    assert code(store.head(f"{FOLDER}")) == (404, "BlobNotFound")
    assert not BlobMetadata.objects.exists()


def test_a_full_disk_is_said_and_nothing_is_left(store, workspace, monkeypatch):
    monkeypatch.setattr(storage, "KEPT_FREE", 2**60)
    before = sorted(Path(settings.HOME.uploads).iterdir())
    for query in ({}, {"comp": "block", "blockid": "YQ=="}):
        assert code(store.put(f"{FOLDER}/x", b"x", **query)) == (507, "ServerBusy")
    assert code(store.head(f"{FOLDER}/x")) == (404, "BlobNotFound")
    assert sorted(Path(settings.HOME.uploads).iterdir()) == before


# -- assets out of what was sent


def uri(name, path):
    return f"https://{urlsplit(settings.BASE_URL).netloc}/storage.blob.portway.local/{name}/{path}"


def test_code_in_a_container_of_its_own(people, workspace):
    api = api_of(people["dan"])
    address = f"{WS}/codes/0b39cb05-98e1-4e74-ad46-c61fd308c5bf/versions/1"
    given = api.post(f"{address}/startPendingUpload", {"pendingUploadType": "TemporaryBlobReference"}, "json").json()
    reference = given["blobReferenceForConsumption"]
    container = reference["blobUri"].rpartition("/")[2]
    token = reference["credential"]["sasUri"].partition("?")[2]
    code_store = Store(container, token)
    assert code_store.put("src/score.py", b"def init(): pass\ndef run(x): return x\n", new=True).status_code == 201
    assert code_store.list(prefix="src/")[0] == ["src/score.py"]
    body = {"properties": {"codeUri": f"{reference['blobUri']}/src", "isAnonymous": True}}
    assert api.put(address, body, "json").status_code == 201
    version = CodeVersion.objects.get(version="1")
    assert (storage.tree_path(version.tree_id) / version.path / "score.py").exists()
    again = api.post(f"{address}/startPendingUpload", {}, "json").json()["blobReferenceForConsumption"]["blobUri"]
    assert not again.endswith(container)
    assert api_of(people["rita"]).post(f"{address}/startPendingUpload", {}, "json").status_code == 403


def test_models_and_contexts_out_of_blobs(store, people, workspace):
    api = api_of(people["dan"])
    store.put(f"{FOLDER}/model/a.txt", b"a")
    store.put(f"{FOLDER}/context/Dockerfile", b"FROM scratch\n")
    arm = f"azureml://subscriptions/{workspace.subscription_id}/resourcegroups/{workspace.resource_group}"
    place = f"{arm}/workspaces/lab/datastores/workspaceblobstore/paths/{FOLDER}"
    body = {"properties": {"modelType": "custom_model", "modelUri": f"{place}/model"}}
    assert api.put(f"{WS}/models/m/versions/1", body, "json").status_code == 201
    model = ModelVersion.objects.get()
    assert (model.path, model.source) == ("model", f"{place}/model")
    assert (storage.tree_path(model.tree_id) / "model" / "a.txt").read_bytes() == b"a"
    assert api.put(f"{WS}/models/m/versions/1", body, "json").status_code == 200
    body["properties"]["modelUri"] = uri(store.container, f"{FOLDER}/model") + f"?{store.token}"
    shown = api.put(f"{WS}/models/signed/versions/1", body, "json").json()["properties"]["modelUri"]
    assert shown == uri(store.container, f"{FOLDER}/model"), "a signature is not kept for others to see"
    body["properties"]["modelUri"] = f"{place}/model/a.txt"
    assert api.put(f"{WS}/models/file/versions/1", body, "json").status_code == 201
    assert ModelVersion.objects.get(asset__name="file").path == "a.txt"

    host = urlsplit(settings.BASE_URL).netloc
    for number, lead in enumerate(("", "storage.blob.portway.local/", "storage/")):
        context = f"https://{host}/{lead}{store.container}/{FOLDER}/context/"
        answer = api.put(
            f"{WS}/environments/e/versions/{number}", {"properties": {"build": {"contextUri": context}}}, "json"
        )
        assert answer.status_code == 201, answer.json()
    assert EnvironmentVersion.objects.exclude(build_context=None).count() == 3


def test_addresses_that_are_no_assets(store, people, workspace):
    api = api_of(people["dan"])
    store.put(f"{FOLDER}/model/a.txt", b"a")
    other = blobs.container_of(workspace.__class__.objects.get(name="other")).name
    for bad in (
        uri(other, f"{FOLDER}/model"),
        uri(store.container, f"{FOLDER}/nothing"),
        uri(store.container, "../x"),
        uri("nothing", "x"),
        "https://example.com/model.pkl",
        f"https://example.com/storage.blob.portway.local/{store.container}/{FOLDER}/model",
        "azureml://datastores/nothing/paths/x",
        "azureml://datastores/workspaceblobstore/paths/../../x",
        "azureml://jobs/nothing/outputs/score",
        "azureml://datastores/workspaceblobstore/paths/" + "x/" * 1500,
    ):
        answer = api.put(
            f"{WS}/models/bad/versions/1", {"properties": {"modelType": "custom_model", "modelUri": bad}}, "json"
        )
        assert answer.status_code == 400, bad
        assert answer.json()["error"]["code"] == "BadArgument"
    assert not ModelVersion.objects.exists()

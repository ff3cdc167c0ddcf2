"""S3 and Azure Blob, as real servers of these protocols answer."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from apps.core.errors import Problem
from apps.registry import locations
from apps.registry.datastores import save_datastore
from apps.registry.models import Datastore

KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # azurite's own
PATH = f"{os.environ['PATH']}:{os.environ.get('PORTWAY_TEST_AZURITE', '')}"
AZURITE = shutil.which("azurite-blob", path=PATH)
FILES = {"in/a.csv": b"1", "in/b-1": b"22", "in/b/c.csv": b"333", "in/b.txt": b"", "inside": b"x"}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server does not listen")


@pytest.fixture(scope="module")
def s3_server():
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="someone", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="things")
    for key, body in FILES.items():
        client.put_object(Bucket="things", Key=f"prefix/{key}", Body=body)
    client.put_object(Bucket="things", Key="prefix/in/marker/", Body=b"")
    yield url
    server.stop()


@pytest.fixture(scope="module")
def azure_server(tmp_path_factory):
    if AZURITE is None:
        pytest.skip("azurite is not installed: npm install azurite, and name node_modules/.bin in PORTWAY_TEST_AZURITE")
    from azure.storage.blob import ContainerClient

    port = free_port()
    command = [AZURITE, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent", "--disableTelemetry"]
    command += ["--skipApiVersionCheck", "--location", str(tmp_path_factory.mktemp("azurite"))]
    environment = os.environ | {"PATH": PATH}  # it is a script of node's
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        url = f"http://127.0.0.1:{port}"
        credential = {"account_name": "devstoreaccount1", "account_key": KEY}
        container = ContainerClient(f"{url}/devstoreaccount1", "things", credential=credential)
        container.create_container()
        for key, body in FILES.items():
            container.upload_blob(f"prefix/{key}", body)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=15)


def s3_settings(url):
    return {"bucketName": "things", "endpoint": url, "prefix": "prefix"}


def azure_settings(url):
    return {"accountName": "devstoreaccount1", "containerName": "things", "endpoint": url, "prefix": "prefix"}


@pytest.fixture(params=["S3", "AzureBlob"])
def store(request, workspace, people, settings):
    """Datastore `far` on a real server: (its settings, its credentials, its type)."""
    url = request.getfixturevalue("s3_server" if request.param == "S3" else "azure_server")
    settings.INPUT_HOSTS_ALLOWED = frozenset({url.removeprefix("http://")})
    if request.param == "S3":
        where, secrets = s3_settings(url), {"accessKeyId": "someone", "key": "secret"}
    else:
        where, secrets = azure_settings(url), {"key": KEY}
    credentials = {"credentialsType": "AccountKey", **secrets}
    save_datastore(
        workspace=workspace,
        name="far",
        type=request.param,
        settings=where,
        credentials=credentials,
        actor=people["olga"],
    )
    return where, credentials, request.param


@pytest.fixture
def at(workspace, people):
    def resolve(path):
        uri = f"azureml://datastores/far/paths/{path}"
        return locations.resolve(uri, workspace=workspace, actor=people["rita"])

    return resolve


def test_reading(store, at, tmp_path):
    assert list(at("in").files()) == [("a.csv", 1), ("b-1", 2), ("b.txt", 0), ("b/c.csv", 3)]
    assert list(at("in").files(nested=False)) == [("a.csv", 1), ("b-1", 2), ("b.txt", 0)]
    assert list(at("in/b/c.csv").files()) == [("c.csv", 3)]
    assert [name for name, _ in at("").files() if name.startswith("in")] == [
        "in/a.csv",
        "in/b-1",
        "in/b.txt",
        "in/b/c.csv",
        "inside",
    ]
    assert [at(path).kind() for path in ("in", "inside", "ins", "in/b", "")] == [
        "folder",
        "file",
        None,
        "folder",
        "folder",
    ]
    assert at("in").fetch("b/c.csv", tmp_path / "copy") == 3
    assert (tmp_path / "copy").read_bytes() == b"333"
    assert at("in/a.csv").open("a.csv").read() == b"1"
    assert at("in/b.txt").open().read() == b""
    assert at("in").local_path() is None
    for path in ("nothing", "in/nothing"):
        with pytest.raises(Problem) as info:
            at(path).open()
        assert info.value.code == "bad-field"
        with pytest.raises(Problem) as info:
            list(at(path).files())
        assert "there is nothing at" in info.value.message


def test_writing_overwrites_nothing(store, at, tmp_path):
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_bytes(b"1" * 5_000_000)
    (folder / "z").write_bytes(b"2")
    place = at(f"written-{store[2]}/j1")
    place.put(folder)
    assert list(place.files()) == [("sub/a", 5_000_000), ("z", 1)]
    assert place.open("z").read() == b"2"
    (folder / "z").write_bytes(b"3")
    for source in (folder, folder / "z"):
        with pytest.raises(Problem) as info:
            place.put(source)
        assert info.value.code == "output-exists"
    assert place.open("z").read() == b"2"
    other = at(f"written-{store[2]}/j2")
    other.put(folder / "z")
    assert other.open().read() == b"3"
    other.delete()
    place.delete()
    assert (place.kind(), other.kind()) == (None, None)


def test_a_large_file_is_written_in_parts(store, at, tmp_path):
    content = os.urandom(2**20) * 35
    (tmp_path / "large").write_bytes(content)
    place = at("large")
    place.put(tmp_path / "large")
    assert place.fetch("", tmp_path / "copy") == len(content)
    assert (tmp_path / "copy").read_bytes() == content
    if store[2] == "S3":
        assert place.store._write(tmp_path / "large", "large") is False
    place.delete()


def test_what_another_wrote_meanwhile_stays(store, at, tmp_path, monkeypatch):
    """Both looked and saw nothing; the second write fails, and takes back only its own files."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a").write_text("mine")
    (folder / "b").write_text("mine")
    (tmp_path / "b").write_text("theirs")
    place = at("race")
    place.child("b").put(tmp_path / "b")
    monkeypatch.setattr(type(place.store), "kind", lambda *_: None)
    with pytest.raises(Problem) as info:
        place.put(folder)
    assert info.value.code == "output-exists"
    monkeypatch.undo()
    assert list(place.files()) == [("b", 6)]
    assert place.open("b").read() == b"theirs"
    place.delete()


def change(workspace, **values):
    Datastore.objects.filter(workspace=workspace, name="far").update(**values)


def test_what_is_wrong_with_it_is_said_without_secrets(store, at, workspace, tmp_path):
    where, credentials, kind = store
    name = "bucketName" if kind == "S3" else "containerName"
    change(workspace, settings=where | {name: "nobody-has-this"})
    for attempt in (lambda: list(at("in").files()), at("in").open, lambda: at("in").put(Path(__file__))):
        with pytest.raises(Problem) as info:
            attempt()
        assert info.value.code == "bad-field"
        assert "far" in info.value.message
        assert credentials["key"] not in str(info.value.as_json())


def test_wrong_credentials(azure_server, at, workspace, people, settings):
    settings.INPUT_HOSTS_ALLOWED = frozenset({azure_server.removeprefix("http://")})
    for credentials in (
        {"credentialsType": "AccountKey", "key": KEY.replace("Eby8", "AAAA")},
        {"credentialsType": "AccountKey", "key": "no base64"},
        {"credentialsType": "Sas", "sasToken": "sv=2021-08-06&sig=wrong"},
        None,
    ):
        save_datastore(
            workspace=workspace,
            name="far",
            type="AzureBlob",
            settings=azure_settings(azure_server),
            credentials=credentials,
            actor=people["olga"],
        )
        with pytest.raises(Problem) as info:
            list(at("in").files())
        assert info.value.code == "bad-field"
        shown = str(info.value.as_json())
        assert not any(value in shown for key, value in (credentials or {}).items() if key != "credentialsType")


def test_a_shared_access_signature(azure_server, at, workspace, people, settings):
    from datetime import timedelta

    from azure.storage.blob import generate_account_sas
    from django.utils import timezone

    settings.INPUT_HOSTS_ALLOWED = frozenset({azure_server.removeprefix("http://")})
    token = generate_account_sas(
        "devstoreaccount1", KEY, "sco", "rl", expiry=timezone.now() + timedelta(hours=1), services="b"
    )
    save_datastore(
        workspace=workspace,
        name="far",
        type="AzureBlob",
        settings=azure_settings(azure_server),
        credentials={"credentialsType": "Sas", "sasToken": token},
        actor=people["olga"],
    )
    assert [name for name, _ in at("in").files()] == ["a.csv", "b-1", "b.txt", "b/c.csv"]
    with pytest.raises(Problem) as info:
        at("out").put(Path(__file__))
    assert info.value.code == "bad-field"


def test_servers_that_are_not_there_or_not_public(store, at, workspace, settings, monkeypatch):
    where, _, kind = store
    settings.INPUT_HOSTS_ALLOWED = frozenset()
    with pytest.raises(Problem) as info:
        at("in").kind()
    assert info.value.code == "bad-field"
    assert "not a public address" in info.value.message
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings.INPUT_HOSTS_ALLOWED = frozenset({"127.0.0.1"})
    change(workspace, settings=where | {"endpoint": endpoint})
    monkeypatch.setattr("apps.registry.stores.s3.TRIES" if kind == "S3" else "apps.registry.stores.azure.TRIES", 1)
    with pytest.raises(Problem) as info:
        at("in").kind()
    assert info.value.code == "unavailable"
    assert "far" in info.value.message


@pytest.mark.parametrize("store", ["S3"], indirect=True)  # the key is written with its client
def test_keys_that_lead_elsewhere_are_refused(s3_server, at, store):
    assert store[2] == "S3"
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        aws_access_key_id="someone",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.put_object(Bucket="things", Key="prefix/odd//x", Body=b"1")
    with pytest.raises(Problem) as refusal:
        list(at("odd").files())
    assert "it holds '/x'" in refusal.value.params["reason"]

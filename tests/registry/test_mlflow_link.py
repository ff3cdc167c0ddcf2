"""Importing from MLflow's registry: once, by whoever is alive, with the reason when it fails. MLflow is real."""

import os
import signal
import uuid
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.core.models import AuditRecord
from apps.registry import domain, mlflow_client, mlflow_files, mlflow_link, sources, storage
from apps.registry.models import MlflowImport, MlflowLink, ModelVersion, Upload
from apps.registry.queries import failed_imports
from tests.mlflow_parts import API, MLMODEL, call, good, make_version
from tests.world import tree_of


@pytest.fixture
def lab(db, mlflow_process):
    workspace = Workspace.objects.create(name=f"lab-{uuid.uuid4().hex[:8]}")
    mlflow_link.touch(workspace)
    return workspace


def again():
    """Let the waiting time of failed imports pass."""
    MlflowImport.objects.update(retry_at=timezone.now())
    return mlflow_link.sync()


def versions(workspace):
    return [str(each) for each in ModelVersion.objects.filter(asset__workspace=workspace).order_by("pk")]


def test_imports_each_version_once(lab):
    tags = [{"key": "team", "value": "blue"}]
    run_id, _ = make_version(lab.name, "wine", tags=tags)
    assert mlflow_link.sync() == 1
    make_version(lab.name, "wine", files={"MLmodel": MLMODEL + "x: 1\n"}, model=False)
    assert [mlflow_link.sync(), mlflow_link.sync(), mlflow_link.sync()] == [1, 0, 0]
    assert versions(lab) == ["wine:1", "wine:2"]
    version = ModelVersion.objects.get(asset__workspace=lab, version="1")
    assert (version.type, version.source, version.run_id) == ("mlflow_model", "models:/wine/1", run_id)
    assert (version.tags, version.path) == ({"team": "blue"}, "model")
    assert AuditRecord.objects.filter(action="model.import", workspace=lab.name).count() == 2


def test_reads_while_warm_then_every_half_minute(lab, monkeypatch):
    reads = []
    monkeypatch.setattr(mlflow_client, "versions", lambda name, *, everything: reads.append(everything) or iter(()))
    mlflow_link.sync()
    mlflow_link.sync()
    assert reads == [True, False]
    MlflowLink.objects.update(touched_at=timezone.now() - timedelta(seconds=6))
    mlflow_link.sync()
    assert reads == [True, False]
    MlflowLink.objects.update(full_at=timezone.now() - timedelta(seconds=31))
    mlflow_link.sync()
    assert reads == [True, False, True]
    mlflow_link.touch(lab)
    mlflow_link.sync()
    assert reads == [True, False, True, False]


def test_a_workspace_nobody_wrote_to_costs_nothing(db, monkeypatch):
    Workspace.objects.create(name="quiet")
    monkeypatch.setattr(mlflow_client, "get", None)
    assert mlflow_link.sync() == 0


@pytest.mark.parametrize(
    ("name", "files", "code", "words"),
    [
        ("no-mlmodel", {"model.pkl": b"x"}, "model-invalid", "no file MLmodel"),
        ("no-pyfunc", {"MLmodel": "flavors: {sklearn: {}}"}, "model-invalid", "python_function"),
        ("not yaml", {"MLmodel": "a: [", "b": b"c"}, "model-invalid", "not YAML"),
        ("has spaces", None, "bad-name", "not a valid model name"),
        ("no-files", {}, "model-invalid", "not there"),
        ("bomb", {"MLmodel": "a: &a [x, x]\nb: &b [*a, *a]\n" + "c: *b\n"}, "model-invalid", "python_function"),
    ],
)
def test_a_failure_says_why_and_waits_longer_each_time(lab, name, files, code, words):
    make_version(lab.name, name, files=files)
    assert mlflow_link.sync() == 0
    [row] = failed_imports(lab, name)
    assert (row.error["code"], row.attempts) == (code, 1)
    assert words in row.error["message"]
    first = row.retry_at - timezone.now()
    mlflow_link.sync()
    assert failed_imports(lab).get().attempts == 1  # not before its time
    again()
    row.refresh_from_db()
    assert row.attempts == 2
    assert row.retry_at - timezone.now() > first + timedelta(seconds=3)
    assert not list((settings.HOME.uploads).iterdir())


def test_a_mended_version_is_imported_later(lab):
    _, found = make_version(lab.name, "late", files={"other": b"x"})
    mlflow_link.sync()
    below = found["source"].removeprefix("mlflow-artifacts:/")
    good("PUT", f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{below}/MLmodel", MLMODEL.encode(), workspace=lab.name)
    assert again() == 1
    assert not failed_imports(lab).exists()


def test_what_was_deleted_here_stays_deleted_and_what_was_deleted_there_stays_here(lab):
    make_version(lab.name, "gone")
    make_version(lab.name, "kept")
    mlflow_link.sync()
    version = ModelVersion.objects.get(asset__workspace=lab, asset__name="gone")
    domain.delete_version(version=version, actor=None, users=[])
    good("DELETE", API + "registered-models/delete", {"name": "kept"}, workspace=lab.name)
    again()
    MlflowLink.objects.update(full_at=None)
    again()
    assert versions(lab) == ["kept:1"]


def test_a_name_used_again_cannot_replace_the_version_that_was_imported(lab):
    make_version(lab.name, "twice")
    mlflow_link.sync()
    good("DELETE", API + "registered-models/delete", {"name": "twice"}, workspace=lab.name)
    make_version(lab.name, "twice", files={"MLmodel": MLMODEL + "y: 2\n"})
    mlflow_link.sync()
    [row] = failed_imports(lab, "twice")
    assert row.error["code"] == "immutable"
    assert versions(lab) == ["twice:1"]


def test_deleted_before_it_was_imported(lab, monkeypatch):
    make_version(lab.name, "brief")
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_link, "_import", lambda _: False)
        mlflow_link.sync()
    good("DELETE", API + "registered-models/delete", {"name": "brief"}, workspace=lab.name)
    assert mlflow_link.sync() == 0
    assert not MlflowImport.objects.exists()


def test_an_mlflow_that_is_away_is_no_failure_of_the_model(lab, monkeypatch, settings, tmp_path):
    make_version(lab.name, "patient")
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_client, "TIMEOUT_S", 1)
        patch.setattr(type(settings.HOME), "mlflow_socket", tmp_path / "none.sock")
        assert mlflow_link.sync() == 0
    assert mlflow_link.sync() == 1


def test_prompts_are_not_models(lab):
    make_version(lab.name, "prompt", tags=[{"key": "team", "value": "x"}])
    tag = {"key": "mlflow.prompt.is_prompt", "value": "true"}
    call("POST", API + "registered-models/create", {"name": "words", "tags": [tag]}, workspace=lab.name)
    text = {"key": "mlflow.prompt.text", "value": "hello"}
    body = {"name": "words", "source": "dummy-source", "tags": [tag, text]}
    call("POST", API + "model-versions/create", body, workspace=lab.name)
    mlflow_link.sync()
    assert versions(lab) == ["prompt:1"]
    assert not failed_imports(lab).exists()


@pytest.mark.parametrize("where", ["copying", "stored", "registering"])
def test_killed_in_the_middle_then_taken_over(transactional_db, mlflow_process, where):
    lab = Workspace.objects.create(name=f"lab-{uuid.uuid4().hex[:8]}")
    mlflow_link.touch(lab)
    make_version(lab.name, "survivor", files={"MLmodel": MLMODEL, "big": os.urandom(3_000_000)})
    connections.close_all()
    child = os.fork()
    if child == 0:
        die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        if where == "copying":
            left = [2]
            take = storage.Room.take
            storage.Room.take = lambda room, size: take(room, size) if left.pop() else die()
            left[:] = [0, 1]
        elif where == "stored":
            domain.register_model = die
        else:
            mlflow_link.audit.record = die
        mlflow_link.sync()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert versions(lab) == []
    assert mlflow_link.sync() == 0  # the dead one's claim holds for a while
    assert again() == 1
    assert versions(lab) == ["survivor:1"]
    os.utime(settings.HOME.uploads, (0, 0))
    for left in settings.HOME.uploads.iterdir():
        os.utime(left, (0, 0))
    storage.collect()
    assert not list(settings.HOME.uploads.iterdir())


def test_two_controllers_import_once(lab):
    make_version(lab.name, "one")
    mlflow_link._read(MlflowLink.objects.get(), everything=True)
    row = MlflowImport.objects.get()
    assert [mlflow_link._import(row), mlflow_link._import(row)] == [True, False]
    assert versions(lab) == ["one:1"]


def test_uris_of_runs_and_models(lab):
    run_id, _ = make_version(lab.name, "wine")
    for uri in (f"runs:/{run_id}/model", "models:/wine/1"):
        found = sources.resolve(uri, workspace=lab, actor=None)
        assert (storage.tree_path(found.tree.pk) / found.path / "MLmodel").read_text() == MLMODEL
        assert found.uri == uri
    single = sources.resolve(f"runs:/{run_id}/model/MLmodel", workspace=lab, actor=None)
    assert (single.tree.files, single.path) == (1, "MLmodel")


def test_uris_of_another_workspace_are_not_found(lab):
    other = Workspace.objects.create(name=f"other-{uuid.uuid4().hex[:8]}")
    run_id, found = make_version(other.name, "wine")
    for uri in (f"runs:/{run_id}/model", "models:/wine/1", f"runs:/{run_id}/nothing", "runs:/none/model"):
        with pytest.raises(Problem) as caught:
            sources.resolve(uri, workspace=lab, actor=None)
        assert caught.value.code == "not-found"
    with pytest.raises(Problem, match="another workspace"):
        mlflow_files.locate(lab, found["source"])


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "s3://bucket/x",
        "/etc/passwd",
        "mlflow-artifacts:/",
        "mlflow-artifacts:/1/x",
        "mlflow-artifacts:/workspaces/{ws}/../../../secrets",
        "mlflow-artifacts:/workspaces/{ws}/%2e%2e/x",
        "mlflow-artifacts:/workspaces/other/1",
        "mlflow-artifacts:/workspaces/{ws}/a\\..\\b",
    ],
)
def test_places_that_are_not_the_workspaces_own(workspace, uri):
    with pytest.raises(Problem) as caught:
        mlflow_files.locate(workspace, uri.format(ws=workspace.name))
    assert caught.value.code == "model-invalid"


@pytest.mark.parametrize("kind", ["symlink", "folder link", "fifo"])
def test_links_and_pipes_in_the_artifact_store_are_refused(workspace, kind):
    place = settings.HOME.artifacts / "mlflow" / "workspaces" / workspace.name / uuid.uuid4().hex
    place.mkdir(parents=True)
    (place / "MLmodel").write_text(MLMODEL)
    if kind == "fifo":
        os.mkfifo(place / "x")
    else:
        (place / "x").symlink_to("/etc" if kind == "folder link" else "/etc/passwd")
    with pytest.raises(Problem, match="link or a special file"):
        mlflow_files.take(workspace, f"mlflow-artifacts:/workspaces/{workspace.name}/{place.name}")
    assert not list(settings.HOME.uploads.iterdir())


@pytest.mark.parametrize(
    "request_",
    [
        ("GET", "/mlflow/api/3.0/mlflow/scorers/list", {}, 404),
        ("POST", "/mlflow/api/3.0/mlflow/workspaces", {}, 404),
        ("GET", API + "experiments/search?max_results=1", {"user": ""}, 403),
        ("GET", API + "experiments/search?max_results=1", {"workspace": ""}, 403),
    ],
)
def test_the_server_itself_refuses_what_is_not_open(mlflow_process, request_):
    method, path, options, status = request_
    assert call(method, path, {} if method == "POST" else None, **options)[0] == status


@pytest.mark.parametrize("place", ["file:///etc", "/etc", "mlflow-artifacts:/workspaces/other/1", "s3://bucket"])
def test_nobody_chooses_where_artifacts_go(mlflow_process, place):
    body = {"name": uuid.uuid4().hex, "artifact_location": place}
    assert call("POST", API + "experiments/create", body, workspace="lab")[0] == 400


def test_artifacts_of_another_workspace_cannot_be_reached(mlflow_process):
    _, found = make_version("first", f"m{uuid.uuid4().hex}")
    below = found["source"].removeprefix("mlflow-artifacts:/")
    url = f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{below}/MLmodel"
    assert call("GET", url, workspace="first")[0] == 200
    assert call("GET", url, workspace="second")[0] == 400
    assert call("PUT", url, b"x", workspace="second")[0] == 400
    sneaky = f"/mlflow/api/2.0/mlflow-artifacts/artifacts/../../{below}/MLmodel"
    assert call("GET", sneaky, workspace="second")[0] == 400


def test_an_upload_counts_for_its_workspace_only(workspace, people):
    tree = tree_of(model__MLmodel="x")
    upload = Upload.objects.create(workspace=workspace, tree=tree)
    assert sources.resolve(f"{upload.uri}/model", workspace=workspace, actor=None).path == "model"
    other = Workspace.objects.get(name="other")
    for uri in (
        upload.uri,
        f"{upload.uri}/../x",
        f"{upload.uri}/" + "a" * 300,
        f"{upload.uri}/a\0b",
        f"{upload.uri}/none",
    ):
        with pytest.raises(Problem):
            sources.resolve(uri, workspace=other if uri == upload.uri else workspace, actor=None)

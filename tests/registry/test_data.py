"""Registering data: what is there, of which type, and what keeps it."""

import shutil

import pytest

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.core.models import AuditRecord
from apps.endpoints.users import users_of
from apps.registry import locations, storage
from apps.registry.datastores import delete_datastore, save_datastore
from apps.registry.domain import delete_version, register_data
from apps.registry.models import Data, Datastore, DataVersion, Tree, Upload
from apps.registry.queries import default_datastore
from apps.registry.stores.local import root_of
from tests.world import tree_of

BLOBS = "azureml://datastores/workspaceblobstore/paths/"


@pytest.fixture
def root(workspace):
    folder = root_of(default_datastore(workspace))
    (folder / "heart").mkdir(exist_ok=True)
    (folder / "heart" / "a.csv").write_text("1")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def register(workspace, people):
    def run(uri, name="heart", **values):
        return register_data(workspace=workspace, name=name, uri=uri, actor=people["dan"], **values)

    return run


def code_of(function, *args, **values):
    with pytest.raises(Problem) as info:
        function(*args, **values)
    return info.value.code


def test_a_version_is_made_once(root, register, workspace):
    made, new = register(f"{BLOBS}heart/")
    assert (new, made.version, made.uri, made.type) == (True, "1", f"{BLOBS}heart", "uri_folder")
    again, new = register(f"{workspace.arm_id}/datastores/workspaceblobstore/paths/heart", version="1", tags={"a": "b"})
    assert (again.pk, new, again.tags) == (made.pk, False, {"a": "b"})
    assert code_of(register, f"{BLOBS}heart/a.csv", version="1", type="uri_file") == "immutable"
    record = AuditRecord.objects.get(action="data.register")
    assert (record.target, record.actor.username) == ("data/heart:1", "dan")


@pytest.mark.parametrize(
    ("path", "type_", "reason"),
    [
        ("nothing", "uri_folder", "there is nothing"),
        ("heart", "uri_file", "is a folder"),
        ("heart/a.csv", "uri_folder", "is a file"),
        ("heart", "mltable", "no file MLTable"),
        ("../heart", "uri_folder", "dotted"),
    ],
)
def test_what_is_not_there_or_of_another_type_is_refused(root, register, path, type_, reason):
    with pytest.raises(Problem) as info:
        register(BLOBS + path, type=type_)
    assert (info.value.code, info.value.target) == ("bad-field", "dataUri")
    assert reason in info.value.message
    assert not Data.objects.exists()


def test_an_mltable(root, register):
    (root / "heart" / "MLTable").write_text("type: mltable\npaths: []\n")
    assert register(f"{BLOBS}heart", type="mltable")[0].type == "mltable"


def test_an_upload_stays_although_uploads_go(register, workspace):
    upload = Upload.objects.create(workspace=workspace, tree=tree_of(top__a="1"), path="top")
    made, _ = register(upload.uri)
    assert (made.tree, made.path, made.uri) == (upload.tree, "top", "")
    upload.delete()
    Tree.objects.update(used_at="2020-01-01T00:00:00Z")
    storage.collect()
    place = locations.resolve("azureml:heart@latest", workspace=workspace, actor=None)
    assert list(place.files()) == [("a", 1)]
    assert place.uri == made.source_uri == "portway://data/heart/1"
    assert locations.resolve(f"{place.uri}/a", workspace=workspace, actor=None).kind() == "file"
    again, new = register(made.source_uri, version="1")
    assert (again.pk, new) == (made.pk, False)


def test_assets_by_their_ids(root, register, workspace, people):
    register(f"{BLOBS}heart")
    register(f"{BLOBS}heart/a.csv", type="uri_file")
    DataVersion.objects.filter(version="2").update(is_archived=True)
    for uri in ("azureml:heart:1", "azureml:heart@latest", f"{workspace.arm_id}/data/heart/versions/1"):
        assert locations.resolve(uri, workspace=workspace, actor=None).uri == f"{BLOBS}heart"
    assert locations.resolve("azureml:heart:2", workspace=workspace, actor=None).kind() == "file"
    other = Workspace.objects.get(name="other")
    for uri in ("azureml:heart:1", f"{workspace.arm_id}/data/heart/versions/1", "portway://data/heart/1"):
        assert code_of(locations.resolve, uri, workspace=other, actor=people["charlie"]) == "bad-field"


def test_data_of_the_web_is_one_file(register):
    made, _ = register("https://example.com/a.csv", type="uri_file")
    assert made.source_uri == "https://example.com/a.csv"
    assert code_of(register, "https://example.com/a.csv") == "bad-field"
    assert code_of(register, "http://example.com/a.csv", type="uri_file") == "bad-field"


def test_a_datastore_that_data_names_is_in_use(register, workspace, people):
    values = {"type": "S3", "settings": {"bucketName": "things"}, "credentials": None, "actor": people["olga"]}
    far, _ = save_datastore(workspace=workspace, name="far", **values)
    farther, _ = save_datastore(workspace=workspace, name="farther", **values)
    made, _ = register("azureml://datastores/farther/paths/a")
    delete_datastore(datastore=far, actor=people["olga"])
    with pytest.raises(Problem) as info:
        delete_datastore(datastore=farther, actor=people["olga"])
    assert (info.value.code, info.value.params["users"]) == ("in-use", "heart:1")
    delete_version(version=made, actor=people["olga"], users=users_of(made))
    delete_datastore(datastore=farther, actor=people["olga"])
    assert code_of(delete_datastore, datastore=default_datastore(workspace), actor=people["olga"]) == "conflict"
    assert [each.name for each in Datastore.objects.all()] == ["workspaceblobstore"]


def test_folders_of_the_machine_are_the_administrators(workspace, people, settings, tmp_path):
    olga = people["olga"]
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.csv").write_text("1")

    def save(root, name="shared"):
        return save_datastore(
            workspace=workspace, name=name, type="Local", settings={"root": str(root)}, credentials=None, actor=olga
        )

    assert code_of(save, tmp_path / "shared") == "bad-field"
    olga.is_superuser = True
    home = settings.HOME.root
    inside = tmp_path / "link"
    inside.symlink_to(home)
    for root in ("/", home, home.parent, home / "secrets", inside, "relative", "/no/such/folder", "/etc/passwd", ""):
        assert code_of(save, root) == "bad-field", root
    save(tmp_path / "shared")
    place = locations.resolve("azureml://datastores/shared/paths/", workspace=workspace, actor=people["rita"])
    assert list(place.files()) == [("a.csv", 1)]

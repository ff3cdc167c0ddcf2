"""What is stored stays while somebody uses it, and goes when nobody does."""

import os
import threading
import time
import uuid
from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.core.controller import jobs
from apps.registry import domain, storage
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion, Tree, Upload
from tests.world import tree_of


def fresh():
    return tree_of(file=uuid.uuid4().hex)


def age(tree, **ago):
    Tree.objects.filter(pk=tree.pk).update(used_at=timezone.now() - timedelta(**ago))


def is_there(tree):
    return Tree.objects.filter(pk=tree.pk).exists(), storage.tree_path(tree.pk).exists()


def test_an_unused_tree_goes_after_an_hour(db):
    young, old = fresh(), fresh()
    age(young, minutes=50)
    age(old, minutes=70)
    assert storage.collect() == 1
    assert is_there(young) == (True, True)
    assert is_there(old) == (False, False)


def test_a_tree_in_use_stays_whatever_its_age(workspace):
    model, code, context = fresh(), fresh(), fresh()
    domain.register_model(workspace=workspace, name="m", tree=model, path="", actor=None)
    domain.register_code(workspace=workspace, name="c", tree=code, actor=None)
    domain.register_environment(
        workspace=workspace, name="e", build_context=context, dockerfile_path="file", actor=None
    )
    for tree in (model, code, context):
        age(tree, days=400)
    assert storage.collect() == 0
    assert [is_there(tree) for tree in (model, code, context)] == [(True, True)] * 3
    for rows in (ModelVersion, CodeVersion, EnvironmentVersion):
        rows.objects.all().delete()
    assert storage.collect() == 3


def test_an_upload_nobody_registered_goes_after_a_day_its_tree_an_hour_later(workspace):
    tree = fresh()
    upload = Upload.objects.create(workspace=workspace, tree=tree)
    age(tree, days=2)
    assert storage.collect() == 0
    Upload.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert storage.collect() == 0
    assert not Upload.objects.filter(pk=upload.pk).exists()
    assert is_there(tree) == (True, True)
    age(tree, minutes=61)
    assert storage.collect() == 1


def test_storing_it_again_makes_it_young(db):
    tree = tree_of(file="same")
    age(tree, days=9)
    assert tree_of(file="same").pk == tree.pk
    assert storage.collect() == 0


def test_a_folder_that_is_missing_is_put_back(db):
    tree = tree_of(file="lost")
    storage.tree_path(tree.pk).rename(settings.HOME.uploads / "elsewhere")
    tree_of(file="lost")
    assert is_there(tree) == (True, True)
    storage._sweep(timezone.now().timestamp() + 10)
    assert not list(settings.HOME.uploads.iterdir())


def test_leftovers_of_killed_processes_are_swept(db):
    old, young = settings.HOME.uploads / "old", settings.HOME.uploads / "young"
    for folder in (old, young):
        (folder / "x").mkdir(parents=True)
    (settings.HOME.uploads / "part.upload").write_bytes(b"x")
    for path in (old, settings.HOME.uploads / "part.upload"):
        os.utime(path, (0, 0))
    storage.collect()
    assert list(settings.HOME.uploads.iterdir()) == [young]
    storage._sweep(timezone.now().timestamp() + 10)


def test_registering_and_collecting_the_same_content_at_once(transactional_db, workspace):
    """Whoever wins each time, a version that was just registered has its files."""
    stop, dropped = threading.Event(), []

    def collector():
        while not stop.is_set():
            dropped.append(storage.collect())
        connection.close()

    thread = threading.Thread(target=collector)
    thread.start()
    try:
        rounds, deadline = 0, time.monotonic() + 60
        while time.monotonic() < deadline and (rounds < 30 or sum(dropped) <= 3):
            rounds += 1
            tree = tree_of(file="contested")
            version, _ = domain.register_code(workspace=workspace, name="c", version="1", tree=tree, actor=None)
            assert is_there(tree) == (True, True)
            assert (storage.tree_path(tree.pk) / "file").read_text() == "contested"
            domain.delete_version(version=version, actor=None, users=[])
            age(tree, hours=2)
            time.sleep(0.01)  # SQLite lets one writer in at a time, and not in turn
    finally:
        stop.set()
        thread.join()
    assert sum(dropped) > 3


def test_a_folder_without_a_row_is_dropped_in_time(db):
    tree = fresh()
    Tree.objects.filter(pk=tree.pk).delete()
    storage.collect()
    assert is_there(tree) == (True, True)
    age(tree, hours=2)
    storage.collect()
    assert is_there(tree) == (False, False)


def test_the_jobs_are_the_controllers(db):
    assert {job.name: job.every_s for job in jobs() if job.name in {"mlflow", "trees"}} == {
        "mlflow": 1.0,
        "trees": 3600.0,
    }

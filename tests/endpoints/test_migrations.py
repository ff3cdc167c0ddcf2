"""What an installation of an earlier version is told when it is updated."""

from __future__ import annotations

import importlib
from datetime import timedelta

import pytest
from django.apps import apps
from django.utils import timezone

from apps.compute import domain as compute
from apps.compute.domain import Recipe
from apps.compute.models import ReplicaSet
from apps.endpoints.logs import sources
from apps.monitoring.models import ReplicaLog
from tests.factories import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


def log(endpoint, replica, began):
    names = {"workspace": "", "endpoint": endpoint, "deployment": "blue", "replica": replica}
    return ReplicaLog.objects.create(**names, revision=1, index=0, started_at=began, ended_at=began, why="crashed")


def test_logs_of_sets_made_before_logs_were_kept_are_seen(workspace):
    make_endpoint(workspace, "iris")
    now = timezone.now()
    mine, another, earlier = (
        log("iris", "a", now),
        log("gone", "b", now),
        log("iris", "c", now - timedelta(days=9)),
    )
    recipe = Recipe(argv=("x",), env={}, mounts=(), cpu_milli=1000, mem_bytes=2**28, labels={"kept": "1"})
    compute.driver.cache_clear()
    made = compute.ensure_set(owner_key="iris/blue", revision=1, recipe=recipe, driver_name="fake", desired=1)
    bare = {key: value for key, value in made.spec.items() if key != "labels"}
    lost = ReplicaSet.objects.create(owner_key="gone/blue", revision=1, driver="fake", spec=bare)
    compute.settle(made, tick=lambda: None, timeout_s=10)

    importlib.import_module("apps.endpoints.migrations.0002_workspace_of_kept_logs").name_workspaces(apps, None)

    made.refresh_from_db()
    lost.refresh_from_db()
    assert made.spec["labels"] == {"kept": "1", "workspace": workspace.name}
    assert "labels" not in lost.spec
    for row, name in ((mine, workspace.name), (another, ""), (earlier, "")):
        row.refresh_from_db()
        assert row.workspace == name
    compute.destroy(made)
    found, _ = sources(workspace.name, "iris")
    assert sorted(source.row.why for source in found) == ["crashed", "deleted"]

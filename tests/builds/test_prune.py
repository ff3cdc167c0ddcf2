"""Pruning takes exactly what nobody uses, and never what somebody is about to use."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.builds import domain, packages, prune
from apps.builds.domain import EnvironmentSpec
from apps.builds.models import Build, Resolution
from apps.compute.models import ReplicaSet
from apps.core import disk, operations
from apps.core.errors import Problem
from apps.core.models import AuditRecord, OperationStep
from tests.factories import make_build

pytestmark = pytest.mark.django_db(transaction=True)
MIB = 2**20


@pytest.fixture(autouse=True)
def empty_disk():
    yield
    for path in Path(settings.HOME.environments).iterdir():
        if path.is_dir() and path.name not in {"overlays", "locks"}:
            shutil.rmtree(path)


def days(count):
    return timezone.now() - timedelta(days=count)


def use(build, owner="iris/blue"):
    """What a replica set of that environment looks like."""
    spec = {"mounts": [["/x", "/y"], [build.path, build.path]]}
    return ReplicaSet.objects.create(owner_key=owner, revision=1, driver="fake", spec=spec)


def keys(rows):
    return [each.build.pk for each in rows]


def run(operation):
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == "succeeded", operation.error
    return operation


def test_the_plan_says_what_goes_and_why_the_rest_stays():
    old, older, fresh, used = (
        make_build(used=days(40)),
        make_build(used=days(90)),
        make_build(used=timezone.now()),
        make_build(used=days(99)),
    )
    building = make_build(used=days(99), state="building")
    use(used)
    plan = prune.plan(unused_days=60)
    assert keys(plan.goes) == [older.pk]
    why = {each.build.pk: reason for each, reason in plan.kept}
    assert why == {
        used.pk: "used by iris/blue",
        building.pk: "it is being built",
        old.pk: "used recently enough",
        fresh.pk: "asked for within the last hour",
    }
    assert keys(prune.plan().goes) == [older.pk, old.pk]
    assert prune.plan(unused_days=60).freed == 3 * MIB


def test_sizes_are_measured_by_the_controller_and_only_as_a_whole(people, monkeypatch):
    build = make_build(size=None)
    walks = []

    def walk(path, seconds=2.0):
        walks.append((path, connection.in_atomic_block))
        return disk.Room(123, 0, whole=len(walks) > 1)

    monkeypatch.setattr(prune.disk, "measure", walk)
    assert prune.stored()[0].size is None
    assert prune.plan().freed == 0
    prune.prune(keys=[build.pk], actor=people["olga"])
    assert walks == []
    assert prune.measure_some() == 0
    assert Build.objects.get().size_bytes is None
    assert prune.measure_some() == 1
    assert Build.objects.get().size_bytes == 123
    assert prune.measure_some() == 0
    assert walks == [(Path(build.path), False)] * 2


def test_a_new_environment_too_large_to_walk_has_no_size(monkeypatch):
    build = make_build(size=5)
    monkeypatch.setattr(packages.disk, "measure", lambda _path: disk.Room(1, 0, whole=False))
    packages.ended(build, "succeeded", [], None)
    assert Build.objects.get().size_bytes is None


def test_a_budget_takes_the_longest_unused_first_and_counts_what_must_stay():
    builds = [make_build(used=days(count), size=10 * MIB) for count in (50, 40, 30, 20)]
    use(builds[0])
    assert keys(prune.plan(budget_bytes=40 * MIB).goes) == []
    assert keys(prune.plan(budget_bytes=25 * MIB).goes) == [builds[1].pk, builds[2].pk]
    assert keys(prune.plan(budget_bytes=0).goes) == [each.pk for each in builds[1:]]


def test_prune_removes_folder_and_rows_and_keeps_used_ones(people):
    goes, stays = make_build(), make_build()
    use(stays)
    operation = run(prune.prune(keys=[goes.pk, stays.pk, "unknown"], actor=people["olga"]))
    assert operation.payload == {"keys": [goes.pk]}
    assert not Path(goes.path).exists()
    assert Path(stays.path).exists()
    assert list(Build.objects.values_list("pk", flat=True)) == [stays.pk]
    assert Resolution.objects.count() == 1
    assert OperationStep.objects.get().log == f"{goes.pk[:12]}: removed\n"
    assert operation.workspace == ""
    record = AuditRecord.objects.get(action="environments.prune")
    assert record.detail["environments"] == [goes.pk[:12]]
    assert not list(Path(settings.HOME.environments).glob("trash-*"))


def test_one_that_came_into_use_after_the_list_was_confirmed_stays(people):
    first, second, third = make_build(), make_build(), make_build()
    operation = prune.prune(keys=[first.pk, second.pk, third.pk], actor=people["olga"])
    use(first)
    Build.objects.filter(pk=second.pk).update(last_used_at=timezone.now())
    run(operation)
    assert set(Build.objects.values_list("pk", flat=True)) == {first.pk, second.pk}
    assert "kept, used by iris/blue" in OperationStep.objects.get().log
    assert "kept, asked for within the last hour" in OperationStep.objects.get().log


def test_one_that_is_being_built_or_looked_up_is_left(people):
    build = make_build()
    for name in (build.pk, build.requests.get().pk):
        held, go = threading.Event(), threading.Event()

        def hold(name=name, held=held, go=go):
            with domain.lock_of(name, lambda: None):
                held.set()
                go.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(5)
        assert prune.remove(build.pk) == "it is being built"
        go.set()
        thread.join()
        assert Path(build.path).exists()
    assert prune.remove(build.pk) == ""
    assert prune.remove(build.pk) == "gone already"


def test_an_environment_that_was_removed_is_built_again_for_the_next_deployment():
    spec = EnvironmentSpec(requirements="six==1.17.0")
    quiet = {"log": lambda _line: None, "check": lambda: None}
    first = domain.ensure(spec, **quiet)
    assert Build.objects.get().size_bytes > 10_000
    assert prune.remove(first.key) == "asked for within the last hour"
    Build.objects.update(last_used_at=days(2))
    assert prune.remove(first.key) == ""
    assert not first.path.exists()
    second = domain.ensure(spec, **quiet)
    assert (second.path, second.python.exists()) == (first.path, True)


def test_nothing_outside_the_folder_of_environments_is_ever_removed(tmp_path):
    build = make_build(on_disk=False)
    Build.objects.filter(pk=build.pk).update(path=str(tmp_path))
    with pytest.raises(RuntimeError, match="not an environment"):
        prune.remove(build.pk)
    assert tmp_path.exists()
    assert Build.objects.exists()


def test_what_a_killed_prune_left_aside_goes_with_the_next(people):
    left = Path(settings.HOME.environments) / "trash-1"
    left.mkdir()
    run(prune.prune(keys=[make_build().pk], actor=people["olga"]))
    assert not left.exists()


def test_a_prune_of_nothing_and_a_second_one_at_once_are_refused(people):
    used = make_build()
    use(used)
    with pytest.raises(Problem) as met:
        prune.prune(keys=[used.pk], actor=people["olga"])
    assert met.value.code == "conflict"
    prune.prune(keys=[make_build().pk], actor=people["olga"])
    with pytest.raises(Problem) as met:
        prune.prune_cache(actor=people["olga"])
    assert met.value.code == "busy"


def test_the_package_cache_is_pruned_by_uv(people, settings, tmp_path):
    settings.UV_CACHE_DIR = str(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    assert prune.cache_folder() == tmp_path / "cache"
    run(prune.prune_cache(actor=people["olga"]))
    assert "MiB" in OperationStep.objects.get().log

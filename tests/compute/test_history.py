"""What replicas said outlives them: whatever ends them, and whatever is killed in between."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from apps.compute import domain
from apps.compute.domain import Recipe
from apps.compute.drivers.base import DriverUnavailable
from apps.compute.models import Replica, ReplicaSet
from apps.core.errors import Problem
from apps.monitoring import logs
from apps.monitoring.models import ReplicaLog
from apps.monitoring.models.logs import Why

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fake():
    domain.driver.cache_clear()
    driver = domain.driver("fake")
    yield driver
    for handle in driver.list(owner=domain.OWNER):
        driver.forget(handle)


def up(desired=1, workspace="lab", **labels):
    named = {f"fake.{key}": str(value) for key, value in labels.items()} | {"workspace": workspace}
    recipe = Recipe(argv=("x",), env={}, mounts=(), cpu_milli=1000, mem_bytes=2**28, labels=named)
    made = domain.ensure_set(owner_key="iris/blue", revision=2, recipe=recipe, driver_name="fake", desired=desired)
    domain.settle(made, tick=lambda: None, timeout_s=10)
    return made


def texts(row):
    return [line.text for line in logs.lines_of(row)]


def ends(row):
    return (row.workspace, row.endpoint, row.deployment, row.revision, row.index, row.why, row.exit_code)


def test_a_deleted_set_leaves_its_logs_and_nothing_else(fake):
    made = up(desired=2)
    address = Replica.objects.get(index=0).address
    domain.destroy(made)
    first, second = ReplicaLog.objects.order_by("index")
    assert ends(first) == ("lab", "iris", "blue", 2, 0, "deleted", 0)
    assert ends(second) == ("lab", "iris", "blue", 2, 1, "deleted", 0)
    assert first.address == address
    assert texts(first)[0] == "starting x"
    assert texts(first)[-1] == "ended with 0"
    assert first.first_at <= first.last_at <= first.ended_at
    assert first.started_at <= first.ended_at
    assert fake.list(owner=domain.OWNER) == []


def test_scaling_in_keeps_the_log_of_who_goes():
    made = up(desired=2)
    domain.scale(made, 1)
    domain.reconcile(made)
    domain.stop_draining(made)
    assert [ends(row) for row in ReplicaLog.objects.all()] == [("lab", "iris", "blue", 2, 1, "scaled-in", 0)]


def test_each_life_of_a_crashing_replica_is_kept_with_its_reason():
    with pytest.raises(Problem):
        up(fail_on="exit")
    rows = list(ReplicaLog.objects.order_by("started_at"))
    assert [(row.exit_code, row.why, row.reason["code"]) for row in rows] == [(3, "crashed", "start-failed")] * 3
    assert [texts(row) for row in rows] == [["starting x", "ended with 3"]] * 3
    domain.destroy(ReplicaSet.objects.get())
    assert ReplicaLog.objects.count() == 3  # its last life was kept when it ended


def test_out_of_memory_is_told():
    with pytest.raises(Problem):
        up(fail_on="oom")
    rows = ReplicaLog.objects.all()
    assert [(row.exit_code, row.oom, row.reason["code"]) for row in rows] == [(-9, True, "out-of-memory")] * 3


def test_a_crash_in_service_is_kept_and_the_next_life_reads_on(fake):
    made = up()
    replica = Replica.objects.get()
    fake.replicas[replica.name].end(1)
    domain.settle(made, tick=lambda: None, timeout_s=10)
    row = ReplicaLog.objects.get()
    assert (row.exit_code, row.why) == (1, "crashed")
    assert texts(row)[-1] == "ended with 1"
    domain.destroy(made, why=Why.REPLACED)
    second = ReplicaLog.objects.exclude(pk=row.pk).get()
    assert second.why == "replaced"
    assert texts(second)[0] == "starting x"
    assert texts(second)[-1] == "ended with 0"


def test_a_set_that_is_given_up_and_later_removed_is_kept_once():
    made = up()
    domain.halt(made)
    domain.destroy(made)
    assert [(row.why, row.exit_code) for row in ReplicaLog.objects.all()] == [("failed", 0)]


def test_what_stood_down_is_kept_too(fake):
    made = up()
    domain.stand_down("fake")
    domain.destroy(made)
    assert [row.why for row in ReplicaLog.objects.all()] == ["deleted"]
    assert fake.list(owner=domain.OWNER) == []


@pytest.mark.parametrize("at", ["keep", "forget"])
def test_killed_before_or_after_keeping_nothing_is_lost_or_doubled(at, fake, monkeypatch):
    made = up()

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((logs, "keep") if at == "keep" else (fake, "forget")), die)
        with pytest.raises(KeyboardInterrupt):
            domain.destroy(made)
    assert ReplicaLog.objects.count() == (0 if at == "keep" else 1)
    domain.destroy(made)
    assert texts(ReplicaLog.objects.get())[0] == "starting x"
    assert fake.list(owner=domain.OWNER) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OperationalError("disk is full")])
def test_a_full_disk_holds_up_no_deletion(error, fake, monkeypatch):
    def full(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(
        *((logs, "_write") if isinstance(error, OSError) else (ReplicaLog.objects, "get_or_create")), full
    )
    domain.destroy(up())
    assert ReplicaLog.objects.count() == 0
    assert fake.list(owner=domain.OWNER) == []


def test_the_same_name_in_another_workspace_begins_with_nothing():
    domain.destroy(up(workspace="lab"))
    domain.destroy(up(workspace="other"))
    mine, theirs = ReplicaLog.objects.get(workspace="lab"), ReplicaLog.objects.get(workspace="other")
    assert mine.replica == theirs.replica
    assert texts(theirs).count("starting x") == texts(mine).count("starting x") == 1


def test_a_log_that_cannot_be_read_does_not_hold_up_the_restart(fake, monkeypatch):
    made = up(desired=2)
    first = Replica.objects.get(index=0)

    def unreadable(*_args, **_more):
        raise DriverUnavailable("the log is broken")

    monkeypatch.setattr(fake, "logs", unreadable)
    monkeypatch.setattr(fake, "read", unreadable)
    fake.replicas[first.name].end(1)
    domain.reconcile(made)
    first.refresh_from_db()
    assert (first.state, first.reason["code"], first.restarts) == ("backoff", "server-ended", 1)

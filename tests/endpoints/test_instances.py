"""Restarting, stopping and starting one instance: with real parts, and against the fault-injecting driver."""

from __future__ import annotations

import threading
import time

import pytest

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import InstanceType, Replica
from apps.core import leases, operations
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.endpoints import domain, instances
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.reconcile import repair_replicas, sweep_leftovers
from tests.factories import make_deployment, make_endpoint, make_operation

OWN = "def init(): pass\ndef run(data):\n    import os\n    return os.stat('/proc/self').st_mtime\n"


def code(function, **arguments):
    with pytest.raises(Problem) as met:
        function(**arguments)
    return met.value.code


@pytest.fixture
def two(world, settings):
    """Two ready instances behind the real gateway."""
    settings.DEFAULT_DRIVER = "process"
    endpoint = world.endpoint()
    world.deploy(endpoint, instance_count=2)
    world.traffic(endpoint, blue=100)
    return world


def ready():
    return list(Replica.objects.order_by("index").values_list("index", "state"))


@pytest.mark.envoy
def test_a_restart_replaces_one_instance_and_fails_no_request(two):
    replica = Replica.objects.get(index=0)
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answers.append(two.score(body=1)[0])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        operation = two.run(instances.restart_replica(replica=replica, actor=two.actor, reason="it leaks"))
    finally:
        stop.set()
        thread.join(20)
    assert set(answers) == {200}
    assert len(answers) > 3
    fresh = Replica.objects.get(index=0)
    assert (fresh.state, fresh.restarts, fresh.exits_in_a_row) == ("ready", 0, 0)
    assert fresh.started_at > replica.started_at
    assert [step.name for step in operation.steps.all()] == ["drain", "stop", "start", "route"]
    record = AuditRecord.objects.get(action="replica.restart")
    assert record.detail["reason"] == "it leaks"
    assert record.detail["instance"] == 0
    assert record.target == "online-deployment/iris/blue"


@pytest.mark.envoy
def test_a_stopped_instance_stays_down_until_it_is_started(two):
    replica = Replica.objects.get(index=0)
    two.run(instances.stop_replica(replica=replica, actor=two.actor, reason="it is slow"))
    assert ready() == [(0, "held"), (1, "ready")]
    for _ in range(3):
        repair_replicas()
        sweep_leftovers()
        assert two.score(body=1)[0] == 200
    assert ready() == [(0, "held"), (1, "ready")]
    held = Replica.objects.get(index=0)
    assert held.reason["message"] == "An administrator stopped this instance: it is slow"
    assert len(compute.addresses(held.set_id)) == 1
    assert compute.logs(held)  # its log stays
    assert code(instances.restart_replica, replica=held, actor=two.actor) == "conflict"
    assert code(instances.stop_replica, replica=held, actor=two.actor, reason="again") == "conflict"

    blue = OnlineDeployment.objects.get(name="blue")
    two.run(domain.scale_deployment(deployment=blue, instance_count=3, actor=two.actor))  # does not wait for it
    assert ready() == [(0, "held"), (1, "ready"), (2, "ready")]
    two.run(instances.start_replica(replica=held, actor=two.actor))
    assert ready() == [(0, "ready"), (1, "ready"), (2, "ready")]
    assert Replica.objects.get(index=0).reason is None
    assert code(instances.start_replica, replica=held, actor=two.actor) == "conflict"


@pytest.mark.envoy
def test_scaling_in_takes_a_held_instance_away(two):
    two.run(instances.stop_replica(replica=Replica.objects.get(index=1), actor=two.actor, reason="x"))
    blue = OnlineDeployment.objects.get(name="blue")
    two.run(domain.scale_deployment(deployment=blue, instance_count=1, actor=two.actor))
    assert ready() == [(0, "ready")]


@pytest.mark.envoy
@pytest.mark.parametrize("kind", ["replica.restart", "replica.stop"])
def test_killed_after_any_step_and_run_again_it_ends_the_same(two, kind):
    """The lease on the instance's set ends with its holder; an attempt that comes later finds what is already so."""
    replica = Replica.objects.get(index=0)
    verb = instances.restart_replica if kind == "replica.restart" else instances.stop_replica
    operation = verb(replica=replica, actor=two.actor, reason="why")
    with compute.taken_out(replica):
        pass  # killed here: drained, nothing else
    repair_replicas()
    with compute.taken_out(replica) as out:
        (compute.restart_replica if kind == "replica.restart" else lambda each: compute.stop_replica(each, "why"))(out)
    before = Replica.objects.get(index=0).started_at
    two.run(operation)  # the first attempt had got so far
    after = Replica.objects.get(index=0)
    assert after.state == ("ready" if kind == "replica.restart" else "held")
    if kind == "replica.restart":
        assert after.started_at > before  # the one start that was owed, not a second stop
        assert not operation.steps.filter(name="stop").exists()


@pytest.fixture
def resting(workspace, people):
    endpoint = make_endpoint(workspace, "iris")
    return make_deployment(endpoint, "blue", ready=2)


def test_verbs_refuse_what_makes_no_sense(resting, people):
    replica = Replica.objects.first()
    assert code(instances.stop_replica, replica=replica, actor=people["olga"], reason=" ") == "bad-field"
    make_operation(resting.endpoint, lock=resting.endpoint.topic)
    assert code(instances.restart_replica, replica=replica, actor=people["olga"]) == "busy"
    Operation.objects.all().delete()
    resting.serving = None
    resting.save()
    assert code(instances.restart_replica, replica=replica, actor=people["olga"]) == "conflict"
    gone = Replica.objects.last()
    Replica.objects.filter(pk=gone.pk).delete()
    assert code(instances.restart_replica, replica=gone, actor=people["olga"]) == "not-found"
    assert not AuditRecord.objects.exists()


def test_an_instance_that_went_away_meanwhile_is_no_failure(resting, people):
    replica = Replica.objects.first()
    operation = instances.stop_replica(replica=replica, actor=people["olga"], reason="why")
    replica.delete()
    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == "succeeded"


@pytest.mark.django_db(transaction=True)
def test_the_controller_leaves_the_set_alone_meanwhile(resting):
    """Otherwise it would take the drained instance back before it is stopped."""
    replica = Replica.objects.first()
    with compute.taken_out(replica):
        assert Replica.objects.get(pk=replica.pk).state == ReplicaState.DRAINING
        began = time.monotonic()
        assert compute.reconcile(resting.serving) is False
        assert time.monotonic() - began < 1
        assert Replica.objects.get(pk=replica.pk).state == ReplicaState.DRAINING
        lease = leases.acquire(f"replica-set/{replica.set_id}", holder="other", ttl_s=1)
        assert lease is None


def test_sizes_are_added_changed_and_taken_away(resting, people):
    compute.seed_instance_types()
    olga = people["olga"]
    size = {"cpu_milli": 2000, "mem_bytes": 2**30, "position": 5, "actor": olga}
    compute.save_instance_type(name="gpu-box", new=True, **size)
    assert code(compute.save_instance_type, name="GPU-box", new=True, **size) == "exists"
    assert code(compute.save_instance_type, name="none", **size) == "not-found"
    assert code(compute.save_instance_type, name="a b", new=True, **size) == "bad-name"
    assert code(compute.save_instance_type, name="gpu-box", **size | {"mem_bytes": 1}) == "bad-field"
    compute.save_instance_type(name="gpu-box", **size | {"cpu_milli": 3000})
    assert InstanceType.objects.get(name="gpu-box").cpu_milli == 3000
    resting.instance_type = "gpu-box"
    resting.save()
    assert code(instances.delete_instance_type, name="gpu-box", actor=olga) == "in-use"
    resting.instance_type = "small"
    resting.save()
    instances.delete_instance_type(name="gpu-box", actor=olga)
    assert code(instances.delete_instance_type, name="small", actor=olga) == "conflict"
    assert code(instances.delete_instance_type, name="gpu-box", actor=olga) == "not-found"
    expected = ["instance-type.create", "instance-type.update", "instance-type.delete"]
    assert list(AuditRecord.objects.order_by("pk").values_list("action", flat=True)) == expected

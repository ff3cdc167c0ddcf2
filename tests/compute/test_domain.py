"""Replica sets against the fault-injecting driver: each fault ends in the right state with the right words."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.compute import domain
from apps.compute.domain import Recipe, replicas, sets
from apps.compute.drivers.fake import Fault
from apps.compute.enums import ReplicaState
from apps.compute.models import InstanceType, Replica
from apps.compute.probe import Answer
from apps.core import leases
from apps.core.errors import Problem
from apps.core.models import Lease

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def clean_driver():
    domain.driver.cache_clear()
    driver = domain.driver("fake")
    yield driver
    for handle in driver.list(owner=domain.OWNER):
        driver.forget(handle)


def recipe(**labels):
    named = {f"fake.{key}": str(value) for key, value in labels.items()}
    return Recipe(argv=("x",), env={}, mounts=(), cpu_milli=1000, mem_bytes=2**28, start_deadline_s=30.0, labels=named)


def make(desired=1, **labels):
    return domain.ensure_set(
        owner_key="iris/blue", revision=1, recipe=recipe(**labels), driver_name="fake", desired=desired
    )


def settle(replica_set, timeout_s=10):
    domain.settle(replica_set, tick=lambda: None, timeout_s=timeout_s)


def past(replica, **fields):
    Replica.objects.filter(pk=replica.pk).update(
        **{name: timezone.now() - timedelta(seconds=s) for name, s in fields.items()}
    )


def test_a_set_comes_up_and_running_it_again_changes_nothing(clean_driver):
    replica_set = make(desired=3)
    settle(replica_set)
    names = sorted(handle.name for handle in clean_driver.list(owner=domain.OWNER))
    assert names == [domain.replica_name("iris/blue", 1, index) for index in range(3)]
    assert len(domain.addresses(replica_set.pk)) == 3
    assert domain.reconcile(replica_set) is False
    assert make(desired=3).pk == replica_set.pk
    assert Replica.objects.count() == 3


@pytest.mark.parametrize(
    ("fault", "code", "fault_of"),
    [
        ("exit", "crash-loop", "user"),
        ("oom", "out-of-memory", "user"),
        ("image", "start-failed", "user"),
    ],
)
def test_a_set_that_cannot_come_up_says_why(fault, code, fault_of):
    replica_set = make(fail_on=fault)
    with pytest.raises(Problem) as failed:
        settle(replica_set)
    assert (failed.value.as_json()["code"], failed.value.as_json()["fault"]) == (code, fault_of)
    assert Replica.objects.get().state == ReplicaState.FAILED


def test_a_server_that_never_gets_ready_is_given_up_after_its_deadline():
    replica_set = make(fail_on="probe")
    domain.reconcile(replica_set)
    domain.reconcile(replica_set)
    assert Replica.objects.get().state == ReplicaState.STARTING
    past(Replica.objects.get(), started_at=31)
    domain.reconcile(replica_set)
    replica = Replica.objects.get()
    assert (replica.state, replica.reason["code"]) == (ReplicaState.FAILED, "not-ready")


def test_a_back_end_that_does_not_answer_is_asked_again():
    replica_set = make(fail_on="start")
    domain.reconcile(replica_set)
    replica = Replica.objects.get()
    assert (replica.state, replica.reason["code"], replica.reason["fault"]) == (
        "backoff",
        "driver-unavailable",
        "system",
    )


def test_a_replica_that_dies_later_is_restarted_at_once_and_then_with_back_off(clean_driver):
    replica_set = make()
    settle(replica_set)
    [handle] = clean_driver.list(owner=domain.OWNER)
    clean_driver.replicas[handle.name].end(-9)
    assert domain.reconcile(replica_set) is True
    replica = Replica.objects.get()
    assert (replica.state, replica.restarts, replica.address) == (ReplicaState.BACKOFF, 1, "")
    settle(replica_set)
    clean_driver.replicas[handle.name].end(-9)
    domain.reconcile(replica_set)
    assert Replica.objects.get().retry_at > timezone.now() + timedelta(seconds=0.5)
    past(Replica.objects.get(), retry_at=1)
    settle(replica_set)
    past(Replica.objects.get(), ready_at=300)
    domain.reconcile(replica_set)
    assert Replica.objects.get().exits_in_a_row == 0


def test_a_ready_server_that_stops_answering_is_restarted_once_its_liveness_probe_gives_up(clean_driver):
    replica_set = make()
    settle(replica_set)
    [handle] = clean_driver.list(owner=domain.OWNER)
    behaviour = clean_driver.replicas[handle.name].behaviour
    clean_driver.replicas[handle.name].behaviour = type(behaviour)(fail_on=Fault.PROBE)
    domain.reconcile(replica_set)
    assert (Replica.objects.get().state, Replica.objects.get().restarts) == (ReplicaState.UNREADY, 0)
    assert domain.addresses(replica_set.pk), "the gateway's own checks keep it out, and let it back in at once"
    past(Replica.objects.get(), unready_since=301)
    domain.reconcile(replica_set)
    replica = Replica.objects.get()
    assert (replica.state, replica.restarts, replica.reason["code"]) == (ReplicaState.BACKOFF, 1, "unresponsive")
    settle(replica_set)
    assert Replica.objects.get().unready_since is None


def test_scaling_in_drains_the_last_ones_only_after_the_routes_are_published(clean_driver):
    replica_set = make(desired=3)
    settle(replica_set)
    domain.scale(replica_set, 1)
    assert domain.reconcile(replica_set) is True
    assert len(domain.addresses(replica_set.pk)) == 1
    assert len(clean_driver.list(owner=domain.OWNER)) == 3
    domain.stop_draining(replica_set)
    assert [handle.name for handle in clean_driver.list(owner=domain.OWNER)] == [domain.replica_name("iris/blue", 1, 0)]
    assert Replica.objects.get().index == 0


def test_halting_keeps_the_log_and_destroying_leaves_nothing(clean_driver):
    replica_set = make(fail_on="exit")
    with pytest.raises(Problem):
        settle(replica_set)
    domain.halt(replica_set)
    assert "listening" not in domain.last_line(Replica.objects.get())
    assert domain.logs(Replica.objects.get())
    assert domain.reconcile(replica_set) is False
    domain.destroy(replica_set)
    assert clean_driver.list(owner=domain.OWNER) == []
    assert not Replica.objects.exists()


def test_orphans_are_removed_and_known_replicas_left_alone(clean_driver):
    replica_set = make()
    settle(replica_set)
    spec = domain.spec_of(Replica.objects.get())
    clean_driver.start(type(spec)(**{**spec.__dict__, "name": "orphan"}))
    assert domain.sweep_orphans("fake") == 1
    assert [handle.name for handle in clean_driver.list(owner=domain.OWNER)] == [spec.name]


def test_a_replica_forgotten_by_the_driver_is_started_again(clean_driver):
    replica_set = make()
    settle(replica_set)
    clean_driver.forget(domain.handle_of(Replica.objects.get()))
    settle(replica_set)
    assert Replica.objects.get().state == ReplicaState.READY
    assert len(clean_driver.list(owner=domain.OWNER)) == 1


def test_nobody_touches_a_set_that_somebody_else_holds():
    replica_set = make()
    with leases.held(f"replica-set/{replica_set.pk}", ttl_s=10):
        assert domain.reconcile(replica_set) is False
    assert not Replica.objects.exists()


def test_sizes_are_cut_to_the_machine_and_said_so():
    domain.seed_instance_types()
    huge = InstanceType.objects.create(name="huge", cpu_milli=10**6, mem_bytes=2**50)
    cpu, memory, notes = domain.usable(huge)
    assert cpu < 10**6
    assert memory < 2**50
    assert len(notes) == 2
    assert domain.usable(domain.instance_type("SMALL"))[2] == []
    with pytest.raises(Problem, match="no instance type tiny"):
        domain.instance_type("tiny")


def test_hung_servers_are_asked_side_by_side(monkeypatch):
    """The calls overlap: each waits until all are under way, which one after the other could never be."""
    replica_set = make(desired=5)
    settle(replica_set)
    together = threading.Barrier(5, timeout=20)

    def hang(*_, **__):
        together.wait()
        return Answer(ok=False)

    monkeypatch.setattr(replicas.probe, "ask", hang)
    domain.reconcile(replica_set)
    assert set(Replica.objects.values_list("state", flat=True)) == {ReplicaState.UNREADY}


def hold(replica_set, index):
    with domain.taken_out(replica_set.replicas.get(index=index)) as out:
        domain.stop_replica(out, "noisy")


def states(replica_set):
    return list(replica_set.replicas.order_by("index").values_list("index", "state"))


def test_scaling_in_takes_the_held_ones_first_and_never_the_one_that_serves():
    made = make(3)
    settle(made)
    hold(made, 0)
    hold(made, 1)
    serving = domain.addresses(made.pk)
    domain.scale(made, 1)
    for _ in range(2):  # before and after the routes are published
        domain.reconcile(made)
        assert domain.addresses(made.pk) == serving
    domain.stop_draining(made)
    settle(made)
    assert (states(made), domain.ready_count(made)) == ([(2, "ready")], 1)
    domain.scale(made, 2)
    settle(made)
    assert states(made) == [(0, "ready"), (2, "ready")]


def test_a_set_of_which_all_are_held_is_no_success():
    made = make(2)
    settle(made)
    hold(made, 0)
    settle(made)
    hold(made, 1)
    with pytest.raises(Problem, match="noisy") as caught:
        settle(made)
    assert caught.value.code == "held"
    domain.scale(made, 3)
    settle(made)
    assert states(made) == [(0, "held"), (1, "held"), (2, "ready")]


def test_a_round_whose_lease_was_lost_ends(monkeypatch):
    replica_set = make(desired=3)
    began = []
    advance = sets.advance

    def slow(replica, looked):
        began.append(replica.index)
        Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        advance(replica, looked)

    monkeypatch.setattr(sets, "advance", slow)
    domain.reconcile(replica_set)
    assert began == [0]


def test_each_step_of_a_round_has_the_lease_for_its_whole_time(monkeypatch):
    replica_set = make(desired=2)
    left = []

    def advance(replica, looked):
        left.append((Lease.objects.get().expires_at - timezone.now()).total_seconds())
        Lease.objects.update(expires_at=timezone.now() + timedelta(seconds=5))

    monkeypatch.setattr(sets, "advance", advance)
    domain.reconcile(replica_set)
    assert [seconds > sets.LEASE_S - 5 for seconds in left] == [True, True]

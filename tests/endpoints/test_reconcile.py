"""What the controller does for online endpoints, against rows made by hand and the fault-injecting driver."""

import pytest

from apps.compute import domain as compute
from apps.compute.models import Replica, ReplicaSet
from apps.core import leases
from apps.core.models import Operation
from apps.endpoints import operations, reconcile
from apps.gateway.models import Route
from tests.factories import make_deployment, make_endpoint, make_operation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fake(settings):
    settings.DEFAULT_DRIVER = "fake"
    compute.driver.cache_clear()
    yield
    driver = compute.driver("fake")
    for handle in driver.list(owner=compute.OWNER):
        driver.forget(handle)


def leftover(owner_key, desired=1, state="ready", revision=7):
    made = ReplicaSet.objects.create(owner_key=owner_key, revision=revision, driver="fake", spec={}, desired=desired)
    Replica.objects.create(set=made, name=f"left-{made.pk.hex[:8]}", index=0, state=state)
    return made


def states():
    return {each.set.owner_key: each.state for each in Replica.objects.filter(set__revision=7).select_related("set")}


def test_one_deployment_that_cannot_be_repaired_does_not_stop_the_others(workspace, monkeypatch):
    endpoint = make_endpoint(workspace, "iris")
    broken, fine = make_deployment(endpoint, "a1b"), make_deployment(endpoint, "b2c")
    seen = []

    def repair(replica_set):
        seen.append(replica_set.pk)
        if replica_set.pk == broken.serving_id:
            raise OverflowError
        return False

    monkeypatch.setattr(compute, "reconcile", repair)
    reconcile.repair_replicas()
    assert seen == [broken.serving_id, fine.serving_id]


def test_what_changed_is_published_before_the_next_deployment_may_start_something(workspace, monkeypatch):
    endpoint = make_endpoint(workspace, "iris")
    for name in ("a1b", "b2c"):
        make_deployment(endpoint, name)
    done = []
    monkeypatch.setattr(compute, "reconcile", lambda replica_set: done.append(replica_set.owner_key) or True)
    monkeypatch.setattr(reconcile, "publish_routes", lambda: done.append("published"))
    reconcile.repair_replicas()
    assert done == ["iris/a1b", "published", "iris/b2c", "published"]


def test_leftovers_are_stopped_and_what_serves_or_is_worked_on_is_not(workspace):
    busy, idle = make_endpoint(workspace, "busy"), make_endpoint(workspace, "idle")
    make_operation(busy)
    serving = make_deployment(idle)
    for key in ("busy/blue", "idle/blue", "gone/blue"):
        leftover(key)
    reconcile.sweep_leftovers()
    assert states() == {"busy/blue": "ready", "idle/blue": "failed", "gone/blue": "failed"}
    assert serving.serving.replicas.get().state == "ready"


def test_a_halt_that_was_interrupted_is_finished(workspace):
    leftover("gone/blue", desired=0)
    reconcile.sweep_leftovers()
    assert states() == {"gone/blue": "failed"}


def test_an_operation_that_begins_during_the_sweep_keeps_its_replicas(workspace, monkeypatch):
    make_endpoint(workspace, "first")
    second = make_endpoint(workspace, "second")
    for key in ("first/blue", "second/blue"):
        leftover(key)
    halted = []

    def halt(replica_set):
        halted.append(replica_set.owner_key)
        if not Operation.objects.exists():
            other = second if replica_set.owner_key.startswith("first") else replica_set.owner_key
            make_operation(other if other is second else type(second).objects.get(name="first"))

    monkeypatch.setattr(compute, "halt", halt)
    reconcile.sweep_leftovers()
    assert len(halted) == 1


def test_a_set_somebody_else_works_on_is_left_for_the_next_sweep(workspace, monkeypatch):
    for key in ("first/blue", "second/blue"):
        leftover(key)
    tried = []

    def halt(replica_set):
        tried.append(replica_set.owner_key)
        raise leases.LeaseTaken

    monkeypatch.setattr(compute, "halt", halt)
    reconcile.sweep_leftovers()
    assert sorted(tried) == ["first/blue", "second/blue"]


def test_the_session_names_the_revision_that_serves(workspace):
    endpoint = make_endpoint(workspace, "iris")
    blue = make_deployment(endpoint, "blue")
    type(blue).objects.filter(pk=blue.pk).update(revision=2, state="Failed")
    operations.put_route(endpoint)
    assert Route.objects.get().deployments["blue"]["session"] == "blue-1"


@pytest.mark.parametrize(("problem", "state"), [("canceled", "Canceled"), ("internal", "Failed")])
def test_an_endpoint_ends_in_the_word_for_its_end(workspace, problem, state):
    from apps.core.errors import Problem

    endpoint = make_endpoint(workspace, "iris", state="Updating")
    operations._endpoint_failed(make_operation(endpoint), Problem(problem))
    endpoint.refresh_from_db()
    assert endpoint.state == state


def test_tags_do_not_replace_our_own_labels():
    recipe = compute.Recipe(("x",), {}, (), 1000, 2**28, labels={"owner-key": "another/one", "revision": "9"})
    made = ReplicaSet.objects.create(owner_key="iris/blue", revision=1, driver="fake", spec=recipe.as_json())
    labels = compute.spec_of(Replica(set=made, name="r", index=0)).labels
    assert (labels["owner-key"], labels["revision"]) == ("iris/blue", "1")

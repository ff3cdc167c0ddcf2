"""From a model to a live endpoint in one change."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation, OperationState
from apps.endpoints import domain
from apps.endpoints.domain import EndpointSpec
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint

pytestmark = pytest.mark.envoy


def deploy(world, endpoint, name="blue", share=100, **spec):
    made, operation = domain.deploy(
        workspace=world.workspace,
        endpoint=endpoint,
        name=name,
        spec=world.spec(**spec),
        share=share,
        actor=world.actor,
    )
    return made, operation


def test_one_operation_makes_the_endpoint_the_deployment_and_its_traffic(world):
    made, operation = deploy(world, ("iris", EndpointSpec(tags={"team": "lab"})))
    assert Operation.objects.count() == 1
    world.run(operation)
    endpoint = OnlineEndpoint.objects.get(name="iris")
    assert (endpoint.state, endpoint.traffic, endpoint.tags) == ("Succeeded", {"blue": 100}, {"team": "lab"})
    made.refresh_from_db()
    assert made.state == "Succeeded"
    assert world.key("iris")
    record = AuditRecord.objects.get(action="online-endpoint.traffic")
    assert (record.detail["before"], record.detail["after"]) == ({}, {"blue": 100})


def test_a_share_is_taken_from_the_others_in_proportion(world):
    endpoint = world.endpoint()
    for name in ("blue", "green"):
        world.deploy(endpoint, name)
    world.traffic(endpoint, blue=75, green=25)
    _made, operation = deploy(world, world.fresh(endpoint), "red", share=10)
    assert world.fresh(endpoint).traffic == {"blue": 75, "green": 25}, "not before it has come up"
    world.run(operation)
    assert world.fresh(endpoint).traffic == {"blue": 68, "green": 22, "red": 10}


def test_what_does_not_come_up_leaves_the_traffic_as_it_was(world):
    endpoint = world.endpoint()
    world.deploy(endpoint, "blue")
    world.traffic(endpoint, blue=100)
    made, operation = deploy(world, world.fresh(endpoint), "green")
    Operation.objects.filter(pk=operation.pk).update(cancel_requested=True)
    world.run_failing(operation)
    made.refresh_from_db()
    assert made.state == "Canceled"
    assert world.fresh(endpoint).traffic == {"blue": 100}


def test_cancelled_before_it_began_the_new_endpoint_says_so(world):
    _made, operation = deploy(world, ("iris", EndpointSpec()))
    Operation.objects.filter(pk=operation.pk).update(cancel_requested=True)
    world.run_failing(operation)
    operation.refresh_from_db()
    assert operation.state == OperationState.CANCELED
    assert OnlineEndpoint.objects.get().state == "Canceled"
    assert OnlineDeployment.objects.get().state == "Canceled"


@pytest.mark.parametrize("share", [-1, 101, 50])
def test_a_share_that_cannot_be_is_refused_and_leaves_nothing(world, share):
    with pytest.raises(Problem) as caught:
        deploy(world, ("iris", EndpointSpec()), share=share)
    assert caught.value.code == "bad-field"
    assert not OnlineEndpoint.objects.exists()
    assert not Operation.objects.exists()


@settings(suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(
    shares=some.dictionaries(some.sampled_from("abcdef"), some.integers(1, 60), min_size=1, max_size=6),
    share=some.integers(1, 100),
)
def test_the_split_always_sums_to_100(shares, share):
    total = sum(shares.values())
    names = sorted(shares)
    live = {name: shares[name] * 100 // total for name in names}
    live[names[0]] += 100 - sum(live.values())
    split = domain.split_with(OnlineEndpoint(traffic=live), "new", share)
    assert sum(split.values()) == 100
    assert split["new"] == share
    assert all(value > 0 for value in split.values())

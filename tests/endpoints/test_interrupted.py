"""An operation killed with -9 before or after any of its steps, and run again, ends in the same state."""

import os
import signal
import traceback
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from apps.compute import domain as compute
from apps.compute.models import Replica, ReplicaSet
from apps.core import operations
from apps.core.models import Operation, OperationState, OperationStep
from apps.endpoints import domain
from apps.endpoints.domain import EndpointSpec
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint

pytestmark = [pytest.mark.envoy, pytest.mark.slow]
KINDS = ("online-endpoint.create", "online-endpoint.update", "online-endpoint.delete", "online-deployment.create")
KINDS += ("online-deployment.update", "online-deployment.delete", "online-endpoint.regenerate-key")
KINDS += ("online-deployment.deploy",)
POINTS = [(kind, step, when) for kind in KINDS for step in operations.steps_of(kind) for when in ("begin", "end")]


@pytest.fixture(autouse=True)
def real_processes(settings):
    settings.DEFAULT_DRIVER = "process"


def prepare(world, kind):  # noqa: PLR0911 -- one return per kind
    """The operation of that kind, queued, on an endpoint that has what it needs."""
    if kind == "online-endpoint.create":
        return domain.create_endpoint(workspace=world.workspace, name="iris", spec=EndpointSpec(), actor=world.actor)[1]
    if kind == "online-deployment.deploy":
        new = ("iris", EndpointSpec())
        spec = world.spec()
        made = domain.deploy(
            workspace=world.workspace, endpoint=new, name="blue", spec=spec, share=100, actor=world.actor
        )
        return made[1]
    endpoint = world.endpoint()
    if kind == "online-deployment.create":
        return domain.create_deployment(endpoint=endpoint, name="blue", spec=world.spec(), actor=world.actor)[1]
    blue = world.deploy(endpoint)
    if kind == "online-deployment.delete":
        return domain.delete_deployment(deployment=blue, actor=world.actor)
    if kind == "online-deployment.update":
        changed = domain.spec_of(blue, environment_variables={"A": "1"}, instance_count=2)
        return domain.update_deployment(deployment=blue, spec=changed, actor=world.actor)
    if kind == "online-endpoint.regenerate-key":
        return domain.regenerate_key(endpoint=world.fresh(endpoint), slot="primary", value=None, actor=world.actor)
    world.traffic(endpoint, blue=100)
    if kind == "online-endpoint.delete":
        return domain.delete_endpoint(endpoint=world.fresh(endpoint), actor=world.actor)
    spec = EndpointSpec(traffic={"blue": 0}, mirror_traffic={"blue": 10})
    return domain.update_endpoint(endpoint=world.fresh(endpoint), spec=spec, actor=world.actor)


def run_and_die(operation, step, when):
    """Run the operation in a child that kills itself at that point."""
    connections.close_all()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        return
    try:
        whole = operations.Run.step

        @contextmanager
        def deadly(self, name):
            with whole(self, name):
                if (name, when) == (step, "begin"):
                    os.kill(os.getpid(), signal.SIGKILL)
                yield
                if (name, when) == (step, "end"):
                    os.kill(os.getpid(), signal.SIGKILL)

        operations.Run.step = deadly
        operations.run(operation.pk)
    except BaseException:  # noqa: BLE001 -- nothing may get out of the child
        traceback.print_exc()
    os._exit(1)


def state_of_the_world():
    return {
        "endpoints": list(OnlineEndpoint.objects.values_list("name", "state", "traffic", "mirror_traffic")),
        "deployments": list(
            OnlineDeployment.objects.values_list("name", "state", "revision", "instance_count", "error")
        ),
        "sets": list(ReplicaSet.objects.values_list("owner_key", "revision", "desired")),
        "replicas": list(Replica.objects.order_by("name").values_list("name", "state", "restarts")),
        "processes": sorted(handle.name for handle in compute.driver("process").list(owner=compute.OWNER)),
    }


@pytest.mark.parametrize(("kind", "step", "when"), POINTS, ids=["-".join(point) for point in POINTS])
def test_a_killed_operation_ends_as_if_it_had_not_been(world, kind, step, when):
    operation = prepare(world, kind)
    run_and_die(operation, step, when)
    compute.driver.cache_clear()
    operation.refresh_from_db()
    assert operation.state == OperationState.RUNNING

    operations.run(operation.pk)
    operation.refresh_from_db()
    assert operation.state == OperationState.RUNNING, "its lease still holds: nobody else may touch it"

    Operation.objects.filter(pk=operation.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    world.run(operation)
    assert operation.attempt == 2
    ended = state_of_the_world()
    names = set(operations.steps_of(kind))
    assert set(OperationStep.objects.filter(operation=operation, state="done").values_list("name", flat=True)) == names
    assert ended == EXPECTED[kind]


BLUE = compute.replica_name("iris/blue", 1, 0)
NONE = {"endpoints": [], "deployments": [], "sets": [], "replicas": [], "processes": []}
EMPTY = NONE | {"endpoints": [("iris", "Succeeded", {}, {})]}
ONE = EMPTY | {
    "deployments": [("blue", "Succeeded", 1, 1, None)],
    "sets": [("iris/blue", 1, 1)],
    "replicas": [(BLUE, "ready", 0)],
    "processes": [BLUE],
}
TWO = sorted(compute.replica_name("iris/blue", 2, index) for index in range(2))
EXPECTED = {
    "online-endpoint.create": EMPTY,
    "online-endpoint.update": ONE | {"endpoints": [("iris", "Succeeded", {}, {"blue": 10})]},
    "online-endpoint.delete": NONE,
    "online-deployment.create": ONE,
    "online-deployment.update": EMPTY
    | {
        "deployments": [("blue", "Succeeded", 2, 2, None)],
        "sets": [("iris/blue", 2, 2)],
        "replicas": [(name, "ready", 0) for name in TWO],
        "processes": TWO,
    },
    "online-deployment.delete": EMPTY,
    "online-endpoint.regenerate-key": ONE,
    "online-deployment.deploy": ONE | {"endpoints": [("iris", "Succeeded", {"blue": 100}, {})]},
}

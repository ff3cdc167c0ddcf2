"""What a deployment holds of the machine, from the moment it is asked for until its row is gone."""

from __future__ import annotations

import importlib
from decimal import Decimal

import pytest
from django.apps import apps

from apps.compute import domain as compute
from apps.compute.models import ComputeTarget, InstanceType, Replica, ReplicaSet, Reservation
from apps.compute.quantities import GIB
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import domain, operations, reconcile, servers
from apps.endpoints.domain import DeploymentSpec, capacity
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from tests.factories import make_deployment, make_endpoint, make_environment, make_model


def narrow(**values):
    """The fake with little to give."""
    given = {"cpu_milli": 4000, "mem_bytes": 64 * GIB, "gpus": 0, "overcommit_cpu": 1, "overcommit_memory": 1}
    ComputeTarget.objects.update_or_create(name="fake", defaults=given | values)


def held(owner="iris/blue"):
    return Reservation.objects.filter(owner_key=owner).values_list("cpu_milli", "instances").first()


@pytest.mark.envoy
def test_a_deployment_holds_what_it_asks_for_until_it_is_gone(world):
    narrow()
    endpoint = world.endpoint()
    blue = world.deploy(endpoint, instance_count=2)
    assert held() == (2000, 2)
    world.run(domain.scale_deployment(deployment=blue, instance_count=4, actor=None))
    assert held() == (4000, 4)
    with pytest.raises(Problem, match="CPU"):
        domain.create_deployment(endpoint=endpoint, name="green", spec=world.spec(), actor=None)
    assert not OnlineDeployment.objects.filter(name="green").exists()
    world.run(domain.scale_deployment(deployment=blue, instance_count=1, actor=None))
    world.deploy(endpoint, "green")
    blue.refresh_from_db()
    world.run(domain.delete_deployment(deployment=blue, actor=None))
    assert (held(), held("iris/green")) == (None, (1000, 1))
    world.run(domain.delete_endpoint(endpoint=world.fresh(endpoint), actor=None))
    assert not Reservation.objects.exists()
    assert not OnlineEndpoint.objects.exists()


@pytest.mark.envoy
def test_a_refused_change_changes_nothing(world):
    narrow()
    blue = world.deploy(world.endpoint())
    before = Operation.objects.count()
    with pytest.raises(Problem) as caught:
        domain.scale_deployment(deployment=blue, instance_count=5, actor=None)
    assert caught.value.code == "no-capacity"
    blue.refresh_from_db()
    assert (blue.state, blue.instance_count, held(), Operation.objects.count()) == ("Succeeded", 1, (1000, 1), before)
    with pytest.raises(Problem):
        domain.deploy(
            workspace=world.workspace,
            endpoint=("rose", domain.EndpointSpec()),
            name="blue",
            spec=world.spec(instance_count=9),
            share=100,
            actor=None,
        )
    assert not OnlineEndpoint.objects.filter(name="rose").exists()


@pytest.mark.envoy
def test_what_failed_holds_its_place_until_it_is_deleted_or_mended(world):
    narrow()
    endpoint = world.endpoint()
    made, operation = domain.create_deployment(endpoint=endpoint, name="blue", spec=world.spec(), actor=None)
    Operation.objects.filter(pk=operation.pk).update(cancel_requested=True)
    world.run_failing(operation)
    assert held() == (1000, 1)
    made.refresh_from_db()
    world.run(domain.update_deployment(deployment=made, spec=domain.spec_of(made), actor=None))
    assert held() == (1000, 1)
    made.refresh_from_db()
    world.run(domain.delete_deployment(deployment=made, actor=None))
    assert held() is None


@pytest.mark.envoy
def test_resources_of_its_own_reach_the_instances(world):
    limits = {"limits": {"cpu": "500m", "memory": "256Mi"}}
    blue = world.deploy(world.endpoint(), resources=limits)
    spec = blue.serving.spec
    assert (spec["cpu_milli"], spec["mem_bytes"], spec["gpus"]) == (500, 2**28, 0)
    changes = domain.spec_of(blue, resources={"limits": {"cpu": "1"}})
    world.run(domain.update_deployment(deployment=blue, spec=changes, actor=None))
    blue.refresh_from_db()
    assert (blue.revision, blue.serving.spec["cpu_milli"], held()) == (2, 1000, (1000, 1))


@pytest.mark.envoy
def test_instances_run_where_they_were_placed(world, settings):
    """Also when the installation's default changed between the request and the start."""
    made, operation = domain.create_deployment(endpoint=world.endpoint(), name="blue", spec=world.spec(), actor=None)
    settings.DEFAULT_DRIVER = "process"
    world.run(operation)
    made.refresh_from_db()
    assert made.serving.driver == "fake"


@pytest.fixture
def blue(workspace, db):
    compute.seed_instance_types()
    compute.seed_targets()
    spec = DeploymentSpec(model=make_model(workspace), instance_count=2)
    made, operation = domain.create_deployment(
        endpoint=make_endpoint(workspace, "iris"), name="blue", spec=spec, actor=None
    )
    Operation.objects.filter(pk=operation.pk).update(state="succeeded")
    made.serving = ReplicaSet.objects.create(owner_key="iris/blue", revision=1, driver="fake", spec={}, desired=2)
    made.state = "Succeeded"
    made.save()
    return made


def again(deployment, **changes):
    deployment.refresh_from_db()
    operation = domain.update_deployment(deployment=deployment, spec=domain.spec_of(deployment, **changes), actor=None)
    Operation.objects.filter(pk=operation.pk).update(state="succeeded")


@pytest.mark.django_db(transaction=True)
def test_what_serves_stays_held_until_it_has_gone(blue):
    ReplicaSet.objects.update(spec={"cpu_milli": 1000, "mem_bytes": GIB, "gpus": 0})
    again(blue, instance_count=1)
    assert held() == (2000, 2)  # a smaller number is only asked for
    operation = Operation.objects.order_by("-created_at").first()
    operations._deployment_failed(operation, Problem("canceled"))
    assert held() == (2000, 2)
    again(blue, instance_count=4)
    operations._deployment_failed(operation, Problem("canceled"))
    assert held() == (2000, 2)
    ReplicaSet.objects.update(desired=1)
    blue.refresh_from_db()
    capacity.hold_running(blue)
    assert held() == (1000, 1)


@pytest.mark.django_db(transaction=True)
def test_scaling_keeps_the_size_the_instances_have(blue):
    InstanceType.objects.filter(name="small").update(cpu_milli=2000)
    again(blue, instance_count=3)
    assert held() == (3000, 3)
    again(blue, max_concurrent_requests=7)  # a new revision, of the size the type has now
    assert held() == (2000 * 3, 3)


@pytest.mark.django_db(transaction=True)
def test_a_new_revision_goes_where_the_workspace_runs_now(blue, workspace, settings):
    settings.DOCKER_URL = "unix:///engine.sock"
    ComputeTarget.objects.filter(pk="docker").update(enabled=True, cpu_milli=8000, mem_bytes=2**40)
    none = dict.fromkeys(("cpu_milli", "mem_bytes", "gpus", "instances"))
    compute.save_workspace_compute(workspace=workspace, target="docker", actor=None, **none)
    again(blue, instance_count=3)
    assert compute.driver_of("iris/blue") == "fake"
    again(blue, tags={"a": "b"})
    assert compute.driver_of("iris/blue") == "fake"
    again(blue, environment_variables={"A": "1"})
    assert compute.driver_of("iris/blue") == "docker"


@pytest.mark.django_db(transaction=True)
def test_what_needs_a_container_is_refused_where_there_is_none(workspace, settings):
    settings.DEFAULT_DRIVER = "process"
    compute.seed_instance_types()
    compute.seed_targets()
    route = {"port": 5001, "path": "/"}
    config = {"livenessRoute": route, "readinessRoute": route, "scoringRoute": route}
    environment = make_environment(workspace, image="nginx", conda_file="", inference_config=config)
    spec = DeploymentSpec(model=make_model(workspace), environment=environment)
    with pytest.raises(Problem) as caught:
        domain.create_deployment(endpoint=make_endpoint(workspace, "iris"), name="blue", spec=spec, actor=None)
    assert caught.value.code == "no-target"
    assert not OnlineDeployment.objects.exists()
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"image": "python"}, False),
        ({"image": "nginx", "conda_file": ""}, True),
        ({"inference_config": {"scoringRoute": {}}}, True),
        ({"conda_file": "", "requirements": "numpy"}, False),
    ],
)
def test_what_needs_a_container(workspace, environment, expected):
    made = make_environment(workspace, **environment)
    assert servers.needs_container(OnlineDeployment(environment=made)) is expected
    assert servers.needs_container(OnlineDeployment()) is False


@pytest.mark.django_db(transaction=True)
def test_the_controller_gives_back_what_nobody_holds(blue, workspace):
    Reservation.objects.create(
        owner_key="gone/blue", workspace=workspace, target="fake", cpu_milli=1, mem_bytes=1, instances=1
    )
    reconcile.sweep_reservations()
    assert [each.owner_key for each in Reservation.objects.all()] == ["iris/blue"]


@pytest.mark.django_db(transaction=True)
def test_deployments_of_an_earlier_version_get_what_they_use_also_beyond_capacity(blue, workspace):
    make_deployment(make_endpoint(workspace, "rose"), "blue", ready=2)
    unknown = make_deployment(make_endpoint(workspace, "lily"), "blue", ready=0, instance_type="gone")
    Reservation.objects.all().delete()
    Replica.objects.all().delete()
    narrow(cpu_milli=1)
    importlib.import_module("apps.endpoints.migrations.0003_capacity").reserve(apps, None)
    assert (held(), held("rose/blue"), held(unknown.owner_key)) == ((2000, 2), (2000, 2), (0, 1))
    assert set(Reservation.objects.values_list("target", flat=True)) == {"fake"}


@pytest.mark.django_db(transaction=True)
def test_prices_are_of_the_type_times_the_count():
    box = InstanceType(name="box", cpu_milli=1, mem_bytes=1, price_hour=Decimal("0.25"))
    assert compute.hourly(box, 3) == Decimal("0.75")
    assert compute.hourly(InstanceType(name="free"), 3) is None
    assert compute.hourly(None, 3) is None

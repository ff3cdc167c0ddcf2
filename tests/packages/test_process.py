"""Packages on process compute, where no container engine is."""

import pytest

from apps.builds.models import Package
from apps.builds.packaging.domain import PackageSpec
from apps.compute.models import Replica
from apps.core.models import OperationStep
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec
from apps.registry.models import EnvironmentVersion
from tests.packages.parts import Parts

pytestmark = pytest.mark.envoy


@pytest.fixture
def parts(world, settings):
    settings.DEFAULT_DRIVER = "process"
    return Parts(world.workspace, world.actor)


def ready(world, made):
    version, operation = made
    world.run(operation)
    return EnvironmentVersion.objects.get(pk=version.pk)


def test_a_package_is_all_that_a_deployment_names(world, parts):
    variables = {"GREETING": "hello"}
    version = ready(world, parts.package(spec=parts.script(environment_variables=variables)))
    assert "no container engine" in OperationStep.objects.get(name="image").log
    endpoint = world.endpoint()
    blue = world.deploy(endpoint, spec=DeploymentSpec(environment=version))
    world.traffic(endpoint, blue=100)
    assert world.score(body=1)[2][0] == "hello"
    assert world.score(body=1)[2][1].endswith("azureml-models/plain-model/1")

    mine = domain.spec_of(blue, environment_variables={"GREETING": "mine"})
    world.run(domain.update_deployment(deployment=blue, spec=mine, actor=world.actor))
    assert world.score(body=1)[2][0] == "mine"
    second = ready(world, parts.package(spec=parts.script(environment_variables={"GREETING": "second"})))
    assert second.version == "2"
    blue.refresh_from_db()
    rolled = domain.spec_of(blue, environment=second, environment_variables={})
    world.run(domain.update_deployment(deployment=blue, spec=rolled, actor=world.actor))
    assert world.score(body=1)[2][0] == "second"
    assert Replica.objects.count() == 1


def test_packages_that_do_not_exist_are_a_reason_and_nothing_else(world, parts):
    from apps.registry.domain import register_environment

    base, _ = register_environment(
        workspace=world.workspace, name="wrong", requirements="no-such-package-of-anybody==1.2.3", actor=world.actor
    )
    _, operation = parts.package(spec=parts.script(base=base))
    assert world.run_failing(operation)["code"] == "environment-failed"
    assert not Package.objects.exists()
    assert parts.package(spec=parts.script())[0].version == "1"


def test_a_model_without_an_environment_of_its_own_needs_one(world, parts):
    _, operation = parts.package(parts.bare, PackageSpec(base=parts.plain), name="bare")
    world.run(operation)
    assert Package.objects.get().ready_at

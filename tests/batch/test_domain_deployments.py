"""Verbs on batch deployments: what they refuse, what an update changes, that a bad environment fails them."""

from dataclasses import replace

import pytest

from apps.batch import domain
from apps.batch.domain import BatchDeploymentSpec
from apps.batch.models import BatchDeployment
from apps.batch.users import users_of
from apps.core import limits, operations
from apps.core.errors import Problem
from apps.core.models import Operation
from tests.batch.parts import (
    make_batch_deployment,
    make_batch_endpoint,
    make_cluster,
    make_code,
    make_component,
    make_environment,
    make_job,
)
from tests.factories import make_model

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def endpoint(workspace):
    return make_batch_endpoint(workspace)


@pytest.fixture
def spec(workspace):
    return BatchDeploymentSpec(
        model=make_model(workspace, type="custom_model"),
        code=make_code(workspace),
        scoring_script="score.py",
        environment=make_environment(workspace),
        cluster=make_cluster(workspace, max_nodes=2),
    )


def create(endpoint, spec, name="blue"):
    return domain.create_deployment(endpoint=endpoint, name=name, spec=spec, actor=None)


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"cluster": None}, "compute"),
        ({"instance_count": 3}, "resources.instanceCount"),
        ({"instance_count": 0}, "resources.instanceCount"),
        ({"mini_batch_size": 0}, "miniBatchSize"),
        ({"max_retries": -1}, "retrySettings.maxRetries"),
        ({"timeout_ms": 0}, "retrySettings.timeout"),
        ({"error_threshold": -2}, "errorThreshold"),
        ({"output_file_name": "../x.csv"}, "outputFileName"),
        ({"output_action": "SummaryOnly", "output_file_name": "x.csv"}, "outputFileName"),
        ({"environment_variables": {"PORTWAY_SOCKET": "1"}}, "environmentVariables"),
        ({"environment": None}, "environmentId"),
        ({"scoring_script": "nope.py"}, "codeConfiguration.scoringScript"),
        ({"scoring_script": ""}, "codeConfiguration.scoringScript"),
        ({"code": None}, "codeConfiguration.codeId"),
        ({"code": None, "scoring_script": ""}, "codeConfiguration"),
        ({"code": None, "scoring_script": "", "model": None}, "model"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(endpoint, spec, change, target):
    with pytest.raises(Problem) as caught:
        create(endpoint, replace(spec, **change))
    assert (caught.value.entry.status, caught.value.target) == (400, target)
    assert not BatchDeployment.objects.exists()
    assert not Operation.objects.exists()


def test_a_triton_model_is_refused(workspace, endpoint, spec):
    with pytest.raises(Problem, match="Triton"):
        create(endpoint, replace(spec, model=make_model(workspace, "t", type="triton_model")))


def test_a_script_without_run_is_refused(workspace, endpoint, spec):
    with pytest.raises(Problem, match="run"):
        create(endpoint, replace(spec, code=make_code(workspace, "def init():\n    pass\n")))


def test_summary_only_may_come_with_the_name_that_the_sdk_sends(endpoint, spec):
    made, _operation = create(endpoint, replace(spec, output_action="SummaryOnly"))
    assert made.output_action == "SummaryOnly"


def test_a_pipeline_needs_its_component_and_nothing_of_a_model(endpoint, spec):
    component = make_component(spec.cluster.workspace)
    pipeline = BatchDeploymentSpec(type="PipelineComponent", component=component, cluster=spec.cluster)
    changes = [{"component": None}, {"component": component.parts.get()}, {"settings": {"component_id": "c"}}]
    changes += [{"settings": {"force_rerun": "maybe"}}, {"settings": {"default_datastore": "nowhere"}}]
    for change in (*changes, {"model": spec.model}, {"code": spec.code}, {"environment": spec.environment}):
        with pytest.raises(Problem) as caught:
            create(endpoint, replace(pipeline, **change))
        assert caught.value.entry.status == 400
    made, operation = create(endpoint, pipeline)
    operations.run(operation.pk)
    made.refresh_from_db()
    assert (made.state, made.settings) == ("Succeeded", {})
    with pytest.raises(Problem, match="cannot be changed"):
        domain.update_deployment(deployment=made, spec=spec, actor=None)


def test_an_update_changes_it_and_not_the_jobs_that_are_there(endpoint, spec):
    blue = make_batch_deployment(endpoint, cluster=spec.cluster)
    job = make_job(blue, settings={"mini_batch_size": 7})
    operation = domain.update_deployment(deployment=blue, spec=replace(spec, mini_batch_size=3), actor=None)
    blue.refresh_from_db()
    assert (blue.state, blue.mini_batch_size, blue.scoring_script) == ("Updating", 3, "score.py")
    operations.run(operation.pk)
    job.refresh_from_db()
    assert job.settings == {"mini_batch_size": 7}


def test_a_bad_environment_fails_the_deployment(workspace, endpoint, spec, settings):
    settings.DEFAULT_DRIVER = "process"
    from apps.registry.domain import register_environment

    bad, _ = register_environment(
        workspace=workspace, name="bad", version="1", conda_file="dependencies: [r-base]\n", actor=None
    )
    made, operation = create(endpoint, replace(spec, environment=bad))
    operations.run(operation.pk)
    made.refresh_from_db()
    assert made.state == "Failed"
    assert made.error["azure"] == "ImageBuildFailure"
    assert operation.steps.get().name == "environment"


def test_limits_and_names(endpoint, spec, people):
    limits.set_limit(name="deployments_per_endpoint", value=1, actor=people["olga"])
    with pytest.raises(Problem) as caught:
        create(endpoint, spec, "x")
    assert caught.value.code == "bad-name"
    make_batch_deployment(endpoint, cluster=spec.cluster)
    with pytest.raises(Problem) as caught:
        create(endpoint, spec, "BLUE")
    assert caught.value.code == "exists"
    with pytest.raises(Problem) as caught:
        create(endpoint, spec, "green")
    assert caught.value.code == "limit"


def test_deleting_leaves_the_jobs(endpoint, spec):
    blue = make_batch_deployment(endpoint, cluster=spec.cluster)
    job = make_job(blue)
    operations.run(domain.delete_deployment(deployment=blue, actor=None).pk)
    endpoint.refresh_from_db()
    job.refresh_from_db()
    assert (endpoint.default_deployment, job.deployment, job.state) == (None, None, "Running")


def test_deployments_and_live_jobs_keep_a_version(workspace, endpoint, spec):
    blue = make_batch_deployment(endpoint, cluster=spec.cluster, model=spec.model, environment=spec.environment)
    job = make_job(blue, environment=spec.environment)
    assert users_of(spec.environment) == ["batch deployment forests/blue", "job job-1"]
    assert users_of(spec.model) == ["batch deployment forests/blue", "job job-1"]
    assert users_of(spec.code) == []
    job.state = "Completed"
    job.save()
    assert users_of(spec.model) == ["batch deployment forests/blue"]

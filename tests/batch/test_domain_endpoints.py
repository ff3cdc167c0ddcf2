"""Verbs on batch endpoints: what they refuse, that limits count both kinds, that jobs outlive their endpoint."""

import pytest

from apps.batch import domain
from apps.batch.domain import BatchEndpointSpec
from apps.batch.models import BatchDeployment, BatchEndpoint, Job
from apps.core import limits, operations
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.endpoints import domain as online
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_job
from tests.factories import make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


def create(workspace, name="forests", actor=None, **spec):
    return domain.create_endpoint(workspace=workspace, name=name, spec=BatchEndpointSpec(**spec), actor=actor)


def test_an_endpoint_from_its_creation_to_its_end(workspace, people):
    made, operation = create(workspace, actor=people["dan"], description="trees")
    assert made.state == "Creating"
    operations.run(operation.pk)
    made.refresh_from_db()
    assert (made.state, made.description) == ("Succeeded", "trees")
    blue = make_batch_deployment(made)
    job = make_job(blue)
    operations.run(domain.delete_endpoint(endpoint=made, actor=people["dan"]).pk)
    assert not BatchEndpoint.objects.exists()
    assert not BatchDeployment.objects.exists()
    job.refresh_from_db()
    assert (job.state, job.endpoint, job.endpoint_name, job.deployment_name) == ("Running", None, "forests", "blue")
    done = set(AuditRecord.objects.values_list("action", flat=True))
    assert {"batch-endpoint.create", "batch-endpoint.delete"} <= done


@pytest.mark.parametrize("name", ["a", "ab", "1abc", "a--b", "abc-", "a" * 33, "a_b", "../x"])
def test_names_follow_the_rule_of_online_endpoints(workspace, name):
    with pytest.raises(Problem) as caught:
        create(workspace, name)
    assert caught.value.code == "bad-name"
    assert not BatchEndpoint.objects.exists()


def test_a_name_is_taken_whatever_its_case_and_whoever_has_it(workspace, people):
    create(workspace)
    from apps.accounts.models import Workspace

    with pytest.raises(Problem, match="exists already"):
        create(Workspace.objects.get(name="other"), "FORESTS")


def test_online_and_batch_endpoints_count_together(workspace, people):
    limits.set_limit(name="endpoints", value=2, actor=people["olga"])
    make_endpoint(workspace, "iris")
    create(workspace)
    with pytest.raises(Problem) as caught:
        create(workspace, "meadows")
    assert caught.value.code == "limit"
    with pytest.raises(Problem) as caught:
        online.create_endpoint(workspace=workspace, name="roses", spec=online.EndpointSpec(), actor=None)
    assert caught.value.code == "limit"


def test_the_default_deployment_must_be_there(workspace):
    with pytest.raises(Problem, match="has no deployment blue"):
        create(workspace, default_deployment="blue")
    assert not BatchEndpoint.objects.exists()
    endpoint = make_batch_endpoint(workspace)
    blue = make_batch_deployment(endpoint, default=False)
    with pytest.raises(Problem, match="has no deployment green"):
        domain.update_endpoint(endpoint=endpoint, spec=BatchEndpointSpec(default_deployment="green"), actor=None)
    assert not Operation.objects.exists()
    spec = BatchEndpointSpec(default_deployment="BLUE")
    operations.run(domain.update_endpoint(endpoint=endpoint, spec=spec, actor=None).pk)
    endpoint.refresh_from_db()
    assert (endpoint.default_deployment, endpoint.state) == (blue, "Succeeded")
    operations.run(
        domain.update_endpoint(endpoint=endpoint, spec=BatchEndpointSpec(default_deployment=""), actor=None).pk
    )
    endpoint.refresh_from_db()
    assert endpoint.default_deployment is None


def test_one_operation_at_a_time(workspace):
    endpoint, _operation = create(workspace)
    for call in (
        lambda: domain.update_endpoint(endpoint=endpoint, spec=BatchEndpointSpec(description="x"), actor=None),
        lambda: domain.delete_endpoint(endpoint=endpoint, actor=None),
    ):
        with pytest.raises(Problem) as caught:
            call()
        assert caught.value.code == "busy"
    assert BatchEndpoint.objects.get().state == "Creating"


def test_what_is_gone_is_not_found(workspace):
    endpoint = make_batch_endpoint(workspace)
    stale = BatchEndpoint.objects.get()
    endpoint.delete()
    with pytest.raises(Problem) as caught:
        domain.delete_endpoint(endpoint=stale, actor=None)
    assert caught.value.code == "not-found"


def test_a_request_of_another_workspace_finds_no_job_of_an_earlier_endpoint(workspace, people):
    from apps.accounts.models import Workspace

    job = make_job(make_batch_deployment(make_batch_endpoint(workspace)), request_id="r-1")
    BatchDeployment.objects.all().delete()
    BatchEndpoint.objects.all().delete()
    other = make_batch_endpoint(Workspace.objects.get(name="other"))
    with pytest.raises(Problem):
        domain.invoke(endpoint=other, deployment=None, spec=domain.JobSpec(), actor=None, request_id="r-1")
    assert Job.objects.get() == job

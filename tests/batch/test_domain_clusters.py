"""Verbs on clusters and on jobs as records."""

import uuid
from dataclasses import replace

import pytest

from apps.batch import domain
from apps.batch.domain import ClusterSpec, JobChange
from apps.batch.engine import folders
from apps.batch.models import Cluster, Job, MiniBatch, Node, marked
from apps.compute import domain as compute
from apps.core import limits, operations
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.endpoints import instances
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_job, make_node

pytestmark = pytest.mark.django_db(transaction=True)
SMALL = ClusterSpec("small")


@pytest.fixture
def cluster(workspace):
    return make_cluster(workspace, tier="LowPriority")


def test_a_cluster_from_its_creation_to_its_end(workspace, cluster, people):
    made, operation = domain.create_cluster(
        workspace=workspace, name="gpu-box", spec=replace(SMALL, tags={"a": "b"}), actor=people["carl"]
    )
    assert (made.state, made.instance_type, made.tags) == ("Creating", "small", {"a": "b"})
    operations.run(operation.pk)
    made.refresh_from_db()
    assert (made.state, made.created_by) == ("Succeeded", people["carl"])
    operation = domain.update_cluster(cluster=made, spec=replace(SMALL, max_nodes=9), actor=None)
    operations.run(operation.pk)
    made.refresh_from_db()
    assert (made.state, made.max_nodes) == ("Succeeded", 9)
    make_node(made, "idle-one")
    operations.run(domain.delete_cluster(cluster=made, actor=None).pk)
    assert list(Cluster.objects.all()) == [cluster]
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"min_nodes": 5},
        {"max_nodes": 0},
        {"max_nodes": 101},
        {"min_nodes": -1},
        {"idle_s": -1},
        {"idle_s": 10**9},
        {"instance_type": "huge"},
    ],
)
def test_what_cannot_be_is_refused(workspace, cluster, change):
    for call in (
        lambda spec: domain.create_cluster(workspace=workspace, name="gpu", spec=spec, actor=None),
        lambda spec: domain.update_cluster(cluster=cluster, spec=spec, actor=None),
    ):
        with pytest.raises(Problem) as caught:
            call(replace(SMALL, tier="LowPriority", **change))
        assert caught.value.code == "bad-field"
    assert Cluster.objects.count() == 1
    assert not Operation.objects.exists()


def test_tier_and_size_stay_while_there_are_nodes(cluster):
    node = make_node(cluster)
    with pytest.raises(Problem, match="has nodes"):
        domain.update_cluster(cluster=cluster, spec=SMALL, actor=None)
    node.delete()
    domain.update_cluster(cluster=cluster, spec=SMALL, actor=None)
    cluster.refresh_from_db()
    assert cluster.tier == "Dedicated"


def test_a_size_that_a_cluster_has_stays(workspace, people):
    size = {"cpu_milli": 100, "mem_bytes": 2**30, "position": 9, "actor": None}
    compute.save_instance_type(name="odd", new=True, **size)
    made = make_cluster(workspace, "odd-one", instance_type="odd")
    with pytest.raises(Problem, match="cluster lab/odd-one"):
        instances.delete_instance_type(name="odd", actor=None)
    made.delete()
    instances.delete_instance_type(name="odd", actor=None)


def test_the_limit_of_clusters(workspace, cluster, people):
    limits.set_limit(name="clusters", value=1, actor=people["olga"])
    with pytest.raises(Problem) as caught:
        domain.create_cluster(workspace=workspace, name="more", spec=SMALL, actor=None)
    assert caught.value.code == "limit"


def test_a_cluster_in_use_stays(workspace, cluster):
    blue = make_batch_deployment(make_batch_endpoint(workspace), cluster=cluster)
    job = make_job(blue)
    with pytest.raises(Problem, match=r"deployment forests/blue, job job-1"):
        domain.delete_cluster(cluster=cluster, actor=None)
    blue.delete()
    with pytest.raises(Problem, match="job job-1"):
        domain.delete_cluster(cluster=cluster, actor=None)
    Job.objects.update(state="Completed")
    operations.run(domain.delete_cluster(cluster=cluster, actor=None).pk)
    assert not Cluster.objects.exists()
    job.refresh_from_db()
    with pytest.raises(Problem, match="its cluster is gone"):
        domain.retry_failed(job=job, actor=None)


def test_only_low_priority_nodes_are_preempted(workspace, cluster):
    make_node(cluster, "cpu-1", host="here")
    steady = make_cluster(workspace, "steady")
    make_node(steady, "steady-1")
    domain.preempt_node(cluster=cluster, name="cpu-1", actor=None)
    assert Node.objects.get(name="cpu-1").state == "preempted"
    for where, name, code in ((cluster, "cpu-1", "not-found"), (steady, "steady-1", "conflict")):
        with pytest.raises(Problem) as caught:
            domain.preempt_node(cluster=where, name=name, actor=None)
        assert caught.value.code == code
    assert AuditRecord.objects.filter(action="node.preempt").count() == 1


def test_the_limit_of_live_jobs(workspace, people):
    limits.set_limit(name="jobs_per_workspace", value=1, actor=people["olga"])
    endpoint = make_batch_endpoint(workspace)
    make_job(make_batch_deployment(endpoint))
    with pytest.raises(Problem) as caught:
        domain.invoke(endpoint=endpoint, deployment=None, spec=domain.JobSpec(), actor=None)
    assert caught.value.code == "limit"


def test_the_id_of_a_step_leads_back_to_its_job(workspace):
    job = make_job(make_batch_deployment(make_batch_endpoint(workspace)))
    assert job.run_id != str(job.pk)
    assert marked(uuid.UUID(job.run_id)) == job.pk


def test_jobs_are_described_archived_and_deleted(workspace, people):
    job = make_job(make_batch_deployment(make_batch_endpoint(workspace)), parts=3)
    domain.update_job(job=job, change=JobChange(tags={"a": "b"}, is_archived=True), actor=people["dan"])
    assert (job.tags, job.is_archived, job.display_name) == ({"a": "b"}, True, "")
    with pytest.raises(Problem, match="cancel it"):
        domain.delete_job(job=job, actor=None)
    Job.objects.update(state="Failed")
    folder = folders.logs(job)
    domain.delete_job(job=job, actor=None)
    assert not Job.objects.exists()
    assert not MiniBatch.objects.exists()
    assert not folder.exists()

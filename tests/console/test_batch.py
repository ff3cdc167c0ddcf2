"""Batch work, clusters, hosts and data in the console: what pages say, and verbs as the browser sends them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster, Host, Job, Node, Schedule
from apps.console import html
from apps.core.models import AuditRecord, Operation
from apps.registry.models import ComponentVersion, Datastore, DataVersion
from tests.factories import make_data, make_host, make_node


def text(it, row, page="change"):
    response = it.get(html.address(row, page))
    assert response.status_code == 200
    return response.content.decode()


def do(it, row, verb, **sent):
    return it.post(html.address(row, verb), sent)


def recorded(action):
    return AuditRecord.objects.filter(action=action, actor__username="ada").count()


@pytest.fixture
def job(world):
    return world["job"]


def ended(job):
    Job.objects.filter(pk=job.pk).update(state="Completed", ended_at=timezone.now())
    job.refresh_from_db()


# ---- what pages say


def test_a_job_is_told_with_its_counts_and_never_with_its_data(it, job):
    page = text(it, job)
    assert 'href="/w/lab/jobs/job-1"' in page
    assert "5 / 7, 1 failed" in page
    assert ">cpu-1</a>" in page
    assert "paths/in" not in page
    listed = it.get("/console/batch/job/").content.decode()
    assert "5 / 7, 1 failed" in listed
    assert html.address(job, "cancel") in listed


def test_a_pipeline_shows_its_steps_and_a_step_its_pipeline(it, job):
    Job.objects.filter(pk=job.pk).update(type="pipeline")
    step = Job.objects.create(workspace=job.workspace, name="one", type="command", parent=job, step="train")
    assert ">train</a>" in text(it, job)
    Job.objects.filter(pk=job.pk).update(total=3, done=2, failed=0)
    assert "2 / 3 steps" in it.get("/console/batch/job/").content.decode()
    assert html.address(job) in text(it, step)
    ended(step)
    assert "It is a step" in text(it, step, "delete")
    assert do(it, step, "delete", confirm="one").status_code == 409


def test_a_batch_endpoint_shows_its_deployments_jobs_and_schedules(it, job, world):
    page = text(it, job.endpoint)
    assert 'href="/w/lab/batch-endpoints/forests"' in page
    for row in (job.deployment, job, world["schedule"]):
        assert html.address(row) in page
    assert html.address(job.cluster) in text(it, job.deployment)


def test_a_schedule_that_has_ended_says_so(it, job, world):
    Schedule.objects.update(ends_at=timezone.now() - timedelta(days=1), next_at=None)
    for page in (text(it, world["schedule"]), text(it, job.endpoint)):
        assert "Ended</span>" in page


def test_a_cluster_that_waits_says_why(it, job):
    Cluster.objects.update(waiting={"code": "no-capacity", "message": "No room for a node.", "next": "Wait."})
    assert "No room for a node." in text(it, job.cluster)
    assert "Waiting for room" in it.get("/console/batch/cluster/").content.decode()


def test_the_workspace_and_the_instance_type_lead_to_the_cluster(it, job, workspace):
    for page in (text(it, workspace), it.get("/console/compute/instancetype/small/").content.decode()):
        assert html.address(job.cluster) in page
    assert html.address(job.endpoint) in text(it, workspace)


def test_long_times_are_told_in_hours():
    now = timezone.now()
    assert html.took(now - timedelta(hours=2, minutes=5), now) == "2 h 5 min"
    assert html.lasts(None, None) == html.NONE


def test_names_of_other_workspaces_are_not_mixed_in(it, job, people):
    from apps.accounts.models import Workspace
    from apps.core import audit

    other = Workspace.objects.create(name="elsewhere")
    for where, action in ((job.workspace, "cluster.here"), (other, "cluster.there")):
        audit.record(people["ada"], action, workspace=where.name, target=job.cluster.topic)
        Operation.objects.create(kind=f"op.{where}", workspace=where.name, target=job.cluster.topic, lock=where.name)
    page = text(it, job.cluster)
    assert "cluster.here" in page
    assert "op.lab" in page
    assert "cluster.there" not in page
    assert "op.elsewhere" not in page


def test_a_host_is_alive_or_lost(it, world):
    assert ">Lost</span>" in text(it, world["host"])
    assert ">cpu-1</a>" in text(it, world["host"])
    alive = make_host("fresh")
    page = text(it, alive)
    assert ">Alive</span>" in page
    assert html.address(alive, "forget") not in page
    assert do(it, alive, "forget").status_code == 409


def test_a_datastore_says_that_it_has_credentials_and_not_which(it, world):
    page = text(it, world["datastore"])
    assert "Kept encrypted" in page
    assert "never-shown" not in page
    assert "tiles" in page


def test_signatures_of_links_are_not_shown(it, workspace, world):
    data = make_data(workspace, "shared", uri="https://store.example/x.csv?sig=secret-signature")
    page = text(it, data) + it.get("/console/registry/dataversion/").content.decode()
    assert "https://store.example/x.csv" in page
    assert "secret-signature" not in page


def test_health_and_overview_tell_of_a_lost_host(it, world):
    for page in ("/console/", "/console/health/"):
        assert "batch host worker-1" in it.get(page).content.decode()
    assert "container engine" in it.get("/console/health/").content.decode()
    Host.objects.all().delete()
    Job.objects.update(state="Completed")
    assert "Engine, hosts and clusters" not in it.get("/console/").content.decode()


# ---- verbs


def test_a_job_is_canceled_once(it, job):
    assert do(it, job, "cancel").url == html.address(job)
    job.refresh_from_db()
    assert job.state == "CancelRequested"
    assert recorded("job.cancel") == 1
    assert "It is ending already" in text(it, job)
    assert html.address(job, "cancel") not in it.get("/console/batch/job/").content.decode()
    ended(job)
    assert do(it, job, "cancel").status_code == 409


def test_an_ended_job_is_deleted_by_its_name(it, job):
    assert do(it, job, "delete", confirm="job-1").status_code == 409  # it runs
    ended(job)
    assert do(it, job, "delete", confirm="other").status_code == 400
    assert do(it, job, "delete", confirm="job-1").url == "/console/batch/job/"
    assert not Job.objects.exists()
    assert recorded("job.delete") == 1


def test_a_node_is_stopped_for_a_reason(it, job, world):
    assert do(it, world["node"], "stop", reason="it is stuck").url == "/console/batch/node/"
    assert not Node.objects.exists()
    record = AuditRecord.objects.get(action="node.stop", actor__username="ada")
    assert record.detail["reason"] == "it is stuck"
    assert "it is stuck" in it.get("/console/core/auditrecord/?action=node").content.decode()


def test_idle_nodes_are_given_back(it, job):
    make_node(job.cluster, "spare", idle_since=timezone.now() - timedelta(seconds=1))
    Cluster.objects.update(max_nodes=1)
    response = it.post(html.address(job.cluster, "shrink"), follow=True)
    assert "1 node was given back." in response.content.decode()
    assert list(Node.objects.values_list("name", flat=True)) == ["cpu-1"]


def test_a_cluster_in_use_is_not_deleted(it, job):
    assert "Deployments name it" in text(it, job.cluster)
    assert do(it, job.cluster, "delete", confirm="cpu").status_code == 409
    Cluster.objects.create(workspace=job.workspace, name="free", instance_type="small")
    free = Cluster.objects.get(name="free")
    response = do(it, free, "delete", confirm="free")
    assert response.url == html.address(Operation.objects.get(kind="cluster.delete"))


def test_a_schedule_is_switched_off_and_on_in_the_name_of_who_did_it(it, world):
    row = world["schedule"]
    assert do(it, row, "disable").url == html.address(row)
    row.refresh_from_db()
    assert (row.enabled, row.next_at) == (False, None)
    assert html.address(row, "disable") not in text(it, row)
    do(it, row, "enable")
    row.refresh_from_db()
    assert row.enabled
    assert row.next_at > timezone.now()
    assert row.modified_by.username == "ada"
    assert do(it, row, "delete", confirm="nightly").url == "/console/batch/schedule/"
    assert not Schedule.objects.exists()
    assert (recorded("schedule.update"), recorded("schedule.delete")) == (2, 1)


def test_a_schedule_nobody_can_read_any_more_is_shown(it, world):
    Schedule.objects.update(cron="nonsense")
    assert "nonsense" in text(it, world["schedule"])


def test_deployments_and_endpoints_go_by_operations(it, job):
    response = do(it, job.deployment, "delete", confirm="forests/blue")
    assert response.url == html.address(Operation.objects.get(kind="batch-deployment.delete"))
    assert BatchDeployment.objects.get().state == "Deleting"
    assert do(it, job.endpoint, "delete", confirm="forests").status_code == 409  # busy with that
    Operation.objects.update(state="succeeded", lock="")
    assert "the schedule nightly" in text(it, job.endpoint, "delete")
    response = do(it, job.endpoint, "delete", confirm="forests")
    assert response.url == html.address(Operation.objects.get(kind="batch-endpoint.delete"))
    assert BatchEndpoint.objects.get().state == "Deleting"


def test_data_components_and_datastores_are_deleted_unless_they_are_used(it, job, world, workspace):
    BatchDeployment.objects.update(component=world["component"])
    assert do(it, world["component"], "delete", confirm="step:1").status_code == 409
    assert "It is used by batch deployment forests/blue" in text(it, world["component"], "delete")
    BatchDeployment.objects.update(component=None)
    assert do(it, world["component"], "delete", confirm="step:1").url == "/console/registry/componentversion/"
    inside = make_data(workspace, "inside", uri="azureml://datastores/bay/paths/x")
    assert do(it, world["datastore"], "delete", confirm="bay").status_code == 409
    assert do(it, inside, "delete", confirm="inside:1").url == "/console/registry/dataversion/"
    assert do(it, world["datastore"], "delete", confirm="bay").url == "/console/registry/datastore/"
    assert not Datastore.objects.filter(name="bay").exists()
    assert not ComponentVersion.objects.exists()
    assert list(DataVersion.objects.values_list("asset__name", flat=True)) == ["tiles"]
    assert (recorded("component.delete"), recorded("data.delete"), recorded("datastore.delete")) == (1, 1, 1)

"""The recipes of batch endpoints, deployments and clusters; each reads like the timeline its user sees."""

from __future__ import annotations

from django.db import transaction
from django.db.models import ProtectedError

from apps.batch import environments
from apps.batch.domain.clusters import check_unused
from apps.batch.engine import nodes
from apps.batch.enums import DeploymentType, JobState, ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster
from apps.compute import domain as compute
from apps.core import events
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.operations import Run, handles

LEAVING_S = 300.0  # how long nodes of a deleted cluster may take


def _ended_as(problem: Problem) -> ProvisioningState:
    return ProvisioningState.CANCELED if problem.code == "canceled" else ProvisioningState.FAILED


# -- endpoints


def _endpoint_failed(operation: Operation, problem: Problem) -> None:
    rows = BatchEndpoint.objects.filter(pk=operation.payload["endpoint"]).exclude(state=ProvisioningState.DELETING)
    rows.update(state=_ended_as(problem), error=problem.as_json())


@handles("batch-endpoint.create", steps=("address",), failed=_endpoint_failed)
@handles("batch-endpoint.update", steps=("address",), failed=_endpoint_failed)
def settle_endpoint(run: Run) -> None:
    """Its address needs no route of its own: it can be used as soon as the row is there."""
    endpoint = BatchEndpoint.objects.select_related("workspace").get(pk=run.payload["endpoint"])
    with run.step("address"):
        BatchEndpoint.objects.filter(pk=endpoint.pk).update(state=ProvisioningState.SUCCEEDED, error=None)
        run.log(f"Jobs are submitted to {endpoint.scoring_uri}")
    events.changed(endpoint.workspace.name, endpoint.topic)


@handles("batch-endpoint.delete", steps=("remove",))
def delete_endpoint(run: Run) -> None:
    endpoint = BatchEndpoint.objects.select_related("workspace").filter(pk=run.payload["endpoint"]).first()
    if endpoint is None:
        return
    with run.step("remove"), transaction.atomic():
        endpoint.deployments.all().delete()
        endpoint.delete()
    events.changed(endpoint.workspace.name, endpoint.topic)


# -- deployments


def _deployment_failed(operation: Operation, problem: Problem) -> None:
    rows = BatchDeployment.objects.filter(pk=operation.payload["deployment"])
    rows = rows.exclude(state=ProvisioningState.DELETING)
    rows.update(state=_ended_as(problem), error=problem.as_json())


@handles("batch-deployment.create", steps=("environment",), failed=_deployment_failed, cancelable=True)
@handles("batch-deployment.update", steps=("environment",), failed=_deployment_failed, cancelable=True)
def prepare_deployment(run: Run) -> None:
    """Build the environment ahead, so that a bad one fails here and not in a job."""
    related = ("endpoint__workspace", "cluster__workspace", "model__asset", "environment__asset")
    deployment = BatchDeployment.objects.select_related(*related).get(pk=run.payload["deployment"])
    with run.step("environment"):
        if deployment.type == DeploymentType.MODEL:
            if deployment.cluster is None:
                raise Problem("bad-field", field="compute", reason="the deployment has no cluster", target="compute")
            environments.built(
                run, cluster=deployment.cluster, environment=deployment.environment, model=deployment.model
            )
        rows = BatchDeployment.objects.filter(pk=deployment.pk).exclude(state=ProvisioningState.DELETING)
        rows.update(state=ProvisioningState.SUCCEEDED, error=None)
    events.changed(deployment.endpoint.workspace.name, deployment.endpoint.topic, deployment.topic)


@handles("batch-deployment.delete", steps=("remove",))
def delete_deployment(run: Run) -> None:
    rows = BatchDeployment.objects.select_related("endpoint__workspace")
    deployment = rows.filter(pk=run.payload["deployment"]).first()
    if deployment is None:
        return
    with run.step("remove"):
        deployment.delete()
    events.changed(deployment.endpoint.workspace.name, deployment.endpoint.topic, deployment.topic)


# -- clusters


def _cluster_failed(operation: Operation, problem: Problem) -> None:
    Cluster.objects.filter(pk=operation.payload["cluster"]).update(state=_ended_as(problem))


@handles("cluster.create", steps=("place",), failed=_cluster_failed)
@handles("cluster.update", steps=("place",), failed=_cluster_failed)
def settle_cluster(run: Run) -> None:
    """No node exists until a job needs one: only that this installation can run such nodes is looked at."""
    cluster = Cluster.objects.select_related("workspace").get(pk=run.payload["cluster"])
    with run.step("place"):
        instance = compute.instance_type(cluster.instance_type, also=cluster.instance_type)
        target = compute.place(
            cluster.workspace, needs_container=False, gpus=instance.gpus, isolation=instance.isolation
        )
        Cluster.objects.filter(pk=cluster.pk).update(state=ProvisioningState.SUCCEEDED)
        run.log(f"Nodes of {cluster.instance_type} run on {target}")
    events.changed(cluster.workspace.name, cluster.topic)


@handles("cluster.delete", steps=("nodes", "remove"), failed=_cluster_failed)
def delete_cluster(run: Run) -> None:
    cluster = Cluster.objects.select_related("workspace").filter(pk=run.payload["cluster"]).first()
    if cluster is None:
        return
    with run.step("nodes"):
        if not run.wait(lambda: _empty(cluster), timeout_s=LEAVING_S, every_s=0.5):
            raise Problem("conflict", reason=f"Nodes of cluster {cluster} did not leave in time; delete it again.")
    with run.step("remove"), transaction.atomic():
        check_unused(cluster)
        cluster.jobs.filter(state__in=JobState.ended()).update(cluster=None)
        try:
            cluster.delete()
        except ProtectedError:  # a job or a deployment came this very moment
            raise Problem("in-use", kind="Compute", name=cluster.name, users="a new job or deployment") from None
    events.changed(cluster.workspace.name, cluster.topic)


def _empty(cluster: Cluster) -> bool:
    """Whether its last node has left; what can leave now does."""
    nodes.schedule()
    return not cluster.nodes.exists()

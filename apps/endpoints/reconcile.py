"""The controller's part for online endpoints: desired against observed against published."""

from __future__ import annotations

from django.conf import settings

from apps.compute import domain as compute
from apps.compute.models import ReplicaSet
from apps.core import events, leases
from apps.core.controller import every
from apps.core.models import Operation, OperationState
from apps.endpoints.models import OnlineDeployment
from apps.gateway import domain as gateway


@every(1.0, "replicas")
def repair_replicas() -> None:
    """Restart what died, and publish when addresses changed."""
    changed = False
    for deployment in OnlineDeployment.objects.exclude(serving=None).select_related("serving", "endpoint__workspace"):
        if deployment.serving is not None and compute.reconcile(deployment.serving):
            changed = True
            events.changed(deployment.endpoint.workspace.name, deployment.endpoint.topic, deployment.topic)
    if changed:
        publish_routes()


@every(5.0, "routes")
def publish_routes() -> None:
    """Publish whatever was missed. Cheap when nothing changed."""
    try:
        gateway.publish(wait_s=1.0)
    except leases.LeaseTaken:
        return


@every(10.0, "leftovers")
def sweep_leftovers() -> None:
    """Stop replicas that no row knows, and sets that no deployment serves from and no operation works on."""
    compute.sweep_orphans(settings.DEFAULT_DRIVER)
    busy = set(Operation.objects.filter(state__in=OperationState.live()).values_list("lock", flat=True))
    serving = set(OnlineDeployment.objects.exclude(serving=None).values_list("serving_id", flat=True))
    for replica_set in ReplicaSet.objects.filter(desired__gt=0).exclude(pk__in=serving):
        endpoint = replica_set.owner_key.split("/", 1)[0]
        if f"online-endpoint/{endpoint}" not in busy:
            compute.halt(replica_set)

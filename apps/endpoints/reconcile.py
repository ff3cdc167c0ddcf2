"""The controller's part for online endpoints: desired against observed against published."""

from __future__ import annotations

import time
from collections.abc import Collection

import structlog
from django.db.models import Exists, OuterRef, Q

from apps.compute import domain as compute
from apps.compute.drivers.base import DriverUnavailable
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica, ReplicaSet
from apps.core import events, leases
from apps.core.controller import every
from apps.core.errors import Problem
from apps.core.models import Operation, OperationState
from apps.endpoints import metrics
from apps.endpoints.models import OnlineDeployment
from apps.gateway import domain as gateway
from apps.monitoring import rollup

log = structlog.get_logger(__name__)


@every(1.0, "replicas")
def repair_replicas() -> None:
    """Restart what died, and publish when addresses changed.

    At once, before anything of another deployment is started: the engine gives the address of a container that ended
    to the next one, and no route may still name it then.
    """
    for deployment in OnlineDeployment.objects.exclude(serving=None).select_related("serving", "endpoint__workspace"):
        try:
            moved = deployment.serving is not None and compute.reconcile(deployment.serving)
        except Exception:  # one deployment's trouble must not keep the others' replicas down
            log.exception("replicas.repair_failed", deployment=deployment.topic)
            continue
        if moved:
            publish_routes()
            events.changed(deployment.endpoint.workspace.name, deployment.endpoint.topic, deployment.topic)


@every(5.0, "routes")
def publish_routes() -> None:
    """Publish whatever was missed. Cheap when nothing changed."""
    try:
        gateway.publish(wait_s=1.0)
    except leases.LeaseTaken:
        return


@every(10.0, "leftovers")
def sweep_leftovers() -> None:
    """Stop replicas that no row knows, and sets that no deployment serves from and no operation works on.

    A set whose halt was interrupted wants no replicas any more but may still have some.
    """
    for name in compute.drivers():
        try:
            compute.sweep_orphans(name)
        except DriverUnavailable as error:
            log.warning("replicas.not_swept", driver=name, reason=str(error))
    running = Exists(Replica.objects.filter(set=OuterRef("pk")).exclude(state=ReplicaState.FAILED))
    for replica_set in ReplicaSet.objects.filter(running | Q(desired__gt=0)):
        # asked anew for each: halting takes seconds, in which an operation may have begun. The operation before the
        # deployment: one that has just ended has said who serves.
        endpoint = replica_set.owner_key.split("/", 1)[0]
        lock = f"online-endpoint/{endpoint}"
        if Operation.objects.filter(lock=lock, state__in=OperationState.live()).exists():
            continue
        if OnlineDeployment.objects.filter(serving=replica_set).exists():
            continue
        try:
            compute.halt(replica_set)
        except (leases.LeaseTaken, Problem) as error:  # one set's trouble must not keep the others
            reason = error.message if isinstance(error, Problem) else str(error)
            log.warning("replicas.not_halted", owner=replica_set.owner_key, reason=reason)


@every(60.0, "reservations")
def sweep_reservations() -> None:
    """Give back what is reserved for deployments that are gone: deleted by hand, or by an older version."""
    compute.release_unowned(_living)


def _living(owner_keys: Collection[str]) -> set[str]:
    endpoints = {each.partition("/")[0] for each in owner_keys}
    rows = OnlineDeployment.objects.filter(endpoint__name__in=endpoints).select_related("endpoint")
    return {each.owner_key for each in rows} & set(owner_keys)


@every(10.0, "metrics")
def sample_metrics() -> None:
    """Count what happened since the last time."""
    metrics.sample()


@every(30.0, "metrics-age")
def age_metrics() -> None:
    """Roll up what is five minutes old, delete what nobody can see any more."""
    rollup.maintain(time.time_ns() // 1_000_000)

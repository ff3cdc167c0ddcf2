"""An administrator's verbs on the instances of deployments, and on the sizes they can have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import InstanceType, Replica
from apps.core import audit, operations
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment

SHOWN = 5
_users: list[Callable[[str], list[str]]] = []


def name_users_with(function: Callable[[str], list[str]]) -> None:
    """Have `function` name what else uses an instance type."""
    _users.append(function)


def restart_replica(*, replica: Replica, actor: Any, reason: str = "") -> Operation:
    """Replace an instance now: no new requests, finish those in flight, stop, start.

    Raises Problem "not-found", "conflict" for a held one or one that no deployment serves from, or "busy".
    """
    if _now(replica).state == ReplicaState.HELD:
        raise Problem("conflict", reason="This instance is stopped; start it instead.")
    return _start("replica.restart", replica, actor, reason)


def stop_replica(*, replica: Replica, actor: Any, reason: str) -> Operation:
    """Stop an instance and keep it down until `start_replica`; everybody reads the reason.

    Raises Problem "bad-field" without a reason, "not-found", "conflict" when it is held already, or "busy".
    """
    reason = reason.strip()
    if not reason:
        raise Problem("bad-field", field="reason", reason="say why, for the owners will ask", target="reason")
    if _now(replica).state not in compute.STOPPABLE:
        raise Problem("conflict", reason="This instance is stopped, or about to be.")
    return _start("replica.stop", replica, actor, reason[:300])


def start_replica(*, replica: Replica, actor: Any) -> Operation:
    """Start an instance that an administrator stopped. Raises Problem "not-found", "conflict" or "busy"."""
    if _now(replica).state != ReplicaState.HELD:
        raise Problem("conflict", reason="This instance is not stopped by an administrator.")
    return _start("replica.start", replica, actor, "")


def _now(replica: Replica) -> Replica:
    found = Replica.objects.select_related("set").filter(pk=replica.pk).first()
    if found is None:
        raise Problem("not-found", kind="instance", name=replica.name)
    return found


@transaction.atomic
def _start(kind: str, replica: Replica, actor: Any, reason: str) -> Operation:
    """Under the endpoint's lock: a rollout and this must not work on one set at the same time."""
    replica = _now(replica)
    rows = OnlineDeployment.objects.select_related("endpoint__workspace")
    deployment = rows.filter(serving=replica.set_id).first()
    if deployment is None:
        raise Problem("conflict", reason=f"No deployment serves from instance {replica.name}.")
    started = replica.started_at.isoformat() if replica.started_at else ""
    return operations.start(
        kind,
        workspace=deployment.endpoint.workspace.name,
        target=deployment.topic,
        lock=deployment.endpoint.topic,
        actor=actor,
        payload={
            "endpoint": deployment.endpoint_id,
            "deployment": deployment.pk,
            "replica": replica.pk,
            "started": started,
            "reason": reason,
        },
        resource_url=f"onlineEndpoints/{deployment.endpoint.name}/deployments/{deployment.name}",
        detail={"instance": replica.index, "replica": replica.name, **({"reason": reason} if reason else {})},
    )


@transaction.atomic
def delete_instance_type(*, name: str, actor: Any) -> None:
    """Take a size that IT added out of the catalogue.

    Raises:
        Problem: "not-found", "in-use" while deployments name it, "conflict" for one that comes with Portway: the next
            start would bring it back.
    """
    found = InstanceType.objects.select_for_update().filter(pk=name).first()
    if found is None:
        raise Problem("not-found", kind="instance type", name=name)
    if any(name == each for each, _, _ in compute.SIZES):
        raise Problem("conflict", reason=f"Instance type {name} comes with Portway.")
    rows = OnlineDeployment.objects.select_related("endpoint").filter(instance_type__iexact=name)
    users = [str(each) for each in rows[:SHOWN]]
    users += [each for function in _users for each in function(name)]
    if users:
        raise Problem("in-use", kind="Instance type", name=name, users=", ".join(users))
    found.delete()
    audit.record(actor, "instance-type.delete", workspace="", target=f"instance-type/{name}")

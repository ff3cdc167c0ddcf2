"""Verbs on compute clusters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.batch.engine import nodes
from apps.batch.enums import ClusterTier, JobState, NodeState, ProvisioningState
from apps.batch.models import Cluster, Node
from apps.compute import domain as compute
from apps.core import audit, events, limits, operations, states
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import instances
from apps.endpoints.enums import SETTLED

NAME = re.compile(r"[a-zA-Z](-?[a-zA-Z0-9])*")
NAME_RULE = "2 to 32 characters, a letter first, then letters, digits and single dashes, no dash at the end"
MOST_IDLE_S = 7 * 86_400
SHOWN = 5


def _of_size(name: str) -> list[str]:
    rows = Cluster.objects.filter(instance_type__iexact=name).select_related("workspace")
    return [f"cluster {each.workspace}/{each}" for each in rows[:SHOWN]]


limits.count_with("clusters", Cluster.objects.count)
instances.name_users_with(_of_size)


@dataclass(frozen=True)
class ClusterSpec:
    """What a user says about a cluster, with Azure's defaults (spec 3.10). `idle_s`: seconds."""

    instance_type: str
    tier: str = ClusterTier.DEDICATED
    min_nodes: int = 0
    max_nodes: int = 4
    idle_s: int = 120
    description: str = ""
    tags: dict[str, str] | None = None


@transaction.atomic
def create_cluster(*, workspace: Workspace, name: str, spec: ClusterSpec, actor: Any) -> tuple[Cluster, Operation]:
    """Raises Problem "bad-name", "exists", "limit" or "bad-field"."""
    if not 2 <= len(name) <= 32 or not NAME.fullmatch(name):  # noqa: PLR2004 -- Azure's rule
        raise Problem("bad-name", kind="compute", name=name, rule=NAME_RULE, target="name")
    instance_type = _check(spec)
    if Cluster.objects.filter(workspace=workspace, name__iexact=name).exists():
        raise Problem("exists", kind="Compute", name=name, target="name")
    limits.check_room("clusters", "clusters")
    cluster = Cluster(workspace=workspace, name=name, state=ProvisioningState.CREATING, created_by=actor)
    _assign(cluster, spec, instance_type, actor)
    try:
        with transaction.atomic():
            cluster.save(force_insert=True)
    except IntegrityError:
        raise Problem("exists", kind="Compute", name=name, target="name") from None
    return cluster, _begin("cluster.create", cluster, actor)


@transaction.atomic
def update_cluster(*, cluster: Cluster, spec: ClusterSpec, actor: Any) -> Operation:
    """Change a cluster; nodes that are there keep their size until they leave.

    Raises Problem "not-found", "busy", "bad-field"; "conflict" for another tier or size while it has nodes.
    """
    cluster = locked(cluster)
    instance_type = _check(spec, present=cluster.instance_type)
    changed = (spec.tier, instance_type) != (cluster.tier, cluster.instance_type)
    if changed and cluster.nodes.exists():
        reason = f"Cluster {cluster} has nodes; its tier and size can change when it has none."
        raise Problem("conflict", reason=reason, target="properties.properties.vmPriority")
    operation = _begin("cluster.update", cluster, actor)
    _assign(cluster, spec, instance_type, actor)
    cluster.state = ProvisioningState.UPDATING
    cluster.save()
    return operation


@transaction.atomic
def delete_cluster(*, cluster: Cluster, actor: Any) -> Operation:
    """Its nodes leave, then the row goes. Raises Problem "not-found", "busy", "in-use"."""
    cluster = locked(cluster)
    check_unused(cluster)
    operation = _begin("cluster.delete", cluster, actor)
    waiting = (ProvisioningState.CREATING, ProvisioningState.DELETING)
    states.move(cluster, ProvisioningState.DELETING, expect=[*SETTLED, *waiting], min_nodes=0)
    return operation


def preempt_node(*, cluster: Cluster, name: str, actor: Any) -> None:
    """Take a node of a low-priority cluster away now, as the platform does when it needs the room.

    Raises Problem "not-found", or "conflict" for a dedicated cluster.
    """
    rows = Node.objects.select_related("cluster__workspace", "job__workspace")
    node = rows.filter(cluster=cluster, name=name).first()
    if node is None or node.state == NodeState.PREEMPTED:
        raise Problem("not-found", kind="node", name=f"{cluster.name}/{name}")
    if not cluster.low_priority:
        raise Problem("conflict", reason=f"Cluster {cluster} is dedicated: its nodes are never taken away.")
    with transaction.atomic():
        audit.record(actor, "node.preempt", workspace=cluster.workspace.name, target=cluster.topic, node=name)
        nodes.preempt(node)


def check_unused(cluster: Cluster) -> None:
    """Raises Problem "in-use" while deployments name it or jobs that have not ended run on it."""
    found = [f"deployment {each}" for each in cluster.deployments.select_related("endpoint")[:SHOWN]]
    found += [f"job {each}" for each in cluster.jobs.filter(state__in=JobState.live())[:SHOWN]]
    if found:
        raise Problem("in-use", kind="Compute", name=cluster.name, users=", ".join(found))


def locked(cluster: Cluster) -> Cluster:
    """The cluster as it is now, kept so until the transaction ends. Raises Problem "not-found"."""
    rows = Cluster.objects.select_for_update(of=("self",)).select_related("workspace")
    found = rows.filter(pk=cluster.pk).first()
    if found is None:
        raise Problem("not-found", kind="compute", name=cluster.name)
    return found


def _check(spec: ClusterSpec, present: str = "") -> str:
    """The instance type in its own spelling."""
    most = limits.get("nodes_per_cluster")
    scale = "properties.properties.scaleSettings"
    bounds = [
        (f"{scale}.maxNodeCount", spec.max_nodes, 1, most),
        (f"{scale}.minNodeCount", spec.min_nodes, 0, spec.max_nodes),
        (f"{scale}.nodeIdleTimeBeforeScaleDown", spec.idle_s, 0, MOST_IDLE_S),
    ]
    for name, value, least, greatest in bounds:
        if not least <= value <= greatest:
            reason = f"must be {least} to {greatest}, not {value}"
            raise Problem("bad-field", field=name, reason=reason, target=name)
    return str(compute.instance_type(spec.instance_type, also=present).name)


def _assign(cluster: Cluster, spec: ClusterSpec, instance_type: str, actor: Any) -> None:
    cluster.instance_type = instance_type
    for name in ("tier", "min_nodes", "max_nodes", "idle_s", "description"):
        setattr(cluster, name, getattr(spec, name))
    if spec.tags is not None:
        cluster.tags = spec.tags
    cluster.modified_by = actor
    cluster.modified_at = timezone.now()


def _begin(kind: str, cluster: Cluster, actor: Any) -> Operation:
    events.changed(cluster.workspace.name, cluster.topic)
    return operations.start(
        kind,
        workspace=cluster.workspace.name,
        target=cluster.topic,
        lock=f"{cluster.topic}/{cluster.pk}",
        actor=actor,
        payload={"cluster": cluster.pk},
        resource_url=f"computes/{cluster.name}",
    )

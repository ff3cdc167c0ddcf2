"""What the operator of the installation does with nodes and hosts, by hand."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from apps.batch.domain.clusters import locked
from apps.batch.engine import nodes, wake
from apps.batch.models import Cluster, Host, Node
from apps.core import audit
from apps.core.errors import Problem


@transaction.atomic
def stop_node(*, node: Node, reason: str, actor: Any) -> None:
    """Take a node away from whoever has it: its room is free, its unfinished mini-batches are queued again.

    Its host stops the program within seconds. While work waits, or for the minimum, the cluster gets another node.

    Raises Problem "not-found".
    """
    rows = Node.objects.select_for_update(of=("self",)).select_related("cluster__workspace")
    found = rows.filter(pk=node.pk).first()
    if found is None:
        raise Problem("not-found", kind="node", name=node.name)
    cluster = found.cluster
    detail = {"node": found.name, "host": found.host} | ({"reason": reason} if reason else {})
    audit.record(actor, "node.stop", workspace=cluster.workspace.name, target=cluster.topic, **detail)
    nodes.lose(found, "an administrator stopped it")
    wake.schedule()


@transaction.atomic
def give_back_idle(*, cluster: Cluster, actor: Any) -> int:
    """Give back every idle node beyond the minimum now, whatever the idle time; how many went.

    Raises Problem "not-found".
    """
    cluster = locked(cluster)
    count = nodes.shrink_now(cluster)
    audit.record(actor, "cluster.shrink", workspace=cluster.workspace.name, target=cluster.topic, nodes=count)
    return count


@transaction.atomic
def forget_host(*, host: Host, actor: Any) -> None:
    """Take a lost host off the list; when its worker comes back, so does it. Raises Problem "not-found", "conflict"."""
    found = Host.objects.select_for_update().filter(pk=host.pk).first()
    if found is None:
        raise Problem("not-found", kind="host", name=host.name)
    if not found.lost:
        raise Problem("conflict", reason=f"Host {found} is alive; stop its worker, and it leaves the list by itself.")
    audit.record(actor, "host.forget", workspace="", target=f"host/{found}")
    found.delete()

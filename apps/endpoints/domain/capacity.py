"""What a deployment holds in the ledger of capacity."""

from __future__ import annotations

from apps.compute import domain as compute
from apps.endpoints import servers
from apps.endpoints.models import OnlineDeployment


def hold(deployment: OnlineDeployment, *, anew: bool) -> None:
    """Reserve what the deployment asks for now; in the transaction that writes its row.

    `anew`: it gets new replicas, which go where the workspace runs now and have the size the instance type has now.
    Otherwise the replicas it has stay where and as large as they are, only their number changes.

    Raises Problem "no-target", "target-unfit", "no-capacity" or "quota".
    """
    workspace = deployment.endpoint.workspace
    held = None if anew else compute.reservation(deployment.owner_key)
    if held is not None:
        target, size = held.target, compute.size_held(held)
    else:
        instance = compute.instance_type(deployment.instance_type, also=deployment.instance_type)
        size, _notes = compute.size_of(instance, deployment.resources)
        target = compute.place(
            workspace,
            needs_container=servers.needs_container(deployment),
            gpus=size.gpus,
            isolation=instance.isolation,
        )
    compute.reserve(
        owner_key=deployment.owner_key,
        workspace=workspace,
        target=target,
        size=size,
        instances=deployment.instance_count,
    )

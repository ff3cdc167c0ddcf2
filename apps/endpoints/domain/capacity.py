"""What a deployment holds in the ledger of capacity."""

from __future__ import annotations

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.quantities import Size
from apps.endpoints import servers
from apps.endpoints.models import OnlineDeployment


def hold(deployment: OnlineDeployment, *, anew: bool) -> None:
    """Reserve what the deployment asks for now; in the transaction that writes its row.

    `anew`: it gets new replicas, which go where the workspace runs now and have the size the instance type has now.
    Otherwise the replicas it has stay where and as large as they are, only their number changes.
    What serves goes on until the operation has succeeded, so nothing of it is given back before `hold_running`.

    Raises Problem "no-target", "target-unfit", "no-capacity" or "quota".
    """
    workspace = deployment.endpoint.workspace
    held = None if anew else compute.reservation(deployment.owner_key)
    if held is not None:
        target, size = held.target, _size_running(deployment) or compute.size_held(held)
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
        keep=deployment.serving is not None,
    )


def hold_running(deployment: OnlineDeployment) -> None:
    """Hold what serves, once an operation has ended, however; without any, what was asked for stays held."""
    serving, size = deployment.serving, _size_running(deployment)
    if serving is None or size is None:
        return
    serving.refresh_from_db(fields=["desired"])
    there = serving.replicas.exclude(state=ReplicaState.FAILED).count()
    instances = max(serving.desired, there)
    compute.reserve_running(deployment.owner_key, target=serving.driver, size=size, instances=instances)


def _size_running(deployment: OnlineDeployment) -> Size | None:
    spec = deployment.serving.spec if deployment.serving is not None else {}
    return Size(spec["cpu_milli"], spec["mem_bytes"], spec.get("gpus", 0)) if "cpu_milli" in spec else None

"""What a deployment's model servers said."""

from __future__ import annotations

from apps.compute import domain as compute
from apps.compute.models import Replica
from apps.endpoints.models import OnlineDeployment


def server_log(deployment: OnlineDeployment, *, tail: int) -> str:
    """What the deployment's model servers said, one after the other; `tail` lines of each."""
    replicas = Replica.objects.filter(set__owner_key=deployment.owner_key).select_related("set").order_by("set__revision", "index")
    parts = []
    for replica in replicas:
        lines = [f"{line.at:%Y-%m-%dT%H:%M:%S.%f}Z {line.text}" for line in compute.logs(replica, tail=tail)]
        parts.append("\n".join([f"Instance {replica.index} (revision {replica.set.revision}), {replica.state}:", *lines]))
    return "\n\n".join(parts) or "No instance of this deployment has run yet."

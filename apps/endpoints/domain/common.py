"""What every verb does: lock the endpoint, start the operation."""

from __future__ import annotations

from typing import Any

from apps.core import events, operations
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint


def lock_of(endpoint: OnlineEndpoint) -> str:
    """One operation at a time per endpoint (spec 2.3)."""
    return endpoint.topic


def locked(endpoint: OnlineEndpoint) -> OnlineEndpoint:
    """The endpoint as it is now, kept so until the transaction ends. Raises Problem "not-found"."""
    found = (
        OnlineEndpoint.objects.select_for_update(of=("self",))
        .select_related("workspace")
        .filter(pk=endpoint.pk)
        .first()
    )
    if found is None:
        raise Problem("not-found", kind="online endpoint", name=endpoint.name)
    return found


def begin(
    kind: str, endpoint: OnlineEndpoint, actor: Any, *, deployment: OnlineDeployment | None = None, **payload: Any
) -> Operation:
    path = f"onlineEndpoints/{endpoint.name}"
    if deployment is not None:
        path += f"/deployments/{deployment.name}"
        payload["deployment"] = deployment.pk
    events.changed(endpoint.workspace.name, endpoint.topic)
    return operations.start(
        kind,
        workspace=endpoint.workspace.name,
        target=deployment.topic if deployment else endpoint.topic,
        lock=lock_of(endpoint),
        actor=actor,
        payload={"endpoint": endpoint.pk, **payload},
        resource_url=path,
    )

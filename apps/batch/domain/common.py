"""What every verb on batch endpoints and their deployments does: lock the endpoint, start the operation."""

from __future__ import annotations

from typing import Any

from apps.batch.models import BatchDeployment, BatchEndpoint
from apps.core import events, operations
from apps.core.errors import Problem
from apps.core.models import Operation


def locked(endpoint: BatchEndpoint) -> BatchEndpoint:
    """The endpoint as it is now, kept so until the transaction ends. Raises Problem "not-found"."""
    rows = BatchEndpoint.objects.select_for_update(of=("self",)).select_related("workspace")
    found = rows.filter(pk=endpoint.pk).first()
    if found is None:
        raise Problem("not-found", kind="batch endpoint", name=endpoint.name)
    return found


def begin(
    kind: str, endpoint: BatchEndpoint, actor: Any, *, deployment: BatchDeployment | None = None, **payload: Any
) -> Operation:
    """One operation at a time per endpoint (spec 2.3). Raises Problem "busy"."""
    path = f"batchEndpoints/{endpoint.name}"
    if deployment is not None:
        path += f"/deployments/{deployment.name}"
        payload["deployment"] = deployment.pk
    events.changed(endpoint.workspace.name, endpoint.topic)
    return operations.start(
        kind,
        workspace=endpoint.workspace.name,
        target=deployment.topic if deployment else endpoint.topic,
        lock=endpoint.topic,
        actor=actor,
        payload={"endpoint": endpoint.pk, **payload},
        resource_url=path,
    )

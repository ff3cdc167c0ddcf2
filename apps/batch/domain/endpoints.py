"""Verbs on batch endpoints. Each is one transaction: rows, audit record and operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.batch.domain.common import begin, locked
from apps.batch.enums import ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint
from apps.core import limits, states
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.enums import SETTLED
from apps.endpoints.rules import check_name

DEFAULT_FIELD = "properties.defaults.deploymentName"

limits.count_with("endpoints", BatchEndpoint.objects.count)


@dataclass(frozen=True)
class BatchEndpointSpec:
    """What a user says about a batch endpoint; None leaves a field as it is on an update.

    `default_deployment`: a name; empty: no deployment is the default one.
    """

    description: str | None = None
    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    identity: dict[str, Any] | None = None
    default_deployment: str | None = None


@transaction.atomic
def create_endpoint(
    *, workspace: Workspace, name: str, spec: BatchEndpointSpec, actor: Any
) -> tuple[BatchEndpoint, Operation]:
    """Raises Problem "bad-name", "exists", "limit", or "bad-field" for a default deployment: it has none yet."""
    check_name("endpoint", name)
    if BatchEndpoint.objects.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Endpoint", name=name, target="name")
    limits.check_room("endpoints", "endpoints")
    if spec.default_deployment:
        raise _no_deployment(spec.default_deployment, name)
    try:
        with transaction.atomic():
            endpoint = BatchEndpoint.objects.create(
                workspace=workspace,
                name=name,
                description=spec.description or "",
                tags=spec.tags or {},
                properties=spec.properties or {},
                identity=spec.identity or {"type": "SystemAssigned"},
                created_by=actor,
                modified_by=actor,
            )
    except IntegrityError:
        raise Problem("exists", kind="Endpoint", name=name, target="name") from None
    return endpoint, begin("batch-endpoint.create", endpoint, actor)


@transaction.atomic
def update_endpoint(*, endpoint: BatchEndpoint, spec: BatchEndpointSpec, actor: Any) -> Operation:
    """Change what the spec names. Raises Problem "not-found", "busy" or "bad-field"."""
    endpoint = locked(endpoint)
    operation = begin("batch-endpoint.update", endpoint, actor)
    names = ("description", "tags", "properties", "identity")
    values = {name: getattr(spec, name) for name in names if getattr(spec, name) is not None}
    if spec.default_deployment is not None:
        values["default_deployment"] = _default(endpoint, spec.default_deployment)
    values |= {"modified_by": actor, "modified_at": timezone.now()}
    states.move(endpoint, ProvisioningState.UPDATING, expect=SETTLED, **values)
    return operation


def _default(endpoint: BatchEndpoint, name: str) -> BatchDeployment | None:
    if not name:
        return None
    found = endpoint.deployments.filter(name__iexact=name).exclude(state=ProvisioningState.DELETING).first()
    if found is None:
        raise _no_deployment(name, endpoint.name)
    return found


def _no_deployment(name: str, endpoint: str) -> Problem:
    reason = f"endpoint {endpoint} has no deployment {name}"
    return Problem("bad-field", field=DEFAULT_FIELD, reason=reason, target=DEFAULT_FIELD)


@transaction.atomic
def delete_endpoint(*, endpoint: BatchEndpoint, actor: Any) -> Operation:
    """Delete the endpoint with all its deployments; its jobs stay and go on. Raises Problem "not-found" or "busy"."""
    endpoint = locked(endpoint)
    operation = begin("batch-endpoint.delete", endpoint, actor)
    waiting = (ProvisioningState.CREATING, ProvisioningState.DELETING)
    states.move(endpoint, ProvisioningState.DELETING, expect=[*SETTLED, *waiting])
    endpoint.deployments.update(state=ProvisioningState.DELETING)
    return operation

"""Verbs on online endpoints. Each is one transaction: rows, audit record and operation."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.core import audit, limits, states
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.domain.common import begin, locked
from apps.endpoints.domain.specs import EndpointSpec
from apps.endpoints.enums import SETTLED, AuthMode, ProvisioningState
from apps.endpoints.models import OnlineEndpoint
from apps.endpoints.rules import check_name, check_traffic
from apps.gateway import domain as gateway

limits.count_with("endpoints", OnlineEndpoint.objects.count)


@transaction.atomic
def create_endpoint(
    *, workspace: Workspace, name: str, spec: EndpointSpec, actor: Any
) -> tuple[OnlineEndpoint, Operation]:
    """Raises Problem "bad-name", "exists", "limit", "traffic-at-create" or "bad-field"."""
    if spec.traffic or spec.mirror_traffic:
        raise Problem("traffic-at-create", target="traffic")
    endpoint = add_endpoint(workspace, name, spec, actor)
    return endpoint, begin("online-endpoint.create", endpoint, actor)


def add_endpoint(workspace: Workspace, name: str, spec: EndpointSpec, actor: Any) -> OnlineEndpoint:
    """The row of a new endpoint and its keys; the caller starts the operation that makes it reachable."""
    check_name("endpoint", name)
    _check_keys(spec)
    if OnlineEndpoint.objects.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Endpoint", name=name, target="name")
    limits.check_room("endpoints", "endpoints")
    try:
        with transaction.atomic():
            endpoint = OnlineEndpoint.objects.create(
                workspace=workspace,
                name=name,
                description=spec.description or "",
                tags=spec.tags or {},
                properties=spec.properties or {},
                identity=spec.identity or {"type": "SystemAssigned"},
                auth_mode=spec.auth_mode or AuthMode.KEY,
                public_network_access=spec.public_network_access is not False,
                created_by=actor,
                modified_by=actor,
            )
    except IntegrityError:
        raise Problem("exists", kind="Endpoint", name=name, target="name") from None
    gateway.drop_route(name)  # nobody may know a key of this name from an earlier endpoint
    if endpoint.auth_mode == AuthMode.KEY:
        gateway.ensure_keys(name, initial=spec.keys)
    return endpoint


@transaction.atomic
def update_endpoint(
    *, endpoint: OnlineEndpoint, spec: EndpointSpec, actor: Any, if_match: int | None = None
) -> Operation:
    """Change what the spec names. Raises Problem "not-found", "stale", "busy", "bad-field" or a traffic problem."""
    endpoint = locked(endpoint)
    if spec.keys:
        reason = "keys can be given when the endpoint is made; regenerate one to change it"
        raise Problem("bad-field", field="properties.keys", reason=reason, target="properties.keys")
    if if_match is not None and if_match != endpoint.revision:
        raise Problem("stale", subject=f"Endpoint {endpoint.name}")
    operation = begin("online-endpoint.update", endpoint, actor)
    values: dict[str, Any] = {}
    if spec.properties is not None:
        values["properties"] = _added(endpoint.properties, spec.properties)
    if spec.traffic is not None or spec.mirror_traffic is not None:
        values["traffic"], values["mirror_traffic"] = _checked_traffic(endpoint, spec)
    for name in ("description", "tags", "identity", "auth_mode", "public_network_access"):
        if getattr(spec, name) is not None:
            values[name] = getattr(spec, name)
    if values.get("auth_mode") == AuthMode.KEY:
        gateway.ensure_keys(endpoint.name)
    if "traffic" in values:
        record_traffic(endpoint, values["traffic"], values["mirror_traffic"], actor)
    states.move(
        endpoint,
        ProvisioningState.UPDATING,
        expect=SETTLED,
        revision=endpoint.revision + 1,
        modified_by=actor,
        modified_at=timezone.now(),
        **values,
    )
    return operation


def record_traffic(endpoint: OnlineEndpoint, live: dict[str, int], mirror: dict[str, int], actor: Any) -> None:
    """The change of a split, for the audit trail and the history on the traffic page."""
    audit.record(
        actor,
        "online-endpoint.traffic",
        workspace=endpoint.workspace.name,
        target=endpoint.topic,
        before=endpoint.traffic,
        after=live,
        mirror_before=endpoint.mirror_traffic,
        mirror=mirror,
    )


def _check_keys(spec: EndpointSpec) -> None:
    keys = spec.keys or {}
    if keys and (spec.auth_mode or AuthMode.KEY) != AuthMode.KEY:
        reason = "this endpoint does not use keys"
        raise Problem("bad-field", field="properties.keys", reason=reason, target="properties.keys")
    for slot, value in keys.items():
        _check_key(value, f"properties.keys.{slot}Key")


def _check_key(value: str, field: str) -> None:
    if not 16 <= len(value) <= 512:  # noqa: PLR2004 -- what the gateway takes
        raise Problem("bad-field", field=field, reason="a key has 16 to 512 characters", target=field)


def _added(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """`properties` is add-only (spec 2.2)."""
    for key, value in old.items():
        if new.get(key, value) != value:
            raise Problem(
                "bad-field",
                field=f"properties.{key}",
                reason="properties can be added, not changed",
                target="properties",
            )
    return {**old, **new}


def _checked_traffic(endpoint: OnlineEndpoint, spec: EndpointSpec) -> tuple[dict[str, int], dict[str, int]]:
    deployments = {each.name: each for each in endpoint.deployments.all()}
    traffic = endpoint.traffic if spec.traffic is None else spec.traffic
    mirror = endpoint.mirror_traffic if spec.mirror_traffic is None else spec.mirror_traffic
    live, shadow = check_traffic(traffic, mirror, deployments=deployments.keys(), endpoint=endpoint.name)
    for name in (*live, *shadow):
        if deployments[name].serving is None:
            raise Problem("traffic-not-ready", deployment=name, target="traffic")
    return live, shadow


@transaction.atomic
def delete_endpoint(*, endpoint: OnlineEndpoint, actor: Any) -> Operation:
    """Delete the endpoint with all its deployments. Raises Problem "not-found" or "busy"."""
    endpoint = locked(endpoint)
    operation = begin("online-endpoint.delete", endpoint, actor)
    states.move(
        endpoint, ProvisioningState.DELETING, expect=[*SETTLED, ProvisioningState.CREATING, ProvisioningState.DELETING]
    )
    endpoint.deployments.update(state=ProvisioningState.DELETING)
    return operation


def regenerate_key(*, endpoint: OnlineEndpoint, slot: str, value: str | None, actor: Any) -> Operation:
    """A new key for one slot; the other stays. The current key as `value` means "a random one" (wire 3.5).

    Raises:
        Problem: "no-keys" when the endpoint uses tokens, "not-found", "busy", "bad-field" for a key that is too short.
    """
    if endpoint.auth_mode != AuthMode.KEY:
        raise Problem("no-keys", endpoint=endpoint.name)
    if value is not None and value == gateway.keys_of(endpoint.name).get(slot):
        value = None
    if value is not None:
        _check_key(value, "keyValue")
    with transaction.atomic():
        endpoint = locked(endpoint)
        operation = begin("online-endpoint.regenerate-key", endpoint, actor, slot=slot)
        gateway.set_key(endpoint.name, slot, value)
    return operation

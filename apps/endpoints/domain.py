"""Verbs on online endpoints and their deployments. Each is one transaction: rows, audit record and operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.compute import domain as compute
from apps.core import audit, events, limits, operations, states
from apps.core.durations import duration_ms
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import recipes, scripts
from apps.endpoints.enums import SETTLED, AuthMode, ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.endpoints.rules import check_name, check_traffic
from apps.gateway import domain as gateway
from apps.registry.enums import ModelType
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion


@dataclass(frozen=True)
class EndpointSpec:
    """What a user says about an endpoint; None leaves a field as it is on an update."""

    description: str | None = None
    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    identity: dict[str, Any] | None = None
    auth_mode: str | None = None
    public_network_access: bool | None = None
    traffic: dict[str, Any] | None = None
    mirror_traffic: dict[str, Any] | None = None
    keys: dict[str, str] | None = None


@dataclass(frozen=True)
class DeploymentSpec:
    """What a user says about a deployment. Times in milliseconds."""

    model: ModelVersion | None = None
    code: CodeVersion | None = None
    scoring_script: str = ""
    environment: EnvironmentVersion | None = None
    environment_variables: dict[str, str] = field(default_factory=dict)
    model_mount_path: str = ""
    instance_type: str = "small"
    instance_count: int = 1
    request_timeout_ms: int = 5000
    max_concurrent_requests: int = 1
    max_queue_wait_ms: int = 500
    liveness_probe: dict[str, Any] = field(default_factory=dict)
    readiness_probe: dict[str, Any] = field(default_factory=dict)
    egress: bool = True
    app_insights_enabled: bool = False
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


PROBE_MOST = 3_600_000  # of a probe's times (an hour) and of its thresholds
RECIPE_FIELDS = (
    "model",
    "code",
    "scoring_script",
    "environment",
    "environment_variables",
    "model_mount_path",
    "instance_type",
    "max_concurrent_requests",
    "liveness_probe",
)
"""A change of one of these needs new replicas; of the others, only new routes or nothing."""


def lock_of(endpoint: OnlineEndpoint) -> str:
    """One operation at a time per endpoint (spec 2.3)."""
    return endpoint.topic


# ---- endpoints


@transaction.atomic
def create_endpoint(
    *, workspace: Workspace, name: str, spec: EndpointSpec, actor: Any
) -> tuple[OnlineEndpoint, Operation]:
    """Raises Problem "bad-name", "exists", "limit", "traffic-at-create" or "bad-field"."""
    check_name("endpoint", name)
    _check_keys(spec)
    if spec.traffic or spec.mirror_traffic:
        raise Problem("traffic-at-create", target="traffic")
    if OnlineEndpoint.objects.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Endpoint", name=name, target="name")
    if OnlineEndpoint.objects.count() >= (most := limits.get("endpoints")):
        raise Problem("limit", limit=most, what="endpoints")
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
    return endpoint, _start("online-endpoint.create", endpoint, actor)


@transaction.atomic
def update_endpoint(
    *, endpoint: OnlineEndpoint, spec: EndpointSpec, actor: Any, if_match: int | None = None
) -> Operation:
    """Change what the spec names. Raises Problem "not-found", "stale", "busy", "bad-field" or a traffic problem."""
    endpoint = _locked(endpoint)
    if spec.keys:
        reason = "keys can be given when the endpoint is made; regenerate one to change it"
        raise Problem("bad-field", field="properties.keys", reason=reason, target="properties.keys")
    if if_match is not None and if_match != endpoint.revision:
        raise Problem("stale", subject=f"Endpoint {endpoint.name}")
    operation = _start("online-endpoint.update", endpoint, actor)
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
        audit.record(
            actor,
            "online-endpoint.traffic",
            workspace=endpoint.workspace.name,
            target=endpoint.topic,
            before=endpoint.traffic,
            after=values["traffic"],
            mirror=values["mirror_traffic"],
        )
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


def _locked(endpoint: OnlineEndpoint) -> OnlineEndpoint:
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
    endpoint = _locked(endpoint)
    operation = _start("online-endpoint.delete", endpoint, actor)
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
        endpoint = _locked(endpoint)
        operation = _start("online-endpoint.regenerate-key", endpoint, actor, slot=slot)
        gateway.set_key(endpoint.name, slot, value)
    return operation


# ---- deployments


@transaction.atomic
def create_deployment(
    *, endpoint: OnlineEndpoint, name: str, spec: DeploymentSpec, actor: Any
) -> tuple[OnlineDeployment, Operation]:
    """A new deployment with 0 % of the traffic.

    Raises Problem "bad-name", "not-found", "exists", "busy", "limit" or "bad-field".
    """
    check_name("deployment", name)
    _check_spec(spec)
    endpoint = _locked(endpoint)
    if endpoint.deployments.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Deployment", name=f"{endpoint.name}/{name}", target="name")
    _check_limits(endpoint)
    deployment = OnlineDeployment(endpoint=endpoint, name=name, created_by=actor, modified_by=actor)
    _assign(deployment, spec)
    deployment.save()
    return deployment, _start("online-deployment.create", endpoint, actor, deployment=deployment)


@transaction.atomic
def update_deployment(*, deployment: OnlineDeployment, spec: DeploymentSpec, actor: Any) -> Operation:
    """Change a deployment: replicas are replaced one set for the other without a failed request, or only scaled.

    Raises Problem "not-found", "busy", "bad-field", "limit".
    """
    _check_spec(spec)
    endpoint = _locked(deployment.endpoint)
    deployment = _of(endpoint, deployment)
    if spec.egress != deployment.egress:
        raise Problem("bad-field", field="egressPublicNetworkAccess", reason="it cannot be changed after creation")
    before = {name: getattr(deployment, name) for name in RECIPE_FIELDS}
    count = deployment.instance_count
    operation = _start("online-deployment.update", endpoint, actor, deployment=deployment)
    _assign(deployment, spec)
    # the last revision may have failed: asking for it again is asking to try again
    current = deployment.serving is not None and deployment.serving.revision == deployment.revision
    roll = not current or before != {name: getattr(deployment, name) for name in RECIPE_FIELDS}
    only_scale = not roll and count != spec.instance_count
    deployment.state = ProvisioningState.SCALING if only_scale else ProvisioningState.UPDATING
    deployment.revision += 1 if roll else 0
    deployment.modified_by = actor
    deployment.error = None
    deployment.save()
    return operation


def scale_deployment(*, deployment: OnlineDeployment, instance_count: int, actor: Any) -> Operation:
    """Change only the number of instances."""
    return update_deployment(
        deployment=deployment, spec=spec_of(deployment, instance_count=instance_count), actor=actor
    )


@transaction.atomic
def delete_deployment(*, deployment: OnlineDeployment, actor: Any) -> Operation:
    """Raises Problem "has-traffic" while it takes live or mirrored traffic, "not-found" or "busy"."""
    endpoint = _locked(deployment.endpoint)
    deployment = _of(endpoint, deployment)
    for kind, split in (("live", endpoint.traffic), ("mirrored", endpoint.mirror_traffic)):
        if split.get(deployment.name):
            raise Problem("has-traffic", deployment=deployment.name, percent=split[deployment.name], kind=kind)
    operation = _start("online-deployment.delete", endpoint, actor, deployment=deployment)
    OnlineDeployment.objects.filter(pk=deployment.pk).update(state=ProvisioningState.DELETING)
    return operation


def _of(endpoint: OnlineEndpoint, deployment: OnlineDeployment) -> OnlineDeployment:
    """The deployment as it is now, kept so until the transaction ends. Raises Problem "not-found"."""
    rows = endpoint.deployments.select_for_update(of=("self",)).select_related(
        "serving", "model", "code", "environment"
    )
    found = rows.filter(pk=deployment.pk).first()
    if found is None:
        raise Problem("not-found", kind="deployment", name=str(deployment))
    return found


def spec_of(deployment: OnlineDeployment, **changes: Any) -> DeploymentSpec:
    """The deployment as a spec, with some fields changed."""
    names = DeploymentSpec.__dataclass_fields__
    return DeploymentSpec(**{name: getattr(deployment, name) for name in names} | changes)


def _assign(deployment: OnlineDeployment, spec: DeploymentSpec) -> None:
    for name in DeploymentSpec.__dataclass_fields__:
        setattr(deployment, name, getattr(spec, name))


def _check_limits(endpoint: OnlineEndpoint) -> None:
    if endpoint.deployments.count() >= (most := limits.get("deployments_per_endpoint")):
        raise Problem("limit", limit=most, what="deployments of one endpoint")
    if OnlineDeployment.objects.count() >= (most := limits.get("deployments")):
        raise Problem("limit", limit=most, what="deployments")


def _check_spec(spec: DeploymentSpec) -> None:
    timeout = limits.get("request_timeout_ms")
    compute.instance_type(spec.instance_type)
    bounds = [
        ("sku.capacity", spec.instance_count, 1, limits.get("instances_per_deployment")),
        ("requestSettings.requestTimeout", spec.request_timeout_ms, 1, timeout),
        ("requestSettings.maxConcurrentRequestsPerInstance", spec.max_concurrent_requests, 1, 10_000),
        ("requestSettings.maxQueueWait", spec.max_queue_wait_ms, 0, timeout),
    ]
    for name, value, least, most in bounds:
        if not least <= value <= most:
            raise Problem("bad-field", field=name, reason=f"must be {least} to {most}, not {value}", target=name)
    _check_probe("livenessProbe", spec.liveness_probe)
    _check_probe("readinessProbe", spec.readiness_probe)
    recipes.check_variables(spec.environment_variables)
    recipes.check_mount_path(spec.model_mount_path)
    if spec.code is not None or spec.scoring_script:
        scripts.check(spec.code, spec.scoring_script)
        if spec.environment is None:
            raise Problem("environment-needed", target="environmentId")
    elif spec.model is None or spec.model.type != ModelType.MLFLOW:
        reason = "without a scoring script only MLflow models can be deployed on this compute"
        raise Problem("unsupported", what="This deployment", reason=reason, target="codeConfiguration")


def _check_probe(name: str, probe: dict[str, Any]) -> None:
    """A probe's times are added and multiplied later, so they must stay numbers that mean something."""
    times = (("initialDelay", 0), ("period", 1000), ("timeout", 1))
    values = [(each, duration_ms(probe[each], f"{name}.{each}"), least) for each, least in times if probe.get(each)]
    values += [(each, probe[each], 1) for each in ("failureThreshold", "successThreshold") if probe.get(each)]
    for each, value, least in values:
        if not least <= value <= PROBE_MOST:
            reason = f"must be {least} to {PROBE_MOST} (times in milliseconds), not {value}"
            raise Problem("bad-field", field=f"{name}.{each}", reason=reason, target=f"{name}.{each}")


def _start(
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

"""Verbs on online deployments. Each is one transaction: rows, audit record and operation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from apps.builds import contract
from apps.compute import domain as compute
from apps.core import limits
from apps.core.durations import duration_ms
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import preflight, servers
from apps.endpoints.contents import check_package
from apps.endpoints.domain.capacity import hold
from apps.endpoints.domain.common import begin, locked
from apps.endpoints.domain.specs import DeploymentSpec, spec_of
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.endpoints.rules import check_name
from apps.registry import scripts

PROBE_MOST = 3_600_000  # of a probe's times (an hour) and of its thresholds
RECIPE_FIELDS = (
    "model",
    "code",
    "scoring_script",
    "environment",
    "environment_variables",
    "model_mount_path",
    "instance_type",
    "resources",
    "max_concurrent_requests",
    "liveness_probe",
    "readiness_probe",
)
"""A change of one of these needs new replicas; of the others, only new routes or nothing."""
LOOKED_INTO = ("model", "code", "scoring_script", "environment", "properties")
"""A change of one of these is looked at as a new deployment is."""

limits.count_with("deployments", OnlineDeployment.objects.count)


@transaction.atomic
def create_deployment(
    *, endpoint: OnlineEndpoint, name: str, spec: DeploymentSpec, actor: Any
) -> tuple[OnlineDeployment, Operation]:
    """A new deployment with 0 % of the traffic.

    Raises Problem "bad-name", "not-found", "exists", "busy", "limit", "bad-field", or what `capacity.hold` raises.
    """
    check_spec(spec)
    endpoint = locked(endpoint)
    deployment = add_deployment(endpoint, name, spec, actor)
    return deployment, begin("online-deployment.create", endpoint, actor, deployment=deployment)


def add_deployment(endpoint: OnlineEndpoint, name: str, spec: DeploymentSpec, actor: Any) -> OnlineDeployment:
    """The row of a new deployment of a locked endpoint. The caller has checked the spec, and starts the operation."""
    check_name("deployment", name)
    if endpoint.deployments.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Deployment", name=f"{endpoint.name}/{name}", target="name")
    _check_limits(endpoint)
    deployment = OnlineDeployment(endpoint=endpoint, name=name, created_by=actor, modified_by=actor)
    _assign(deployment, spec)
    deployment.save()
    hold(deployment, anew=True)
    return deployment


@transaction.atomic
def update_deployment(
    *, deployment: OnlineDeployment, spec: DeploymentSpec, actor: Any, if_match: datetime | None = None
) -> Operation:
    """Change a deployment: replicas are replaced one set for the other without a failed request, or only scaled.

    `if_match`: the `modified_at` that the caller has seen; somebody else's later change is not written over.

    Raises Problem "not-found", "stale", "busy", "bad-field", "limit", or what `capacity.hold` raises.
    """
    _check_spec(spec, present=deployment.instance_type)
    if any(getattr(spec, field) != getattr(deployment, field) for field in LOOKED_INTO):
        preflight.check(spec)
    endpoint = locked(deployment.endpoint)
    deployment = _of(endpoint, deployment)
    if if_match is not None and if_match != deployment.modified_at:
        raise Problem("stale", subject=f"Deployment {deployment}")
    if spec.egress != deployment.egress:
        raise Problem("bad-field", field="egressPublicNetworkAccess", reason="it cannot be changed after creation")
    before = _runs(deployment)
    count = deployment.instance_count
    operation = begin("online-deployment.update", endpoint, actor, deployment=deployment)
    _assign(deployment, spec)
    # the last revision may have failed: asking for it again is asking to try again
    current = deployment.serving is not None and deployment.serving.revision == deployment.revision
    roll = not current or before != _runs(deployment)
    only_scale = not roll and count != spec.instance_count
    deployment.state = ProvisioningState.SCALING if only_scale else ProvisioningState.UPDATING
    deployment.revision += 1 if roll else 0
    deployment.modified_by = actor
    deployment.error = None
    deployment.save()
    hold(deployment, anew=roll)
    return operation


@transaction.atomic
def scale_deployment(*, deployment: OnlineDeployment, instance_count: int, actor: Any) -> Operation:
    """Change only the number of instances, whatever else was changed meanwhile."""
    present = _of(locked(deployment.endpoint), deployment)
    return update_deployment(deployment=present, spec=spec_of(present, instance_count=instance_count), actor=actor)


@transaction.atomic
def delete_deployment(*, deployment: OnlineDeployment, actor: Any) -> Operation:
    """Raises Problem "has-traffic" while it takes live or mirrored traffic, "not-found" or "busy"."""
    endpoint = locked(deployment.endpoint)
    deployment = _of(endpoint, deployment)
    for kind, split in (("live", endpoint.traffic), ("mirrored", endpoint.mirror_traffic)):
        if split.get(deployment.name):
            raise Problem("has-traffic", deployment=deployment.name, percent=split[deployment.name], kind=kind)
    operation = begin("online-deployment.delete", endpoint, actor, deployment=deployment)
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


def _runs(deployment: OnlineDeployment) -> dict[str, Any]:
    """What its replicas are made of."""
    named = {name: deployment.properties.get(name) for name in servers.PROPERTIES}
    return {name: getattr(deployment, name) for name in RECIPE_FIELDS} | named


def _assign(deployment: OnlineDeployment, spec: DeploymentSpec) -> None:
    for name in DeploymentSpec.__dataclass_fields__:
        setattr(deployment, name, getattr(spec, name))


def _check_limits(endpoint: OnlineEndpoint) -> None:
    if endpoint.deployments.count() >= (most := limits.get("deployments_per_endpoint")):
        raise Problem("limit", limit=most, what="deployments of one endpoint")
    limits.check_room("deployments", "deployments")


def check_spec(spec: DeploymentSpec) -> None:
    """Refuse what no deployment can be; it reads files, so nothing is locked meanwhile.

    Raises Problem "bad-field", "environment-needed", "unsupported", or what `scripts.check` or `preflight.check` raise.
    """
    _check_spec(spec)
    preflight.check(spec)


def _check_spec(spec: DeploymentSpec, *, present: str = "") -> None:
    """`present`: the instance type it has, which it may keep also when nobody else is offered it any more."""
    timeout = limits.get("request_timeout_ms")
    compute.size_of(compute.instance_type(spec.instance_type, also=present), spec.resources)
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
    contract.check_variables(spec.environment_variables)
    contract.check_mount_path(spec.model_mount_path)
    check_package(spec)
    if spec.code is not None or spec.scoring_script:
        scripts.check(spec.code, spec.scoring_script)
        if spec.environment is None:
            raise Problem("environment-needed", target="environmentId")
    servers.check(spec)


def _check_probe(name: str, probe: dict[str, Any]) -> None:
    """A probe's times are added and multiplied later, so they must stay numbers that mean something."""
    times = (("initialDelay", 0), ("period", 1000), ("timeout", 1))
    values = [(each, duration_ms(probe[each], f"{name}.{each}"), least) for each, least in times if probe.get(each)]
    values += [(each, probe[each], 1) for each in ("failureThreshold", "successThreshold") if probe.get(each)]
    for each, value, least in values:
        if not least <= value <= PROBE_MOST:
            reason = f"must be {least} to {PROBE_MOST} (times in milliseconds), not {value}"
            raise Problem("bad-field", field=f"{name}.{each}", reason=reason, target=f"{name}.{each}")

"""What a user says about an endpoint or a deployment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apps.endpoints.models import OnlineDeployment
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
    resources: dict[str, dict[str, str]] = field(default_factory=dict)
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


def spec_of(deployment: OnlineDeployment, **changes: Any) -> DeploymentSpec:
    """The deployment as a spec, with some fields changed."""
    names = DeploymentSpec.__dataclass_fields__
    return DeploymentSpec(**{name: getattr(deployment, name) for name in names} | changes)

"""Verbs on online endpoints and their deployments."""

from apps.endpoints.domain.common import lock_of
from apps.endpoints.domain.deploy import deploy, split_with
from apps.endpoints.domain.deployments import (
    create_deployment,
    delete_deployment,
    scale_deployment,
    update_deployment,
)
from apps.endpoints.domain.endpoints import (
    create_endpoint,
    delete_endpoint,
    record_traffic,
    regenerate_key,
    update_endpoint,
)
from apps.endpoints.domain.specs import DeploymentSpec, EndpointSpec, spec_of

__all__ = [
    "DeploymentSpec",
    "EndpointSpec",
    "create_deployment",
    "create_endpoint",
    "delete_deployment",
    "delete_endpoint",
    "deploy",
    "lock_of",
    "record_traffic",
    "regenerate_key",
    "scale_deployment",
    "spec_of",
    "split_with",
    "update_deployment",
    "update_endpoint",
]

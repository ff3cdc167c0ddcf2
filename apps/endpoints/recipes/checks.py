"""What of a deployment has no effect here."""

from __future__ import annotations

from apps.endpoints.models import OnlineDeployment
from apps.endpoints.servers import Server, server_of

AZURE_QUEUE_WAIT_MS = 500  # what comes when nobody asked for anything


def without_effect(deployment: OnlineDeployment, driver: str) -> list[str]:
    """A sentence for each thing that was asked for and that this compute does not do."""
    found = []
    if set(deployment.readiness_probe) - {"timeout"}:
        found.append("Of readinessProbe, timeout is used: the gateway asks each instance every second.")
    if set(deployment.liveness_probe) - {"period", "failureThreshold"}:
        found.append("Of livenessProbe, period and failureThreshold are used.")
    if deployment.max_queue_wait_ms != AZURE_QUEUE_WAIT_MS:
        found.append("maxQueueWait is not used: what waits, waits until the request timeout.")
    if deployment.app_insights_enabled:
        found.append("appInsightsEnabled is not used: the gateway counts and logs every request.")
    if driver != "docker" and deployment.egress and server_of(deployment) is Server.TRITON:
        found.append("Triton gets no network in a process: others could reach its ports. In a container it would.")
    if driver != "docker" and deployment.environment is not None and deployment.environment.image:
        found.append(f"Image {deployment.environment.image} is not used: process compute runs the packages alone.")
    return found

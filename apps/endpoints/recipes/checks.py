"""What a deployment may say, and what of it has no effect here."""

from __future__ import annotations

from pathlib import PurePosixPath

from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment

AZURE_QUEUE_WAIT_MS = 500  # what comes when nobody asked for anything
OWN_FOLDERS = ("/opt/portway", "/run/s", "/proc", "/dev", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib64")
OURS = ("PORTWAY_", "AZUREML_MODEL_DIR", "AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT")


def check_variables(variables: dict[str, str]) -> None:
    """Raises Problem "bad-field" for a name that cannot be one, and for those our server is told its work by."""
    for name, text in variables.items():
        reason = ""
        if not name or "=" in name or "\x00" in name + text:
            reason = f"{name!r} is not a variable"
        elif name.startswith(OURS):
            reason = f"{name} is Portway's own"
        if reason:
            raise Problem("bad-field", field="environmentVariables", reason=reason, target="environmentVariables")


def check_mount_path(text: str) -> None:
    """Raises Problem "bad-field" for a path that is not plain, or where our own files are."""
    own = any(text == folder or text.startswith(f"{folder}/") for folder in OWN_FOLDERS)
    path = PurePosixPath(text)
    if text and (own or not path.is_absolute() or str(path) != text or ".." in path.parts):
        reason = "must be a plain absolute path without a slash at its end" if not own else "is a folder of Portway's"
        raise Problem("bad-field", field="modelMountPath", reason=f"{text} {reason}", target="modelMountPath")


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
    if driver != "docker" and deployment.environment is not None and deployment.environment.image:
        found.append(f"Image {deployment.environment.image} is not used: process compute runs the packages alone.")
    return found

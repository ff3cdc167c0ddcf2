"""From a deployment's row and its built environment to the recipe of its replicas."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from apps.builds.domain import Runnable
from apps.compute import domain as compute
from apps.compute.domain import Recipe
from apps.core.durations import duration_ms
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.scripts import root_of
from apps.registry import storage
from apps.registry.models import ModelVersion

APP_ROOT = "/var/azureml-app"
MODELS_ROOT = f"{APP_ROOT}/azureml-models"
RUNTIME = "/opt/portway/runtime"
OVERLAY = "/opt/portway/overlay"
AZURE_QUEUE_WAIT_MS = 500  # what comes when nobody asked for anything
OWN_FOLDERS = ("/opt/portway", "/run/s", "/proc", "/dev", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib64")
OURS = ("PORTWAY_", "AZUREML_MODEL_DIR", "AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT")


def build(deployment: OnlineDeployment, runnable: Runnable) -> tuple[Recipe, list[str]]:
    """The recipe, and a sentence for everything that is not quite as asked."""
    instance = compute.instance_type(deployment.instance_type, also=deployment.instance_type)
    size, notes = compute.size_of(instance, deployment.resources)
    mounts = [
        (str(settings.BASE_DIR / "runtime"), RUNTIME),
        (str(runnable.overlay), OVERLAY),
        (str(runnable.path), str(runnable.path)),
    ]
    env = {
        "PORTWAY_OVERLAY": OVERLAY,
        "PORTWAY_MAX_CONCURRENCY": str(deployment.max_concurrent_requests),
        "PORTWAY_SESSION": f"{deployment.name}-{deployment.revision}",
        "SERVICE_NAME": deployment.endpoint.name,
        "SERVICE_VERSION": str(deployment.revision),
        "AML_APP_INSIGHTS_ENABLED": "false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if deployment.model is not None:
        target = model_target(deployment.model, deployment.model_mount_path)
        mounts.append((str(storage.tree_path(deployment.model.tree_id)), target))
        env["AZUREML_MODEL_DIR"] = target
    if deployment.code is not None:
        folder = root_of(deployment.code)
        target = f"{APP_ROOT}/{folder.name if deployment.code.path else 'code'}"
        mounts.append((str(folder), target))
        env["AML_APP_ROOT"] = str(Path(target, deployment.scoring_script).parent)
        env["AZUREML_ENTRY_SCRIPT"] = Path(deployment.scoring_script).name
    elif deployment.model is not None:
        env["PORTWAY_MLFLOW_MODEL"] = str(Path(env["AZUREML_MODEL_DIR"], deployment.model.path))
    env |= deployment.environment_variables  # checked when they were given
    recipe = Recipe(
        argv=(str(runnable.python), f"{RUNTIME}/boot.py"),
        env=env,
        mounts=tuple(mounts),
        cpu_milli=size.cpu_milli,
        mem_bytes=size.mem_bytes,
        gpus=size.gpus,
        egress=deployment.egress,
        start_deadline_s=settings.START_DEADLINE_S,
        liveness_s=liveness_s(deployment.liveness_probe),
        labels={
            **deployment.tags,
            "workspace": deployment.endpoint.workspace.name,
            "endpoint": deployment.endpoint.name,
            "deployment": deployment.name,
        },
    )
    return recipe, notes


def needs_container(deployment: OnlineDeployment) -> bool:
    """Whether only a container can run it: its own server, or an image that says nothing of packages."""
    environment = deployment.environment
    if environment is None:
        return False
    image = bool(environment.image or environment.build_context_id)
    return bool(environment.inference_config) or (image and not environment.source_text)


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
    if text and (own or str(PurePosixPath(text)) != text or ".." in PurePosixPath(text).parts):
        reason = "must be a plain absolute path without a slash at its end" if not own else "is a folder of Portway's"
        raise Problem("bad-field", field="modelMountPath", reason=f"{text} {reason}", target="modelMountPath")


def without_effect(deployment: OnlineDeployment) -> list[str]:
    """A sentence for each thing that was asked for and that this compute does not do."""
    found = []
    if deployment.readiness_probe:
        found.append("readinessProbe is not used: the gateway asks each instance every second.")
    if set(deployment.liveness_probe) - {"period", "failureThreshold"}:
        found.append("Of livenessProbe, period and failureThreshold are used.")
    if deployment.max_queue_wait_ms != AZURE_QUEUE_WAIT_MS:
        found.append("maxQueueWait is not used: what waits, waits until the request timeout.")
    if deployment.app_insights_enabled:
        found.append("appInsightsEnabled is not used: the gateway counts and logs every request.")
    if deployment.environment is not None and deployment.environment.image:
        found.append(f"Image {deployment.environment.image} is not used: process compute runs the packages alone.")
    if deployment.environment is not None and deployment.environment.inference_config:
        found.append("inferenceConfig is not used: process compute runs Portway's own scoring server.")
    return found


def liveness_s(probe: dict[str, Any]) -> float:
    """How long a ready server may be silent: period x failure threshold (defaults of spec 3.2: 10 s x 30)."""
    period = duration_ms(probe["period"]) / 1000 if probe.get("period") else 10.0
    return period * float(probe.get("failureThreshold") or 30)


def model_target(model: ModelVersion, mount_path: str) -> str:
    """Where a model is mounted (spec 6.1 and 6.4): <root>/<name>/<version>."""
    return f"{mount_path or MODELS_ROOT}/{model.asset.name}/{model.version}"

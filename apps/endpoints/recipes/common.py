"""What the recipes of all servers have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from apps.builds.domain import Runnable
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.scripts import root_of
from apps.registry import storage
from apps.registry.models import ModelVersion

APP_ROOT = "/var/azureml-app"
MODELS_ROOT = f"{APP_ROOT}/azureml-models"
RUNTIME = "/opt/portway/runtime"
OVERLAY = "/opt/portway/overlay"


@dataclass
class Parts:
    """A recipe in the making."""

    mounts: list[tuple[str, str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)

    def add_runtime(self, runnable: Runnable) -> str:
        """Our own files and the built packages; the path of the Python that runs them.

        Raises Problem "unsupported" when the image has no Python.
        """
        if runnable.python is None:
            what, reason = (
                "This image",
                "there is no Python 3.10 or newer in it; give its environment an inference_config",
            )
            raise Problem("unsupported", what=what, reason=reason, target="environmentId")
        self.mounts.append((str(settings.HANDOUT.runtime), RUNTIME))
        if runnable.path is not None:
            self.mounts.append((str(runnable.path), str(runnable.path)))
        return str(runnable.python)

    def add_overlay(self, runnable: Runnable) -> None:
        if runnable.overlay is not None:
            self.mounts.append((str(runnable.overlay), OVERLAY))
            self.env["PORTWAY_OVERLAY"] = OVERLAY

    def add_model(self, deployment: OnlineDeployment) -> None:
        if deployment.model is not None:
            target = model_target(deployment.model, deployment.model_mount_path)
            self.mounts.append((str(storage.tree_path(deployment.model.tree_id)), target))
            self.env["AZUREML_MODEL_DIR"] = target

    def add_code(self, deployment: OnlineDeployment) -> None:
        if deployment.code is not None:
            folder = root_of(deployment.code)
            target = f"{APP_ROOT}/{folder.name if deployment.code.path else 'code'}"
            self.mounts.append((str(folder), target))
            self.env["AML_APP_ROOT"] = str(Path(target, deployment.scoring_script).parent)
            self.env["AZUREML_ENTRY_SCRIPT"] = Path(deployment.scoring_script).name


def model_target(model: ModelVersion, mount_path: str) -> str:
    """Where a model is mounted (spec 6.1 and 6.4): <root>/<name>/<version>."""
    return f"{mount_path or MODELS_ROOT}/{model.asset.name}/{model.version}"

"""What a server finds where it runs, however it was started: folders and variables (spec 6.1 and 6.4)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from apps.core.errors import Problem
from apps.registry.models import CodeVersion, ModelVersion
from apps.registry.scripts import root_of

APP_ROOT = "/var/azureml-app"
MODELS_ROOT = f"{APP_ROOT}/azureml-models"
RUNTIME = "/opt/portway/runtime"
OVERLAY = "/opt/portway/overlay"
OWN_FOLDERS = ("/opt/portway", "/run/s", "/proc", "/dev", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib64")
OURS = ("PORTWAY_", "AZUREML_MODEL_DIR", "AML_APP_ROOT", "AZUREML_ENTRY_SCRIPT")


def model_folder(model: ModelVersion, mount_path: str) -> str:
    """Where a model lies: <root>/<name>/<version>."""
    return f"{mount_path or MODELS_ROOT}/{model.asset.name}/{model.version}"


def code_folder(code: CodeVersion) -> str:
    return f"{APP_ROOT}/{root_of(code).name if code.path else 'code'}"


def script_variables(code: CodeVersion, script: str) -> dict[str, str]:
    """How a server learns of its scoring script."""
    return {
        "AML_APP_ROOT": str(Path(code_folder(code), script).parent),
        "AZUREML_ENTRY_SCRIPT": Path(script).name,
    }


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


def check_mount_path(text: str, field: str = "modelMountPath") -> None:
    """Raises Problem "bad-field" for a path that is not plain, or where our own files are."""
    own = any(text == folder or text.startswith(f"{folder}/") for folder in OWN_FOLDERS)
    path = PurePosixPath(text)
    if text and (own or not path.is_absolute() or str(path) != text or ".." in path.parts):
        reason = "must be a plain absolute path without a slash at its end" if not own else "is a folder of Portway's"
        raise Problem("bad-field", field=field, reason=f"{text} {reason}", target=field)

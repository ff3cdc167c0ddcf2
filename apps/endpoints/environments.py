"""Which environment a deployment asks for."""

from __future__ import annotations

from apps.builds.domain import EnvironmentSpec
from apps.builds.versions import spec_of
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.registry import storage

FILES_LIMIT = 1_000_000  # bytes read of a conda.yaml or requirements.txt


def asked_by(deployment: OnlineDeployment) -> EnvironmentSpec:
    """The deployment's environment; for an MLflow model without one, what the model itself declares.

    Raises:
        Problem: "environment-needed".
    """
    environment = deployment.environment
    if environment is None:
        return _of_mlflow_model(deployment)
    return spec_of(environment)


def _of_mlflow_model(deployment: OnlineDeployment) -> EnvironmentSpec:
    if deployment.model is None:
        raise Problem("environment-needed")
    folder = storage.tree_path(deployment.model.tree_id) / deployment.model.path
    for name in ("conda.yaml", "requirements.txt"):
        file = folder / name
        if file.is_file():
            text = file.read_bytes()[:FILES_LIMIT].decode("utf-8", "replace")
            return EnvironmentSpec(conda_file=text) if name == "conda.yaml" else EnvironmentSpec(requirements=text)
    raise Problem("environment-needed")

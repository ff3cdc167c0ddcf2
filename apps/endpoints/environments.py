"""Which environment a deployment asks for, and the one it gets: built, with the server that runs in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.conf import settings

from apps.builds import declared
from apps.builds import domain as builds
from apps.builds.domain import DOCKER, EnvironmentSpec, Runnable
from apps.builds.packaging import image
from apps.builds.versions import spec_of
from apps.core.errors import Problem
from apps.core.operations import Run
from apps.endpoints.contents import contents_of
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.servers import Server, server_of
from apps.registry.models import EnvironmentVersion, ModelVersion

AZUREML_VERSIONS = ("1.5.1", "1.4.1")  # the newest first; each pins other packages, so one may fit where another fails


@dataclass(frozen=True)
class Prepared:
    """A built environment and the server that will run in it."""

    runnable: Runnable
    server: Server


def prepare(run: Run, deployment: OnlineDeployment, *, driver: str) -> Prepared:
    """Build what the deployment asks for, or find it built.

    Raises:
        Problem: what `builds.ensure` raises, "environment-needed".
    """
    server = server_of(deployment)
    package = contents_of(deployment).package
    if package is not None and package.copies and driver == DOCKER:
        return Prepared(image.runnable(package, log=run.log, check=run.check), server)
    spec = asked_by(deployment, driver)
    if server is Server.AZUREML and Server.AZUREML not in _names(spec):
        return _with_azureml(run, spec, driver)
    return Prepared(_built(run, spec, driver), server)


def _built(run: Run, spec: EnvironmentSpec, driver: str) -> Runnable:
    return builds.ensure(spec, driver=driver, log=run.log, check=run.check, operation=run.operation)


def _names(spec: EnvironmentSpec) -> str:
    return f"{spec.conda_file}{spec.requirements}".replace("_", "-").lower()


def _with_azureml(run: Run, spec: EnvironmentSpec, driver: str) -> Prepared:
    """With Microsoft's server in it; where its pins fit none of the user's, with our own server instead, and said."""
    for version in AZUREML_VERSIONS if spec.has_packages else ():
        line = f"{Server.AZUREML}=={version}"
        try:
            return Prepared(_built(run, replace(spec, extra=(line,)), driver), Server.AZUREML)
        except Problem as problem:
            if problem.code != "environment-failed":
                raise
            run.log(f"{line} does not fit these packages: {problem.evidence or problem.message}")
    if not spec.has_packages:  # an image or a Dockerfile brings what it needs, or fails with a line that says so
        return Prepared(_built(run, spec, driver), Server.AZUREML)
    run.log("Portway's own server is used instead: it has the same contract and adds no packages.")
    return Prepared(_built(run, spec, driver), Server.PORTWAY)


def asked_by(deployment: OnlineDeployment, driver: str = "process") -> EnvironmentSpec:
    """The deployment's environment; without one, what a Triton model needs or what an MLflow model itself declares.

    Raises:
        Problem: "environment-needed".
    """
    environment = deployment.environment
    if server_of(deployment) is Server.TRITON:
        return _for_triton(environment, driver)
    if environment is None:
        return of_mlflow_model(deployment.model)
    return spec_of(environment)


def _for_triton(environment: EnvironmentVersion | None, driver: str) -> EnvironmentSpec:
    """An image without packages has a tritonserver of its own; to all else ours is added."""
    if environment is not None:
        spec = spec_of(environment)
    else:
        spec = EnvironmentSpec(image=settings.TRITON_IMAGE if driver != "process" else "")
    return replace(spec, extra=tuple(declared.TRITON.split())) if spec.has_packages else spec


def of_mlflow_model(model: ModelVersion | None) -> EnvironmentSpec:
    found = declared.by_model(model) if model is not None else {}
    if not found:
        raise Problem("environment-needed")
    return EnvironmentSpec(conda_file=found.get("conda_file", ""), requirements=found.get("requirements", ""))

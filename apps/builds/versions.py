"""Environments of the registry as something to build: their spec, their build, and building one ahead of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.builds import history
from apps.builds.domain import DOCKER, EnvironmentSpec, Request, check_driver, translate
from apps.builds.models import Build, Resolution
from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.registry.models import EnvironmentVersion

NO_ENGINE = "this installation has no container engine. Ask the operator to set PORTWAY_DOCKER, or give a conda file."


def spec_of(version: EnvironmentVersion) -> EnvironmentSpec:
    return EnvironmentSpec(
        conda_file=version.conda_file,
        requirements=version.requirements,
        image=version.image,
        context=version.build_context_id or "",
        dockerfile=version.dockerfile_path,
        version=version.pk,
        name=version.asset.name,
    )


def driver_of(spec: EnvironmentSpec) -> str:
    """What an environment is built for when nobody says so: the installation's compute, if that can run it."""
    return DOCKER if spec.needs_container else str(settings.DEFAULT_DRIVER)


@dataclass(frozen=True)
class Outlook:
    """What building a version comes to: the translation or why there is none, and the build it has, if any."""

    request: Request | None
    problem: Problem | None
    build: Build | None

    @property
    def buildable(self) -> bool:
        return self.problem is None

    @property
    def problem_json(self) -> dict[str, Any] | None:
        return self.problem.as_json() if self.problem else None


def outlook(version: EnvironmentVersion) -> Outlook:
    """Asks no index and no engine, and builds nothing. What an image will bring is known once it was built for."""
    spec = spec_of(version)
    driver = driver_of(spec)
    try:
        check_engine(spec, driver)
        request = translate(spec) if spec.has_packages else None
    except Problem as problem:
        return Outlook(None, problem, None)
    if request is None or driver == DOCKER:
        return Outlook(request, None, history.latest_build(version))
    found = Resolution.objects.select_related("build").filter(request_key=request.key).first()
    return Outlook(request, None, found.build if found else None)


def check_engine(spec: EnvironmentSpec, driver: str) -> None:
    """Raises Problem "unsupported" when there is no engine for it."""
    if driver == DOCKER and not settings.DOCKER_URL:
        raise Problem("unsupported", what="A Dockerfile" if spec.context else "An image", reason=NO_ENGINE)


def topic(version: EnvironmentVersion) -> str:
    return f"environment/{version.asset.name}:{version.version}"


@transaction.atomic
def start_build(*, version: EnvironmentVersion, actor: Any, driver: str = "") -> Operation:
    """Build it now, so that the first deployment need not wait.

    `driver`: the kind of compute it is for; by default the installation's, or Docker when only that can run it.
    Raises Problem "unsupported" or "busy".
    """
    spec = spec_of(version)
    driver = driver or driver_of(spec)
    check_driver(spec, driver)
    check_engine(spec, driver)
    workspace = version.asset.workspace.name
    return operations.start(
        "environment.build",
        workspace=workspace,
        target=topic(version),
        lock=f"{workspace}/{topic(version)}",
        actor=actor,
        payload={"environment": version.pk, "driver": driver},
        resource_url=f"environments/{version.asset.name}/versions/{version.version}",
    )

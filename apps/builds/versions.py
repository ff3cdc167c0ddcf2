"""Environments of the registry as something to build: their spec, their build, and building one ahead of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from apps.builds.domain import EnvironmentSpec, Request, translate
from apps.builds.models import Build, Resolution
from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.registry.models import EnvironmentVersion


def spec_of(version: EnvironmentVersion) -> EnvironmentSpec:
    """Raises Problem "unsupported" for environments that need a container engine."""
    if version.build_context_id:
        raise Problem(
            "unsupported", what="A Dockerfile", reason="process compute runs Python environments; give a conda file"
        )
    if not version.conda_file and not version.requirements:
        raise Problem(
            "unsupported",
            what="An environment of only an image",
            reason="process compute needs a conda file or requirements",
        )
    return EnvironmentSpec(conda_file=version.conda_file, requirements=version.requirements)


@dataclass(frozen=True)
class Outlook:
    """What building a version comes to: the translation or why there is none, and the build it has, if any."""

    request: Request | None
    problem: Problem | None
    build: Build | None

    @property
    def problem_json(self) -> dict[str, Any] | None:
        return self.problem.as_json() if self.problem else None


def outlook(version: EnvironmentVersion) -> Outlook:
    """Asks no index and builds nothing."""
    try:
        request = translate(spec_of(version))
    except Problem as problem:
        return Outlook(None, problem, None)
    found = Resolution.objects.select_related("build").filter(request_key=request.key).first()
    return Outlook(request, None, found.build if found else None)


def topic(version: EnvironmentVersion) -> str:
    return f"environment/{version.asset.name}:{version.version}"


@transaction.atomic
def start_build(*, version: EnvironmentVersion, actor: Any) -> Operation:
    """Build it now, so that the first deployment need not wait. Raises Problem "unsupported" or "busy"."""
    spec_of(version)
    workspace = version.asset.workspace.name
    return operations.start(
        "environment.build",
        workspace=workspace,
        target=topic(version),
        lock=f"{workspace}/{topic(version)}",
        actor=actor,
        payload={"environment": version.pk},
        resource_url=f"environments/{version.asset.name}/versions/{version.version}",
    )

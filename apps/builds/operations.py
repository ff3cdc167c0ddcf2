"""Recipes of operations on environments."""

from __future__ import annotations

from apps.builds import domain
from apps.builds.versions import spec_of
from apps.core.errors import Problem
from apps.core.operations import Run, handles
from apps.registry.models import EnvironmentVersion


@handles("environment.build", steps=("environment",), cancelable=True)
def build_environment(run: Run) -> None:
    version = EnvironmentVersion.objects.select_related("asset").filter(pk=run.payload["environment"]).first()
    if version is None:
        raise Problem("not-found", kind="environment", name=run.operation.target)
    with run.step("environment"):
        domain.ensure(spec_of(version), log=run.log, check=run.check)

"""What a deployment serves: its own model, code and environment, or those of the package that it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from apps.builds.models import Package, package_of
from apps.core.errors import Problem
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion


class Served(Protocol):
    """What of a deployment decides: a row, or a spec that is not one yet."""

    @property
    def model(self) -> Any: ...
    @property
    def code(self) -> Any: ...
    @property
    def scoring_script(self) -> str: ...
    @property
    def environment(self) -> Any: ...
    @property
    def environment_variables(self) -> dict[str, str]: ...
    @property
    def model_mount_path(self) -> str: ...
    @property
    def properties(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Contents:
    model: ModelVersion | None
    code: CodeVersion | None
    scoring_script: str
    environment: EnvironmentVersion | None
    environment_variables: dict[str, str]
    model_mount_path: str
    properties: dict[str, str]
    package: Package | None = None


def contents_of(served: Served) -> Contents:
    """With a package, its own; of the variables, those that the deployment sets itself win."""
    package = package_of(served.environment)
    if package is None:
        names = [name for name in Contents.__dataclass_fields__ if name != "package"]
        return Contents(**{name: getattr(served, name) for name in names})
    return Contents(
        model=package.model,
        code=package.code,
        scoring_script=package.scoring_script,
        environment=served.environment,
        environment_variables={**package.environment_variables, **served.environment_variables},
        model_mount_path=package.mount_path,
        properties=served.properties,
        package=package,
    )


def check_package(served: Served) -> None:
    """Raises Problem "bad-field" or "conflict" for a package that is not made yet, or not all that is asked for."""
    package = package_of(served.environment)
    if package is None:
        return
    if package.ready_at is None:
        raise Problem("conflict", reason=f"Package {package} is still being made.", target="environmentId")
    given = {
        "model": served.model,
        "codeConfiguration": served.code or served.scoring_script,
        "modelMountPath": served.model_mount_path,
    }
    for field, value in given.items():
        if value:
            reason = f"{package} is a package, which has its own; leave it out"
            raise Problem("bad-field", field=field, reason=reason, target=field)

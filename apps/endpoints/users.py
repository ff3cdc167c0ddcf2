"""Who keeps a version of an asset from being deleted."""

from __future__ import annotations

from typing import Any

from apps.registry.models import AssetVersion, ComponentVersion, DataVersion, EnvironmentVersion, ModelVersion


def users_of(version: AssetVersion) -> list[str]:
    """The deployments of a model, an environment or code, and the packages and components that have it in them.

    A package has a copy of what its base environment is made of, so that one may go.
    """
    if isinstance(version, DataVersion):
        return []
    row: Any = version
    if isinstance(version, ComponentVersion):
        return [f"component {each}" for each in row.pipelines.select_related("asset")]
    found = [str(each) for each in row.deployments.select_related("endpoint")]
    if not isinstance(version, ModelVersion):
        found += [f"component {each}" for each in row.components.select_related("asset")]
    if not isinstance(version, EnvironmentVersion):
        found += [f"package {each}" for each in row.packages.select_related("environment__asset")]
    return found

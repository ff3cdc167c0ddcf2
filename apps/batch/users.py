"""Who keeps a version of an asset from being deleted: online and batch together."""

from __future__ import annotations

from typing import Any

from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.endpoints import users
from apps.registry.models import AssetVersion, CodeVersion, EnvironmentVersion, ModelVersion

MOST_JOBS = 20  # that are named
FIELDS: dict[type[Any], str] = {ModelVersion: "model", CodeVersion: "code", EnvironmentVersion: "environment"}


def users_of(version: AssetVersion) -> list[str]:
    """The deployments of both kinds, the packages, and the jobs that have not ended."""
    row: Any = version
    found = users.users_of(version)
    if type(version) not in FIELDS:  # what no batch deployment names by itself
        return found
    found += [f"batch deployment {each}" for each in row.batch_deployments.select_related("endpoint")]
    live = Job.objects.filter(state__in=JobState.live(), **{FIELDS[type(version)]: version})
    return found + [f"job {each}" for each in live[:MOST_JOBS]]

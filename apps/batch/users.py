"""Who keeps a version of an asset from being deleted: online and batch together."""

from __future__ import annotations

from itertools import islice
from typing import Any

from apps.batch.enums import JobState, JobType
from apps.batch.models import Job
from apps.endpoints import users
from apps.registry.components import reference_to
from apps.registry.models import (
    AssetVersion,
    CodeVersion,
    ComponentVersion,
    DataVersion,
    EnvironmentVersion,
    ModelVersion,
)

MOST_JOBS = 20  # that are named
FIELDS: dict[type[Any], str] = {ModelVersion: "model", CodeVersion: "code", EnvironmentVersion: "environment"}


def users_of(version: AssetVersion) -> list[str]:
    """The deployments of both kinds, the packages, and the jobs that have not ended."""
    found = users.users_of(version)
    if isinstance(version, DataVersion):
        return found + _readers(version)
    if isinstance(version, ComponentVersion):
        inside = {"settings__parts__has_key": reference_to(version), "workspace": version.asset.workspace}
        live = Job.objects.filter(type=JobType.PIPELINE, state__in=JobState.live(), **inside)
    elif type(version) in FIELDS:
        live = Job.objects.filter(state__in=JobState.live(), **{FIELDS[type(version)]: version})
    else:
        return found
    row: Any = version
    found += [f"batch deployment {each}" for each in row.batch_deployments.select_related("endpoint")]
    return found + [f"job {each}" for each in live[:MOST_JOBS]]


def _readers(version: DataVersion) -> list[str]:
    """Jobs that have not ended and read it; they name it as `domain.given.pinned` wrote it."""
    name = reference_to(version)
    live = Job.objects.filter(workspace=version.asset.workspace, state__in=JobState.live())
    rows = live.values_list("name", "inputs", "settings__pins")
    readers = (
        job
        for job, inputs, pins in rows.iterator(500)
        if name in (pins or {}).values() or any(each.get("uri") == name for each in inputs.values())
    )
    return [f"job {job}" for job in islice(readers, MOST_JOBS)]

"""What callers say of any job, checked: its name, where its files are, what it is called."""

from __future__ import annotations

import re
import uuid
from typing import Any

from apps.accounts.models import Workspace
from apps.batch.domain.specs import JobSpec
from apps.batch.enums import JobState
from apps.batch.models import BatchDeployment, Job
from apps.core import limits
from apps.core.errors import Problem
from apps.registry import components, locations, references
from apps.registry.models import DataVersion

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
BLOBS = "azureml://datastores/workspaceblobstore/paths"


def check_limit(workspace: Workspace) -> None:
    waiting = Job.objects.filter(workspace=workspace, state__in=JobState.live())
    if waiting.count() >= (most := limits.get("jobs_per_workspace")):
        raise Problem("limit", limit=most, what="jobs that have not ended")


def of_deployment(deployment: BatchDeployment) -> dict[str, Any]:
    return {
        "endpoint": deployment.endpoint,
        "deployment": deployment,
        "endpoint_name": deployment.endpoint.name,
        "deployment_name": deployment.name,
    }


def described(spec: JobSpec) -> dict[str, Any]:
    return {
        "name": checked_name(spec.name),
        "display_name": spec.display_name[:255],
        "experiment_name": spec.experiment_name[:255],
        "description": spec.description,
        "tags": spec.tags,
        "properties": spec.properties,
    }


def checked_name(name: str) -> str:
    """The name, or one of our own. Raises Problem "bad-name"."""
    if name and not NAME.fullmatch(name):
        rule = "letters, digits, dashes and underscores; at most 255"
        raise Problem("bad-name", kind="job", name=name, rule=rule, target="name")
    return name or str(uuid.uuid4())


def check_data(workspace: Workspace, given: dict[str, Any], field: str) -> None:
    """That an input of files is there, as far as that can be told at once. Raises Problem."""
    location = locations.resolve(str(given.get("uri") or ""), workspace=workspace, actor=None, field=field)
    kind = location.kind()
    if kind is None:
        raise Problem("input-missing", uri=given["uri"], target=field)
    wanted = {"UriFolder": "folder", "UriFile": "file"}.get(given["type"], kind)
    if kind != wanted:
        raise Problem("bad-field", field=field, reason=f"{given['uri']} is a {kind}, not a {wanted}", target=field)


def pinned(uri: str, workspace: Workspace, field: str) -> str:
    """An address that means the same for as long as the job lives: a data asset by its version. Raises Problem."""
    if references.SHORT_ID.fullmatch(uri) or references.ASSET_ID.fullmatch(uri):
        version = references.find(DataVersion, "data", uri, workspace=workspace, field=field)
        return components.reference_to(version)
    return uri


def output_uri(workspace: Workspace, uri: str, field: str) -> str:
    """Where a job may write. Raises Problem "bad-field" for anything but a path of a datastore."""
    location = locations.resolve(uri, workspace=workspace, actor=None, field=field)
    if location.datastore is None or not location.path:
        raise Problem("bad-field", field=field, reason="must be a path of a datastore", target=field)
    return location.uri

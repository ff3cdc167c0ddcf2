"""How one thing of a workspace names another: ids, `azureml:name:version`, `azureml:name@latest`."""

from __future__ import annotations

import re
from typing import Any

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry.queries import latest

BELOW_WORKSPACE = (
    r"(?:azureml:/?)?/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<rg>[^/]+)"
    r"/providers/microsoft\.machinelearningservices/workspaces/(?P<ws>[^/]+)"
)
ASSET_ID = re.compile(BELOW_WORKSPACE + r"/(?P<kind>[a-z]+)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)", re.IGNORECASE)
RESOURCE_ID = re.compile(BELOW_WORKSPACE + r"/(?P<kind>[a-z]+)/(?P<name>[^/]+)", re.IGNORECASE)
SHORT_ID = re.compile(r"azureml:(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>latest))")
RESOURCE_NAME = re.compile(r"(?:azureml:)?(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,254})")
# what Azure has curated: here the environment of that name in the workspace, if there is one
CURATED = re.compile(
    r"azureml://registries/azureml/(?P<kind>environments)/(?P<name>[^/]+)"
    r"/(?:versions/(?P<version>[^/]+)|labels/(?P<label>latest))",
    re.IGNORECASE,
)


def asset_reference(text: str, *, workspace: Workspace, kind: str, field: str) -> tuple[str, str | None]:
    """(name, version) of an asset id, `azureml:name:version` or `azureml:name@latest`; version None means the newest.

    Raises:
        Problem: "bad-field" for anything else, and for another workspace's asset.
    """
    match = ASSET_ID.fullmatch(text)
    if match is not None and match["kind"].lower() == kind.lower():
        _check_workspace(match["ws"], workspace, field)
        return match["name"], match["version"]
    match = SHORT_ID.fullmatch(text) or CURATED.fullmatch(text)
    if match is None or match.groupdict().get("kind", kind).lower() != kind.lower():
        raise Problem(
            "bad-field", field=field, reason=f"{text!r} is no id of one of the {kind} of this workspace", target=field
        )
    return match["name"], match["version"]


def resource_name(text: str, *, workspace: Workspace, kind: str, field: str) -> str:
    """The name in an id, in `azureml:name` or alone. Raises Problem "bad-field", as `asset_reference` does."""
    match = RESOURCE_ID.fullmatch(text)
    if match is not None and match["kind"].lower() == kind.lower():
        _check_workspace(match["ws"], workspace, field)
        text = match["name"]
    match = RESOURCE_NAME.fullmatch(text)
    if match is None:
        raise Problem("bad-field", field=field, reason=f"{text[:100]!r} names none of the {kind}", target=field)
    return match["name"]


def _check_workspace(name: str, workspace: Workspace, field: str) -> None:
    if name.lower() != workspace.name.lower():
        reason = f"it is in workspace {name}, not in {workspace.name}"
        raise Problem("bad-field", field=field, reason=reason, target=field)


def find(model: type[Any], kind: str, text: str, *, workspace: Workspace, field: str) -> Any:
    """The version that a reference names. Raises Problem "bad-field"."""
    name, version = asset_reference(text, workspace=workspace, kind=kind, field=field)
    rows = model.objects.filter(asset__workspace=workspace, asset__name=name).select_related("asset")
    found = rows.filter(version=version).first() if version else None
    if version is None and (any_version := rows.first()) is not None:
        found = latest(any_version.asset)
    if found is None:
        reason = f"there is no {name}:{version or 'latest'} among the {kind}"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    return found

"""Azure Resource Manager's conventions: ids, durations, resource envelopes (wire 3)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.conf import settings

from apps.accounts.models import Workspace
from apps.core.errors import Problem

PROVIDER = "Microsoft.MachineLearningServices"
ASSET_ID = re.compile(
    r"(?:azureml:/?)?/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<rg>[^/]+)/providers/microsoft\.machinelearningservices"
    r"/workspaces/(?P<ws>[^/]+)/(?P<kind>[a-z]+)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)",
    re.IGNORECASE,
)
SHORT_ID = re.compile(r"azureml:(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>latest))")


def system_data(row: Any) -> dict[str, Any]:
    """Who made and last changed it, and when."""
    maker = getattr(row, "created_by", None)
    changer = getattr(row, "modified_by", None) or maker
    return {
        "createdAt": stamp(row.created_at),
        "createdBy": maker.username if maker else "",
        "createdByType": "User",
        "lastModifiedAt": stamp(getattr(row, "modified_at", row.created_at)),
        "lastModifiedBy": changer.username if changer else "",
        "lastModifiedByType": "User",
    }


def stamp(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def resource(
    workspace: Workspace, path: str, type_: str, row: Any, properties: dict[str, Any], **extra: Any
) -> dict[str, Any]:
    """A resource as ARM shows it; `path` is below the workspace."""
    return {
        "id": f"{workspace.arm_id}/{path}",
        "name": path.rsplit("/", 1)[1],
        "type": f"{PROVIDER}/workspaces/{type_}",
        "systemData": system_data(row),
        **extra,
        "properties": properties,
    }


def operation_url(workspace: Workspace, operation_id: Any) -> str:
    return f"{settings.BASE_URL}{workspace.arm_id}/operations/{operation_id}"


def asset_reference(text: str, *, workspace: Workspace, kind: str, field: str) -> tuple[str, str | None]:
    """(name, version) of an asset id, `azureml:name:version` or `azureml:name@latest`; version None means the newest.

    Raises:
        Problem: "bad-field" for anything else, and for another workspace's asset.
    """
    match = ASSET_ID.fullmatch(text)
    if match is not None and match["kind"].lower() == kind.lower():
        if match["ws"].lower() != workspace.name.lower():
            raise Problem(
                "bad-field",
                field=field,
                reason=f"it is in workspace {match['ws']}, not in {workspace.name}",
                target=field,
            )
        return match["name"], match["version"]
    match = SHORT_ID.fullmatch(text)
    if match is None:
        raise Problem(
            "bad-field", field=field, reason=f"{text!r} is no id of one of the {kind} of this workspace", target=field
        )
    return match["name"], match["version"]

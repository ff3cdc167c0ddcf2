"""Azure Resource Manager's conventions: ids, durations, resource envelopes (wire 3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from apps.accounts.models import Workspace

PROVIDER = "Microsoft.MachineLearningServices"


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

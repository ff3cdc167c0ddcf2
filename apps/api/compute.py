"""What a workspace can choose to run on, and what it uses of its quota."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import arm
from apps.api.online import ANY
from apps.api.views import WorkspaceView, listing
from apps.compute import domain as compute
from apps.compute.domain import Ledger, Line
from apps.compute.models import InstanceType
from apps.compute.quantities import price

USAGES = {
    "cpu_milli": ("cores", "Count"),
    "mem_bytes": ("memory", "Bytes"),
    "gpus": ("gpus", "Count"),
    "instances": ("instances", "Count"),
}


def show_type(row: InstanceType, ledger: Ledger) -> dict[str, Any]:
    """The size as it is here: cut down to the machine. `free`: how many instances of it fit now."""
    size, notes = compute.size_of(row)
    count, reason = ledger.most(row)
    return {
        "name": row.name,
        "properties": {
            "cpu": size.cpu_milli / 1000,
            "memoryBytes": size.mem_bytes,
            "gpus": size.gpus,
            "nominal": {"cpu": row.cpu_milli / 1000, "memoryBytes": row.mem_bytes},
            "notes": notes,
            "isolation": row.isolation or "any",
            "price": {"perHour": price(row.price_hour), "currency": settings.CURRENCY} if row.price_hour else None,
            "free": {"instances": count, "reason": reason},
        },
    }


class InstanceTypes(WorkspaceView):
    """The instance types a deployment of this workspace can name."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        ledger = Ledger(self.workspace)
        return listing(show_type(each, ledger) for each in InstanceType.objects.filter(enabled=True))


def show_usage(workspace: Any, line: Line) -> dict[str, Any]:
    """In the shape of Azure's usages; -1 is no limit."""
    name, unit = USAGES[line.amount]
    part = 1000 if line.amount == "cpu_milli" else 1
    return {
        "id": f"{workspace.arm_id}/usages/{name}",
        "type": f"{arm.PROVIDER}/workspaces/usages",
        "unit": unit,
        "currentValue": _whole(line.used / part),
        "limit": -1 if line.limit is None else _whole(line.limit / part),
        "name": {"value": name, "localizedValue": line.word},
    }


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


class Usages(WorkspaceView):
    """What the deployments of this workspace hold, against its quota."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(show_usage(self.workspace, each) for each in Ledger(self.workspace).quota_lines())

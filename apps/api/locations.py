"""What the SDK asks of a whole subscription: the sizes there are, and what its workspaces use."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.policy import visible_workspaces
from apps.api.compute import show_usage
from apps.api.online import ANY
from apps.api.views import PAGE, listing
from apps.compute import domain as compute
from apps.compute.domain import Ledger
from apps.compute.models import InstanceType
from apps.core.errors import Problem

MOST_WORKSPACES = 100
GIB = 2**30


def show_size(row: InstanceType) -> dict[str, Any]:
    """An instance type as a size of virtual machines."""
    size, _notes = compute.size_of(row)
    return {
        "name": row.name,
        "family": "local",
        "vCPUs": -(-size.cpu_milli // 1000),
        "gpus": size.gpus,
        "memoryGB": round(size.mem_bytes / GIB, 1),
        "lowPriorityCapable": True,
        "premiumIO": False,
        "supportedComputeTypes": ["AmlCompute"],
    }


class Sizes(APIView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(show_size(each) for each in InstanceType.objects.filter(enabled=True)[:PAGE])


class LocationUsages(APIView):
    """Of the subscription's workspaces that the caller may know of; the first hundred."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, subscription: str, **_: Any) -> Response:
        rows = visible_workspaces(request.user).filter(subscription_id__iexact=subscription).order_by("name")
        return listing(
            {**show_usage(each, line), "amlWorkspaceLocation": "local"}
            for each in rows[:MOST_WORKSPACES]
            for line in Ledger(each).quota_lines()
        )


class Unserved(APIView):
    """What is at no other address of Azure's: registries, connections and the like."""

    schema = None  # it is no part of the API's description

    def get(self, request: Request, **_: Any) -> Response:
        raise Problem("not-found", kind="resource", name="at this path")

    def put(self, request: Request, rest: str, **_: Any) -> Response:
        what = rest.rstrip("/").rpartition("/providers/Microsoft.MachineLearningServices/")[2][-200:]
        raise Problem("unsupported", what=what, reason="Portway does not serve it")

    post = patch = delete = put

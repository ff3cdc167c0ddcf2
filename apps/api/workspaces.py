"""Workspaces and operations on the wire."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import Workspace as WorkspaceRow
from apps.accounts.policy import visible_workspaces
from apps.api import arm
from apps.api.views import WorkspaceView, listing, number, one
from apps.core import leases
from apps.core.errors import Problem, envelope
from apps.core.models import Operation as OperationRow
from apps.core.models import OperationState, OperationStep
from apps.endpoints.requests import as_json, find_request

ANY = OpenApiTypes.OBJECT
MOST_TAIL = 10**12
AZURE_STATUS = {
    OperationState.QUEUED: "InProgress",
    OperationState.RUNNING: "InProgress",
    OperationState.SUCCEEDED: "Succeeded",
    OperationState.FAILED: "Failed",
    OperationState.CANCELED: "Canceled",
}


def show_workspace(workspace: WorkspaceRow) -> dict[str, Any]:
    return {
        "id": workspace.arm_id,
        "name": workspace.name,
        "type": f"{arm.PROVIDER}/workspaces",
        "kind": "Default",
        "location": settings.LOCATION,
        "systemData": {"createdAt": arm.stamp(workspace.created_at), "lastModifiedAt": arm.stamp(workspace.created_at)},
        "identity": {"type": "None"},
        "tags": {},
        "properties": {
            "friendlyName": workspace.display_name or workspace.name,
            "description": workspace.description,
            "discoveryUrl": f"{settings.BASE_URL}/discovery",
            "mlFlowTrackingUri": f"{settings.BASE_URL}/mlflow",
            "workspaceId": workspace.name,
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Enabled",
        },
    }


class Workspaces(APIView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, subscription: str | None = None, group: str | None = None) -> Response:
        rows = visible_workspaces(request.user)
        if subscription is not None:
            rows = rows.filter(subscription_id__iexact=subscription)
        if group is not None:
            rows = rows.filter(resource_group__iexact=group)
        return listing(show_workspace(each) for each in rows)


class Workspace(WorkspaceView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return Response(show_workspace(self.workspace))


def show_operation(operation: OperationRow, *, logs: bool = True) -> dict[str, Any]:
    """On the wire; without `logs` as lists show it: a log can have 64 000 characters."""
    shown = {
        "id": str(operation.pk),
        "name": str(operation.pk),
        "status": AZURE_STATUS[OperationState(operation.state)],
        "percentComplete": operation.percent,
        "startTime": arm.stamp(operation.created_at),
        "endTime": arm.stamp(operation.finished_at) if operation.finished_at else None,
        "properties": {
            "kind": operation.kind,
            "target": operation.target,
            "steps": [
                {
                    "name": step.name,
                    "state": step.state,
                    "startTime": arm.stamp(step.started_at),
                    "endTime": arm.stamp(step.finished_at) if step.finished_at else None,
                    **({"log": step.log} if logs else {}),
                }
                for step in operation.steps.all()
            ],
        },
    }
    if operation.error:
        shown["error"] = envelope(operation.error)["error"]
    return shown


class Operations(WorkspaceView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        steps = Prefetch("steps", queryset=OperationStep.objects.defer("log"))
        rows = OperationRow.objects.filter(workspace=self.workspace.name).prefetch_related(steps)[:100]
        return listing(show_operation(each, logs=False) for each in rows)


class Operation(WorkspaceView):
    @extend_schema(responses={200: ANY, 202: None})
    def get(self, request: Request, operation: UUID, **_: Any) -> Response:
        rows = OperationRow.objects.filter(workspace=self.workspace.name, pk=operation).prefetch_related("steps")
        found = one(rows, "operation", str(operation))
        return Response(show_operation(found), headers={"Retry-After": "1"} if found.live else {})


class OperationLog(WorkspaceView):
    """What a step has printed since `offset`; asked again and again with the offset of the answer, it is a tail."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, operation: UUID, **_: Any) -> Response:
        rows = OperationRow.objects.filter(workspace=self.workspace.name, pk=operation)
        found = one(rows, "operation", str(operation))
        offset = number(request.query_params.get("offset") or "0", "offset", most=MOST_TAIL)
        name = request.query_params.get("step", "")
        step = found.steps.filter(**({"name": name} if name else {})).order_by("-position").first()
        if name and step is None:
            raise Problem("not-found", kind="step", name=name)
        start, log = (step.log_start, step.log) if step else (0, "")
        text = log[max(0, offset - start) :]
        return Response(
            {
                "step": step.name if step else None,
                "text": text,
                "offset": max(offset, start + len(log)),
                "omitted": max(0, start - offset),
                "status": AZURE_STATUS[OperationState(found.state)],
            },
            headers={"Retry-After": "1"} if found.live else {},
        )


class RequestSearch(WorkspaceView):
    """What happened to a request, by its x-request-id or the caller's x-ms-client-request-id."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, request_id: str, **_: Any) -> Response:
        with leases.one_search_of(request.user):
            answer = find_request(workspace=self.workspace.name, request_id=request_id)
        if not answer.requests:
            since = f"; looked back to {answer.since:%Y-%m-%dT%H:%M:%SZ}" if answer.since else ""
            raise Problem("not-found", kind="request", name=f"{answer.id} in this workspace{since}")
        return Response(as_json(answer))

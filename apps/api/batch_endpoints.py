"""Batch endpoints on the wire (wire 5.4)."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission
from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.online import ANY, SDK_FOLDED
from apps.api.views import PAGE, WorkspaceView, listing, one
from apps.batch import domain
from apps.batch.domain import BatchEndpointSpec
from apps.batch.models import BatchEndpoint as Row
from apps.core.errors import Problem


def show_endpoint(endpoint: Row) -> dict[str, Any]:
    chosen = endpoint.default_deployment
    properties = {
        "authMode": "AADToken",
        "description": endpoint.description,
        "properties": endpoint.properties,
        "scoringUri": endpoint.scoring_uri,
        "swaggerUri": None,
        "defaults": {"deploymentName": chosen.name if chosen is not None else None},  # users of the SDK set it there
        "provisioningState": endpoint.state,
    }
    return arm.resource(
        endpoint.workspace,
        f"batchEndpoints/{endpoint.name}",
        "batchEndpoints",
        endpoint,
        properties,
        location="local",
        tags=endpoint.tags,
        identity=endpoint.identity or {"type": "SystemAssigned"},
    )


def endpoint_spec(body: dict[str, Any], *, partial: bool) -> BatchEndpointSpec:
    """A PUT names everything but the default deployment, a PATCH only what it changes."""
    given = body.get("properties", {})
    chosen = (given.get("defaults") or {}).get("deploymentName")
    properties = {key: value for key, value in (given.get("properties") or {}).items() if key not in SDK_FOLDED}
    return BatchEndpointSpec(
        description=given.get("description") if partial else given.get("description") or "",
        tags=body.get("tags") if partial else body.get("tags") or {},
        properties=properties if given.get("properties") is not None else None,
        identity=body.get("identity") or None,
        default_deployment=chosen.rpartition("/")[2] if chosen is not None else None,  # the SDK may send an id
    )


class BatchEndpointView(WorkspaceView):
    def endpoints(self) -> Any:
        related = ("workspace", "default_deployment", "created_by", "modified_by")
        return Row.objects.filter(workspace=self.workspace).select_related(*related)

    def endpoint(self, name: str) -> Row:
        found: Row = one(self.endpoints().filter(name__iexact=name), "batch endpoint", name)
        return found


class BatchEndpoints(BatchEndpointView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(show_endpoint(each) for each in self.endpoints()[:PAGE])


class BatchEndpoint(BatchEndpointView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        return Response(show_endpoint(self.endpoint(endpoint)))

    @extend_schema(request=shapes.BatchEndpointBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, endpoint: str, **_: Any) -> Response:
        spec = endpoint_spec(self.valid(shapes.BatchEndpointBody, request.data), partial=False)
        found = self.endpoints().filter(name__iexact=endpoint).first()
        if found is None:
            made, operation = domain.create_endpoint(
                workspace=self.workspace, name=endpoint, spec=spec, actor=request.user
            )
            return self.accepted(operation, body=show_endpoint(made), status=201)
        return self._update(request, found, spec)

    @extend_schema(request=shapes.BatchEndpointPatch, responses=ANY)
    def patch(self, request: Request, endpoint: str, **_: Any) -> Response:
        spec = endpoint_spec(self.valid(shapes.BatchEndpointPatch, request.data), partial=True)
        return self._update(request, self.endpoint(endpoint), spec)

    def _update(self, request: Request, found: Row, spec: BatchEndpointSpec) -> Response:
        operation = domain.update_endpoint(endpoint=found, spec=spec, actor=request.user)
        return self.accepted(operation, body=show_endpoint(self.endpoint(found.name)), status=200)

    @extend_schema(responses={202: None, 204: None})
    def delete(self, request: Request, endpoint: str, **_: Any) -> Response:
        found = self.endpoints().filter(name__iexact=endpoint).first()
        if found is None:
            return Response(status=204)
        return self.accepted(domain.delete_endpoint(endpoint=found, actor=request.user))


class BatchListKeys(BatchEndpointView):
    """There are none: a batch endpoint knows its callers by their token."""

    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.KEYS}

    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, endpoint: str, **_: Any) -> Response:
        raise Problem("no-keys", endpoint=self.endpoint(endpoint).name)

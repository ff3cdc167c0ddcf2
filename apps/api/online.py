"""Online endpoints on the wire (wire 5.1)."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission
from apps.api import arm
from apps.api import serializers as shapes
from apps.api.views import WorkspaceView, listing, number, one
from apps.core import audit
from apps.core.errors import Problem
from apps.endpoints import domain
from apps.endpoints.domain import EndpointSpec
from apps.endpoints.enums import AuthMode
from apps.endpoints.models import OnlineEndpoint
from apps.gateway import domain as gateway

SDK_FOLDED = {"createdBy", "createdAt", "lastModifiedBy", "lastModifiedAt", "createdByType", "lastModifiedByType"}
ANY = OpenApiTypes.OBJECT


def show_endpoint(endpoint: OnlineEndpoint) -> dict[str, Any]:
    properties = {
        "authMode": endpoint.auth_mode,
        "description": endpoint.description,
        "properties": endpoint.properties,
        "scoringUri": endpoint.scoring_uri,
        "swaggerUri": endpoint.swagger_uri,
        "traffic": endpoint.traffic,
        "mirrorTraffic": endpoint.mirror_traffic,
        "publicNetworkAccess": "Enabled" if endpoint.public_network_access else "Disabled",
        "provisioningState": endpoint.state,
    }
    return arm.resource(
        endpoint.workspace,
        f"onlineEndpoints/{endpoint.name}",
        "onlineEndpoints",
        endpoint,
        properties,
        location="local",
        kind="Managed",
        tags=endpoint.tags,
        identity=endpoint.identity or {"type": "SystemAssigned"},
    )


def endpoint_spec(body: dict[str, Any], *, partial: bool) -> EndpointSpec:
    """The domain's words for a parsed body. A PUT names everything, a PATCH only what it changes."""
    given = body.get("properties", {})
    if given.get("compute"):
        raise Problem(
            "unsupported",
            what="A Kubernetes endpoint",
            reason="this installation has no Kubernetes compute",
            target="properties.compute",
        )
    keys = {name.removesuffix("Key").lower(): value for name, value in (given.get("keys") or {}).items() if value}
    access = given.get("publicNetworkAccess")
    properties = {key: value for key, value in (given.get("properties") or {}).items() if key not in SDK_FOLDED}
    return EndpointSpec(
        description=given.get("description") if partial else given.get("description") or "",
        tags=body.get("tags") if partial else body.get("tags") or {},
        properties=properties if "properties" in given else None,
        identity=body.get("identity") or None,
        auth_mode=given.get("authMode") or (None if partial else AuthMode.KEY),
        public_network_access=None if access is None else access == "Enabled",
        traffic=_map(given, "traffic", partial=partial),
        mirror_traffic=_map(given, "mirrorTraffic", partial=partial),
        keys=keys or None,
    )


def _map(given: dict[str, Any], name: str, *, partial: bool) -> dict[str, Any] | None:
    """An absent map changes nothing; an empty one empties it."""
    value = given.get(name)
    return value if value is not None or partial else None


class EndpointView(WorkspaceView):
    def endpoints(self) -> Any:
        return OnlineEndpoint.objects.filter(workspace=self.workspace).select_related(
            "workspace", "created_by", "modified_by"
        )

    def endpoint(self, name: str) -> OnlineEndpoint:
        found: OnlineEndpoint = one(self.endpoints().filter(name__iexact=name), "online endpoint", name)
        return found


class Endpoints(EndpointView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(show_endpoint(each) for each in self.endpoints())


class Endpoint(EndpointView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        found = self.endpoint(endpoint)
        return Response(show_endpoint(found), headers={"ETag": f'"{found.revision}"'})

    @extend_schema(request=shapes.EndpointBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, endpoint: str, **_: Any) -> Response:
        spec = endpoint_spec(self.valid(shapes.EndpointBody, request.data), partial=False)
        found = self.endpoints().filter(name__iexact=endpoint).first()
        if found is None:
            made, operation = domain.create_endpoint(
                workspace=self.workspace, name=endpoint, spec=spec, actor=request.user
            )
            return self.accepted(operation, body=show_endpoint(made), status=201)
        return self._update(request, found, spec)

    @extend_schema(request=shapes.EndpointPatch, responses=ANY)
    def patch(self, request: Request, endpoint: str, **_: Any) -> Response:
        spec = endpoint_spec(self.valid(shapes.EndpointPatch, request.data), partial=True)
        return self._update(request, self.endpoint(endpoint), spec)

    def _update(self, request: Request, found: OnlineEndpoint, spec: EndpointSpec) -> Response:
        operation = domain.update_endpoint(endpoint=found, spec=spec, actor=request.user, if_match=_if_match(request))
        found.refresh_from_db()
        return self.accepted(operation, body=show_endpoint(found), status=200)

    @extend_schema(responses={202: None, 204: None})
    def delete(self, request: Request, endpoint: str, **_: Any) -> Response:
        found = self.endpoints().filter(name__iexact=endpoint).first()
        if found is None:
            return Response(status=204)
        return self.accepted(domain.delete_endpoint(endpoint=found, actor=request.user))


def _if_match(request: Request) -> int | None:
    raw = request.headers.get("If-Match", "").strip('"')
    if not raw or raw == "*":
        return None
    return number(raw, "If-Match", most=2**31 - 1)  # the ETag of a GET


class KeysView(EndpointView):
    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.KEYS}


class ListKeys(KeysView):
    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, endpoint: str, **_: Any) -> Response:
        found = self.endpoint(endpoint)
        if found.auth_mode != AuthMode.KEY:
            raise Problem("no-keys", endpoint=found.name)
        keys = gateway.keys_of(found.name)
        audit.record(request.user, "online-endpoint.list-keys", workspace=self.workspace.name, target=found.topic)
        return Response({"primaryKey": keys.get("primary", ""), "secondaryKey": keys.get("secondary", "")})


class RegenerateKeys(KeysView):
    @extend_schema(request=shapes.RegenerateKeys, responses={202: None})
    def post(self, request: Request, endpoint: str, **_: Any) -> Response:
        body = self.valid(shapes.RegenerateKeys, request.data)
        operation = domain.regenerate_key(
            endpoint=self.endpoint(endpoint),
            slot=body["keyType"].lower(),
            value=body.get("keyValue"),
            actor=request.user,
        )
        return self.accepted(operation)


class Token(KeysView):
    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, endpoint: str, **_: Any) -> Response:
        found = self.endpoint(endpoint)
        if found.auth_mode == AuthMode.KEY:
            raise Problem("no-tokens", endpoint=found.name)
        return Response(gateway.issue_token(found.name, subject=request.user.get_username()))

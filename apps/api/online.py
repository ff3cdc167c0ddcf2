"""Online endpoints and deployments on the wire (wire 5.1, 5.2)."""

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
from apps.core.durations import duration, duration_ms
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec, EndpointSpec
from apps.endpoints.enums import AuthMode
from apps.endpoints.logs import server_log
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import domain as gateway
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion
from apps.registry.queries import latest

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


def show_deployment(deployment: OnlineDeployment) -> dict[str, Any]:
    workspace = deployment.endpoint.workspace
    properties: dict[str, Any] = {
        "endpointComputeType": "Managed",
        "description": deployment.description,
        "model": _asset_id(workspace, "models", deployment.model),
        "modelMountPath": deployment.model_mount_path or None,
        "environmentId": _asset_id(workspace, "environments", deployment.environment),
        "environmentVariables": deployment.environment_variables,
        "instanceType": deployment.instance_type,
        "appInsightsEnabled": deployment.app_insights_enabled,
        "scaleSettings": {"scaleType": "Default"},
        "requestSettings": {
            "requestTimeout": duration(deployment.request_timeout_ms),
            "maxConcurrentRequestsPerInstance": deployment.max_concurrent_requests,
            "maxQueueWait": duration(deployment.max_queue_wait_ms),
        },
        "egressPublicNetworkAccess": "Enabled" if deployment.egress else "Disabled",
        "properties": deployment.properties,
        "provisioningState": deployment.state,
    }
    probes = {"livenessProbe": deployment.liveness_probe, "readinessProbe": deployment.readiness_probe}
    properties |= {name: probe for name, probe in probes.items() if probe}
    if deployment.code is not None:
        properties["codeConfiguration"] = {
            "codeId": _asset_id(workspace, "codes", deployment.code),
            "scoringScript": deployment.scoring_script,
        }
    return arm.resource(
        workspace,
        f"onlineEndpoints/{deployment.endpoint.name}/deployments/{deployment.name}",
        "onlineEndpoints/deployments",
        deployment,
        properties,
        location="local",
        kind="Managed",
        tags=deployment.tags,
        sku={"name": "Default", "tier": "Standard", "capacity": deployment.instance_count},
    )


def _asset_id(workspace: Any, kind: str, version: Any) -> str | None:
    return f"{workspace.arm_id}/{kind}/{version.asset.name}/versions/{version.version}" if version is not None else None


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


class Metrics(EndpointView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        """What the gateway counted per deployment since it started: requests, statuses, latency in milliseconds."""
        return listing(
            _metric(name, values) for name, values in sorted(gateway.counters(self.endpoint(endpoint).name).items())
        )


def _metric(deployment: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "deployment": deployment,
        "requests": {"total": values["requests"], "active": values["active"], "pending": values["pending"]},
        "statuses": {"2xx": values["status_2xx"], "4xx": values["status_4xx"], "5xx": values["status_5xx"]},
        "throttled": values["overflow"],
        "timeouts": values["timeouts"],
        "latencyMs": values["latency"],
        "recentLatencyMs": values["recent"],
        "instances": {"healthy": values["healthy"], "total": values["total"]},
    }


# ---- deployments


class DeploymentView(EndpointView):
    def deployments(self, endpoint: OnlineEndpoint) -> Any:
        related = (
            "endpoint__workspace",
            "model__asset",
            "code__asset",
            "environment__asset",
            "created_by",
            "modified_by",
        )
        return OnlineDeployment.objects.filter(endpoint=endpoint).select_related(*related)

    def deployment(self, endpoint: str, name: str) -> OnlineDeployment:
        rows = self.deployments(self.endpoint(endpoint)).filter(name__iexact=name)
        found: OnlineDeployment = one(rows, "deployment", f"{endpoint}/{name}")
        return found

    def asset(self, model: type[Any], kind: str, text: str | None, field: str) -> Any:
        """The version an id names, in this workspace; None for no id."""
        if not text:
            return None
        name, version = arm.asset_reference(text, workspace=self.workspace, kind=kind, field=field)
        rows = model.objects.filter(asset__workspace=self.workspace, asset__name=name)
        found = rows.filter(version=version).first() if version else None
        if version is None and rows.exists():
            found = latest(rows.first().asset)
        if found is None:
            raise Problem(
                "bad-field",
                field=field,
                reason=f"there is no {name}:{version or 'latest'} among the {kind}",
                target=field,
            )
        return found

    def spec(self, body: dict[str, Any]) -> DeploymentSpec:
        given = body["properties"]
        requests = given.get("requestSettings") or {}
        code = given.get("codeConfiguration") or {}
        values: dict[str, Any] = {
            "model": self.asset(ModelVersion, "models", given.get("model"), "properties.model"),
            "environment": self.asset(
                EnvironmentVersion, "environments", given.get("environmentId"), "properties.environmentId"
            ),
            "code": self.asset(CodeVersion, "codes", code.get("codeId"), "properties.codeConfiguration.codeId"),
            "scoring_script": code.get("scoringScript"),
            "environment_variables": given.get("environmentVariables"),
            "model_mount_path": given.get("modelMountPath"),
            "instance_type": given.get("instanceType"),
            "instance_count": (body.get("sku") or {}).get("capacity"),
            "request_timeout_ms": _milliseconds(requests, "requestTimeout"),
            "max_concurrent_requests": requests.get("maxConcurrentRequestsPerInstance"),
            "max_queue_wait_ms": _milliseconds(requests, "maxQueueWait"),
            "liveness_probe": _probe(given, "livenessProbe"),
            "readiness_probe": _probe(given, "readinessProbe"),
            "egress": None
            if given.get("egressPublicNetworkAccess") is None
            else given["egressPublicNetworkAccess"] == "Enabled",
            "app_insights_enabled": given.get("appInsightsEnabled"),
            "description": given.get("description"),
            "tags": body.get("tags"),
            "properties": given.get("properties"),
        }
        return DeploymentSpec(**{name: value for name, value in values.items() if value is not None})


def _milliseconds(settings: dict[str, Any], name: str) -> int | None:
    text = settings.get(name)
    return None if text is None else duration_ms(text, f"properties.requestSettings.{name}")


def _probe(given: dict[str, Any], name: str) -> dict[str, Any] | None:
    probe = given.get(name)
    if not probe:
        return None
    return {key: value for key, value in probe.items() if value is not None}


class Deployments(DeploymentView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        return listing(show_deployment(each) for each in self.deployments(self.endpoint(endpoint)))


class Deployment(DeploymentView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        return Response(show_deployment(self.deployment(endpoint, deployment)))

    @extend_schema(request=shapes.DeploymentBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        parent = self.endpoint(endpoint)
        spec = self.spec(self.valid(shapes.DeploymentBody, request.data))
        found = self.deployments(parent).filter(name__iexact=deployment).first()
        if found is None:
            made, operation = domain.create_deployment(endpoint=parent, name=deployment, spec=spec, actor=request.user)
            return self.accepted(operation, body=show_deployment(made), status=201)
        operation = domain.update_deployment(deployment=found, spec=spec, actor=request.user)
        return self.accepted(operation, body=show_deployment(self.deployment(endpoint, deployment)), status=200)

    @extend_schema(request=shapes.DeploymentPatch, responses=ANY)
    def patch(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        found = self.deployment(endpoint, deployment)
        body = self.valid(shapes.DeploymentPatch, request.data)
        changes: dict[str, Any] = {}
        if "tags" in body:
            changes["tags"] = body["tags"]
        if (body.get("sku") or {}).get("capacity") is not None:
            changes["instance_count"] = body["sku"]["capacity"]
        operation = domain.update_deployment(
            deployment=found, spec=domain.spec_of(found, **changes), actor=request.user
        )
        return self.accepted(operation, body=show_deployment(self.deployment(endpoint, deployment)), status=200)

    @extend_schema(responses={202: None, 204: None})
    def delete(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        found = self.deployments(self.endpoint(endpoint)).filter(name__iexact=deployment).first()
        if found is None:
            return Response(status=204)
        return self.accepted(domain.delete_deployment(deployment=found, actor=request.user))


class DeploymentLogs(DeploymentView):
    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.READ}

    @extend_schema(request=shapes.LogRequest, responses=ANY)
    def post(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        found = self.deployment(endpoint, deployment)
        body = self.valid(shapes.LogRequest, request.data)
        if body.get("containerType") == "StorageInitializer":
            return Response({"content": _preparation(found)})
        return Response({"content": server_log(found, tail=body.get("tail") or 200)})


def _preparation(deployment: OnlineDeployment) -> str:
    """What was done before the model server started: the environment step of the last operation."""
    workspace = deployment.endpoint.workspace.name  # another one's endpoint may have had the name before
    rows = Operation.objects.filter(target=deployment.topic, workspace=workspace)
    operation = rows.order_by("-created_at").first()
    step = operation.steps.filter(name="environment").first() if operation else None
    return step.log if step else ""


class DeploymentSkus(DeploymentView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        self.deployment(endpoint, deployment)
        capacity = {"minimum": 1, "maximum": 50, "default": 1, "scaleType": "Manual"}
        return listing(
            [
                {
                    "resourceType": f"{arm.PROVIDER}/workspaces/onlineEndpoints/deployments",
                    "sku": {"name": "Default", "tier": "Standard"},
                    "capacity": capacity,
                }
            ]
        )

"""Online deployments on the wire (wire 5.2)."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission
from apps.api import arm
from apps.api import serializers as shapes
from apps.api.online import ANY, EndpointView
from apps.api.references import WithAssets, asset_id
from apps.api.views import WorkspaceView, listing, one
from apps.compute import quantities
from apps.core.durations import duration, duration_ms
from apps.core.models import OperationStep
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec
from apps.endpoints.logs import server_log
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion

NOTHING_SAID = "No instance of this deployment has run yet."
NOTHING_PREPARED = "Nothing had to be prepared: the model, the code and the environment were there already."


def show_deployment(deployment: OnlineDeployment) -> dict[str, Any]:
    workspace = deployment.endpoint.workspace
    properties: dict[str, Any] = {
        "endpointComputeType": "Managed",
        "description": deployment.description,
        "model": asset_id(workspace, "models", deployment.model),
        "modelMountPath": deployment.model_mount_path or None,
        "environmentId": asset_id(workspace, "environments", deployment.environment),
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
    if deployment.resources:
        properties["containerResourceRequirements"] = quantities.as_wire(deployment.resources)
    if deployment.code is not None:
        properties["codeConfiguration"] = {
            "codeId": asset_id(workspace, "codes", deployment.code),
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


class DeploymentView(WithAssets, EndpointView):
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
            "resources": quantities.from_wire(given.get("containerResourceRequirements") or {}),
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
        body = self.valid(shapes.LogRequest, request.data)
        parent = self.endpoint(endpoint)
        row = self.deployments(parent).filter(name__iexact=deployment).first()
        name = row.name if row is not None else deployment
        if body.get("containerType") == "StorageInitializer":
            self.deployment(endpoint, deployment)
            return Response({"content": _preparation(self.workspace.name, f"online-deployment/{parent.name}/{name}")})
        text = server_log(self.workspace.name, parent.name, name, tail=body.get("tail") or 200)
        if not text and row is None:  # neither it nor what it said is left
            self.deployment(endpoint, deployment)
        return Response({"content": text or NOTHING_SAID})


def _preparation(workspace: str, topic: str) -> str:
    """What was done before the model server started: the environment step of the last operation that had one.

    Another workspace's endpoint may have had the name before.
    """
    rows = OperationStep.objects.filter(operation__target=topic, operation__workspace=workspace, name="environment")
    step = rows.order_by("-operation__created_at").first()
    return step.log if step is not None and step.log else NOTHING_PREPARED


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

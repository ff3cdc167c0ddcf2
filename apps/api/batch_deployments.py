"""Batch deployments on the wire (wire 5.5)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.batch_endpoints import BatchEndpointView
from apps.api.clusters import compute_id, find_cluster
from apps.api.online import ANY
from apps.api.references import WithAssets, asset_id
from apps.api.views import PAGE, listing, one
from apps.batch import domain
from apps.batch.domain import BatchDeploymentSpec
from apps.batch.enums import DeploymentType
from apps.batch.models import BatchDeployment as Row
from apps.batch.models import BatchEndpoint
from apps.core.durations import duration, duration_ms
from apps.core.errors import Problem
from apps.registry.models import CodeVersion, ComponentVersion, EnvironmentVersion, ModelVersion

SCALARS = {
    "miniBatchSize": "mini_batch_size",
    "maxConcurrencyPerInstance": "max_concurrency_per_instance",
    "errorThreshold": "error_threshold",
    "outputAction": "output_action",
    "outputFileName": "output_file_name",
    "loggingLevel": "logging_level",
    "environmentVariables": "environment_variables",
    "description": "description",
    "properties": "properties",
}
CONFIGURATION = "properties.deploymentConfiguration"
OWN_SETTINGS = ("component_description", "component_tags")  # of `settings`; the rest is Azure's map


def show_deployment(row: Row) -> dict[str, Any]:
    workspace = row.endpoint.workspace
    properties: dict[str, Any] = {name: getattr(row, field) for name, field in SCALARS.items()}
    properties |= {
        "compute": compute_id(workspace, row.cluster) if row.cluster is not None else None,
        "environmentId": asset_id(workspace, "environments", row.environment),
        "resources": {"instanceCount": row.instance_count, "instanceType": None, "properties": {}},
        "retrySettings": {"maxRetries": row.max_retries, "timeout": duration(row.timeout_ms)},
        "provisioningState": row.state,
    }
    if row.model is not None:
        properties["model"] = {"referenceType": "Id", "assetId": asset_id(workspace, "models", row.model)}
    if row.code is not None:
        code = asset_id(workspace, "codes", row.code)
        properties["codeConfiguration"] = {"codeId": code, "scoringScript": row.scoring_script}
    if row.type == DeploymentType.PIPELINE:
        properties["deploymentConfiguration"] = _configuration(row)
    path = f"batchEndpoints/{row.endpoint.name}/deployments/{row.name}"
    return arm.resource(workspace, path, "batchEndpoints/deployments", row, properties, location="local", tags=row.tags)


def _configuration(row: Row) -> dict[str, Any]:
    settings = row.settings
    component = asset_id(row.endpoint.workspace, "components", row.component)
    return {
        "deploymentConfigurationType": DeploymentType.PIPELINE,
        "componentId": {"referenceType": "Id", "assetId": component},
        "description": settings.get("component_description", ""),
        "tags": settings.get("component_tags", {}),
        "settings": {name: value for name, value in settings.items() if name not in OWN_SETTINGS},
    }


class BatchDeploymentView(WithAssets, BatchEndpointView):
    def deployments(self, endpoint: BatchEndpoint) -> Any:
        assets = ("model__asset", "code__asset", "environment__asset", "component__asset")
        related = ("endpoint__workspace", "cluster", *assets)
        return Row.objects.filter(endpoint=endpoint).select_related(*related, "created_by", "modified_by")

    def deployment(self, endpoint: str, name: str) -> Row:
        rows = self.deployments(self.endpoint(endpoint)).filter(name__iexact=name)
        found: Row = one(rows, "deployment", f"{endpoint}/{name}")
        return found

    def spec(self, body: dict[str, Any]) -> BatchDeploymentSpec:
        given = body["properties"]
        code = given.get("codeConfiguration") or {}
        retries = given.get("retrySettings") or {}
        values: dict[str, Any] = {field: given.get(name) for name, field in SCALARS.items()}
        values |= {
            "model": self.asset(
                ModelVersion, "models", (given.get("model") or {}).get("assetId"), "properties.model.assetId"
            ),
            "environment": self.asset(
                EnvironmentVersion, "environments", given.get("environmentId"), "properties.environmentId"
            ),
            "code": self.asset(CodeVersion, "codes", code.get("codeId"), "properties.codeConfiguration.codeId"),
            "scoring_script": code.get("scoringScript"),
            "instance_count": (given.get("resources") or {}).get("instanceCount"),
            "max_retries": retries.get("maxRetries"),
            "timeout_ms": timeout_ms(retries, "properties.retrySettings.timeout"),
            "tags": body.get("tags"),
            **self._runs(given),
        }
        return BatchDeploymentSpec(**{name: value for name, value in values.items() if value is not None})

    def _runs(self, given: dict[str, Any]) -> dict[str, Any]:
        """Type, compute and, of a pipeline, its component and settings."""
        configuration = given.get("deploymentConfiguration") or {}
        pipeline = configuration.get("deploymentConfigurationType") == DeploymentType.PIPELINE
        settings = configuration.get("settings") or {}
        named, field = given.get("compute"), "properties.compute"
        if pipeline and not named:
            named, field = settings.get("default_compute"), f"{CONFIGURATION}.settings.default_compute"
        cluster = find_cluster(self.workspace, named, field) if named else None
        _check_size(given.get("resources") or {}, cluster)
        if not pipeline:
            return {"cluster": cluster}
        own = {
            "component_description": configuration.get("description") or "",
            "component_tags": configuration.get("tags") or {},
        }
        named = (configuration.get("componentId") or {}).get("assetId")
        component = self.asset(ComponentVersion, "components", named, f"{CONFIGURATION}.componentId.assetId")
        return {
            "cluster": cluster,
            "type": DeploymentType.PIPELINE,
            "component": component,
            "settings": {**settings, **own},
        }


def _check_size(resources: dict[str, Any], cluster: Any) -> None:
    """The size of a node is the cluster's own."""
    named = resources.get("instanceType")
    if named and (cluster is None or named.lower() != cluster.instance_type.lower()):
        field = "properties.resources.instanceType"
        reason = f"nodes are of the cluster's size{f', {cluster.instance_type}' if cluster else ''}; leave it out"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    if resources.get("properties"):
        field = "properties.resources.properties"
        raise Problem("bad-field", field=field, reason="must be empty here", target=field)


def timeout_ms(retries: dict[str, Any], field: str) -> int | None:
    text = retries.get("timeout")
    return None if text is None else duration_ms(text, field)


class BatchDeployments(BatchDeploymentView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        return listing(show_deployment(each) for each in self.deployments(self.endpoint(endpoint))[:PAGE])


class BatchDeployment(BatchDeploymentView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        return Response(show_deployment(self.deployment(endpoint, deployment)))

    @extend_schema(request=shapes.BatchDeploymentBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        parent = self.endpoint(endpoint)
        spec = self.spec(self.valid(shapes.BatchDeploymentBody, request.data))
        found = self.deployments(parent).filter(name__iexact=deployment).first()
        if found is None:
            made, operation = domain.create_deployment(endpoint=parent, name=deployment, spec=spec, actor=request.user)
            return self.accepted(operation, body=show_deployment(made), status=201)
        return self._update(request, found, spec)

    @extend_schema(request=shapes.BatchDeploymentPatch, responses=ANY)
    def patch(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        found = self.deployment(endpoint, deployment)
        body = self.valid(shapes.BatchDeploymentPatch, request.data)
        changes: dict[str, Any] = {"tags": body["tags"]} if "tags" in body else {}
        if (body.get("properties") or {}).get("description") is not None:
            changes["description"] = body["properties"]["description"]
        return self._update(request, found, domain.deployment_spec_of(found, **changes))

    def _update(self, request: Request, found: Row, spec: BatchDeploymentSpec) -> Response:
        operation = domain.update_deployment(deployment=found, spec=spec, actor=request.user)
        shown = show_deployment(self.deployment(found.endpoint.name, found.name))
        return self.accepted(operation, body=shown, status=200)

    @extend_schema(responses={202: None, 204: None})
    def delete(self, request: Request, endpoint: str, deployment: str, **_: Any) -> Response:
        found = self.deployments(self.endpoint(endpoint)).filter(name__iexact=deployment).first()
        if found is None:
            return Response(status=204)
        return self.accepted(domain.delete_deployment(deployment=found, actor=request.user))

"""Model packages on the wire: Azure's PackageRequest and PackageResponse, and packages to take away."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import serializers as shapes
from apps.api.builds import VersionView
from apps.api.references import WithAssets, asset_id
from apps.api.views import WorkspaceView, one
from apps.builds.enums import ModelMode, PackageServer
from apps.builds.models import Package, package_of
from apps.builds.packaging import domain as packaging
from apps.builds.packaging.domain import PackageSpec
from apps.builds.packaging.download import download
from apps.core.errors import Problem
from apps.registry.enums import ModelType
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion

ANY = OpenApiTypes.OBJECT
SERVERS = {
    "AzureMLOnline": PackageServer.AZUREML_ONLINE,
    "Triton": PackageServer.TRITON,
    "Custom": PackageServer.CUSTOM,
}
WIRE_SERVERS = {ours: theirs for theirs, ours in SERVERS.items()}
MODES = {"Download": ModelMode.DOWNLOAD, "Copy": ModelMode.COPY}
WIRE_MODES = {ours: theirs for theirs, ours in MODES.items()}
TARGET = re.compile(
    r"(?:(?:azureml:/?/|/).*/environments/|azureml:)?(?P<name>[^/:@]+)(?:(?:/versions/|:)(?P<version>[^/:@]+))?"
)


class ModelPackage(WithAssets, WorkspaceView):
    """Package a model version: the answer's Location tells what came of it."""

    @extend_schema(request=shapes.PackageBody, responses={202: None})
    def post(self, request: Request, name: str, version: str, **_: Any) -> Response:
        given = self.valid(shapes.PackageBody, request.data)
        rows = ModelVersion.objects.filter(asset__workspace=self.workspace, asset__name=name, version=version)
        model = one(rows.select_related("asset__workspace", "tree"), "model", f"{name}:{version}")
        target, wanted = _target(given)
        made, operation = packaging.package(
            model=model, name=target, version=wanted, spec=self.spec(model, given), actor=request.user
        )
        place = f"environments/{made.asset.name}/versions/{made.version}/package"
        return self.accepted(operation, location=place)

    def spec(self, model: ModelVersion, given: dict[str, Any]) -> PackageSpec:
        server = given["inferencingServer"]
        code = server.get("codeConfiguration") or {}
        base = given.get("baseEnvironmentSource") or {}
        configuration = given.get("modelConfiguration") or {}
        field = "inferencingServer.codeConfiguration.codeId"
        return PackageSpec(
            base=self.asset(
                EnvironmentVersion, "environments", base.get("resourceId"), "baseEnvironmentSource.resourceId"
            ),
            server=_server(model, server),
            code=self.asset(CodeVersion, "codes", code.get("codeId"), field),
            scoring_script=code.get("scoringScript") or "",
            inference_config=server.get("inferenceConfiguration"),
            mode=MODES[configuration.get("mode") or "Download"],
            mount_path=configuration.get("mountPath") or "",
            environment_variables=given.get("environmentVariables") or {},
            description=given.get("description") or "",
            tags=given.get("tags") or {},
        )


def _server(model: ModelVersion, given: dict[str, Any]) -> PackageServer:
    """The SDK writes Custom for its Triton server; a Triton model without routes tells them apart."""
    bare = not (given.get("inferenceConfiguration") or given.get("codeConfiguration"))
    if given["serverType"] == "Custom" and bare and model.type == ModelType.TRITON:
        return PackageServer.TRITON
    return SERVERS[given["serverType"]]


def _target(given: dict[str, Any]) -> tuple[str, str]:
    """(name, version or "") of the environment to make."""
    named, version = given.get("targetEnvironmentName"), given.get("targetEnvironmentVersion") or ""
    if named:
        return named, version
    text = given.get("targetEnvironmentId") or ""
    match = TARGET.fullmatch(text)
    if match is None:
        reason = "names the environment to make" if not text else f"{text!r} is no id of an environment"
        raise Problem("bad-field", field="targetEnvironmentId", reason=reason, target="targetEnvironmentId")
    return match["name"], match["version"] or version


class EnvironmentPackage(VersionView):
    """What a version packages: Azure's PackageResponse."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, version: str, **_: Any) -> Response:
        row = package_of(self.version(name, version))
        if row is None:
            raise Problem("not-found", kind="package", name=f"{name}:{version}")
        return Response(show(row))


class EnvironmentExport(VersionView):
    """A package as a file: `kind` context (.tar.gz to build from), image (what docker load takes) or image.gz."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, name: str, version: str, **_: Any) -> HttpResponseBase:
        kind = request.query_params.get("kind") or "context"
        return download(version=self.version(name, version), kind=kind, actor=request.user)


def show(row: Package) -> dict[str, Any]:
    """A package as PackageResponse."""
    workspace = row.environment.asset.workspace
    server: dict[str, Any] = {"serverType": WIRE_SERVERS[PackageServer(row.server)]}
    if row.code is not None:
        code = asset_id(workspace, "codes", row.code)
        server["codeConfiguration"] = {"codeId": code, "scoringScript": row.scoring_script}
    if row.environment.inference_config:
        server["inferenceConfiguration"] = row.environment.inference_config
    base = None
    if row.base is not None:
        resource = asset_id(workspace, "environments", row.base)
        base = {"baseEnvironmentSourceType": "EnvironmentAsset", "resourceId": resource}
    return {
        "targetEnvironmentId": asset_id(workspace, "environments", row.environment),
        "targetEnvironmentName": row.environment.asset.name,
        "targetEnvironmentVersion": row.environment.version,
        "modelId": asset_id(workspace, "models", row.model),
        "baseEnvironmentSource": base,
        "inferencingServer": server,
        "modelConfiguration": {"mode": WIRE_MODES[ModelMode(row.mode)], "mountPath": row.mount_path or None},
        "environmentVariables": row.environment_variables,
        "buildState": "Succeeded" if row.ready_at else "Running",
        "image": row.image.image if row.image else None,
        "tags": row.environment.tags,
    }

"""Models, environments and code on the wire (wire 5.7)."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Workspace
from apps.api import arm, packages, sas
from apps.api import serializers as shapes
from apps.api.views import PAGE, WorkspaceView, listing, number, one
from apps.batch.users import users_of
from apps.builds.models import package_of
from apps.core.errors import Problem
from apps.registry import blobs, domain, sources, uploads
from apps.registry.models import (
    Code,
    CodeVersion,
    Environment,
    EnvironmentVersion,
    Model,
    ModelVersion,
    Tree,
)
from apps.registry.queries import newest_and_next, with_versions

ANY = OpenApiTypes.OBJECT


class AssetView(WorkspaceView):
    """One kind of asset. Subclasses say how its versions look and how they are made."""

    kind: ClassVar[str]
    label: ClassVar[str]
    series: ClassVar[Any]
    versions: ClassVar[Any]
    body: ClassVar[type[shapes.Strict]]
    related: ClassVar[tuple[str, ...]] = ("asset__workspace", "created_by")

    def assets(self) -> Any:
        rows = self.series.objects.filter(workspace=self.workspace)
        return with_versions(_listed(rows, self.request), self.versions)[:PAGE]

    def asset(self, name: str) -> Any:
        rows = self.series.objects.filter(workspace=self.workspace, name=name).select_related("workspace")
        return one(with_versions(rows, self.versions), self.label, name)

    def version_rows(self, name: str) -> Any:
        rows = self.versions.objects.filter(asset__workspace=self.workspace, asset__name=name)
        return rows.select_related(*self.related)

    def show(self, version: Any) -> dict[str, Any]:
        properties = {
            "description": version.description,
            "tags": version.tags,
            "properties": version.properties,
            "isAnonymous": version.is_anonymous,
            "isArchived": version.is_archived,
            "provisioningState": "Succeeded",
            **self.properties_of(version),
        }
        path = f"{self.kind}/{version.asset.name}/versions/{version.version}"
        return arm.resource(self.workspace, path, f"{self.kind}/versions", version, properties)

    def show_container(self, asset: Any) -> dict[str, Any]:
        newest, following = newest_and_next(asset)
        properties = {
            "description": asset.description,
            "tags": asset.tags,
            "properties": asset.properties,
            "isArchived": asset.is_archived,
            "latestVersion": newest,
            "nextVersion": following,
            "provisioningState": "Succeeded",
        }
        return arm.resource(self.workspace, f"{self.kind}/{asset.name}", self.kind, asset, properties)

    def properties_of(self, version: Any) -> dict[str, Any]:
        raise NotImplementedError

    def register(self, name: str, version: str, given: dict[str, Any], common: dict[str, Any]) -> tuple[Any, bool]:
        raise NotImplementedError


def _listed(rows: Any, request: Request) -> Any:
    """`listViewType` (wire 4): ActiveOnly is the default."""
    view = request.query_params.get("listViewType", "ActiveOnly").lower()
    if view == "all":
        return rows
    return rows.filter(is_archived=view == "archivedonly")


def _common(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that every version has."""
    return {
        "description": given.get("description") or "",
        "tags": given.get("tags") or {},
        "properties": given.get("properties") or {},
        "is_anonymous": given["isAnonymous"],
        "is_archived": given["isArchived"],
    }


class Containers(AssetView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(self.show_container(each) for each in self.assets())


class Container(AssetView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, **_: Any) -> Response:
        return Response(self.show_container(self.asset(name)))

    @extend_schema(request=shapes.ContainerBody, responses=ANY)
    def put(self, request: Request, name: str, **_: Any) -> Response:
        """Describe, tag, archive or restore a whole asset."""
        given = self.valid(shapes.ContainerBody, request.data)["properties"]
        asset = self.asset(name)
        domain.describe_asset(
            asset=asset,
            description=given.get("description") or "",
            tags=given.get("tags") or {},
            properties=given.get("properties") or {},
            is_archived=given["isArchived"],
            actor=request.user,
        )
        return Response(self.show_container(asset))


class Versions(AssetView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, **_: Any) -> Response:
        rows = _listed(self.version_rows(name), request).order_by("-created_at", "-pk")
        if request.query_params.get("hash"):
            hits = self.versions.objects.filter(asset__workspace=self.workspace)
            rows = (
                hits.filter(hash_sha256=request.query_params["hash"]).select_related("asset")
                if self.kind == "codes"
                else rows
            )
        top = request.query_params.get("$top", "")
        return listing(self.show(each) for each in rows[: number(top, "$top", most=PAGE) if top else PAGE])


class Version(AssetView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, version: str, **_: Any) -> Response:
        return Response(
            self.show(one(self.version_rows(name).filter(version=version), self.label, f"{name}:{version}"))
        )

    @extend_schema(responses={200: ANY, 201: ANY})
    def put(self, request: Request, name: str, version: str, **_: Any) -> Response:
        given = self.valid(self.body, request.data)["properties"]
        made, new = self.register(name, version, given, _common(given))
        return Response(self.show(made), status=201 if new else 200)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, name: str, version: str, **_: Any) -> Response:
        found = self.version_rows(name).filter(version=version).first()
        if found is not None:
            domain.delete_version(version=found, actor=request.user, users=users_of(found))
        return Response(status=204)


class ModelKind:
    kind = "models"
    label = "model"
    series = Model
    versions = ModelVersion
    body = shapes.ModelBody
    workspace: Workspace
    request: Request

    def properties_of(self, version: ModelVersion) -> dict[str, Any]:
        return {
            "modelType": version.type,
            "modelUri": version.source or f"portway://models/{version.asset.name}/{version.version}",
            "flavors": {name: {"data": {}} for name in version.flavors},
            "jobName": version.run_id or None,
        }

    def register(self, name: str, version: str, given: dict[str, Any], common: dict[str, Any]) -> tuple[Any, bool]:
        found = ModelVersion.objects.filter(asset__workspace=self.workspace, asset__name=name, version=version).first()
        if found is not None and given["modelUri"] == self.properties_of(found)["modelUri"]:
            source = sources.Source(
                found.tree, found.path, found.source, found.run_id
            )  # a PUT of what GET gave: archive, restore
        else:
            source = sources.resolve(given["modelUri"], workspace=self.workspace, actor=self.request.user)
        return domain.register_model(
            workspace=self.workspace,
            name=name,
            version=version,
            tree=source.tree,
            path=source.path,
            source=source.uri,
            run_id=source.run_id,
            type=given["modelType"],
            actor=self.request.user,
            **common,
        )


class EnvironmentKind:
    kind = "environments"
    label = "environment"
    series = Environment
    versions = EnvironmentVersion
    body = shapes.EnvironmentBody
    related = (
        "asset__workspace",
        "created_by",
        *(f"package__{each}" for each in ("model__asset", "code__asset", "base__asset", "image")),
    )
    workspace: Workspace
    request: Request

    def properties_of(self, version: EnvironmentVersion) -> dict[str, Any]:
        optional = {"condaFile": version.conda_file, "requirements": version.requirements, "image": version.image}
        shown: dict[str, Any] = {key: value for key, value in optional.items() if value}
        if version.build_context_id:
            shown["build"] = {"contextUri": context_uri(version), "dockerfilePath": version.dockerfile_path}
        if version.inference_config:
            shown["inferenceConfig"] = version.inference_config
        package = package_of(version)
        if package is not None:
            shown["modelPackage"] = packages.show(package)
            shown["provisioningState"] = "Succeeded" if package.ready_at else "Creating"
        return {**shown, "osType": version.os_type, "environmentType": "UserCreated"}

    def register(self, name: str, version: str, given: dict[str, Any], common: dict[str, Any]) -> tuple[Any, bool]:
        build = given.get("build") or {}
        return domain.register_environment(
            workspace=self.workspace,
            name=name,
            version=version,
            image=given.get("image") or "",
            conda_file=given.get("condaFile") or "",
            requirements=given.get("requirements") or "",
            build_context=self._context(name, version, build["contextUri"]) if build else None,
            dockerfile_path=build.get("dockerfilePath") or "",
            inference_config=given.get("inferenceConfig"),
            actor=self.request.user,
            **common,
        )

    def _context(self, name: str, version: str, uri: str) -> Tree:
        rows = EnvironmentVersion.objects.filter(asset__workspace=self.workspace, asset__name=name, version=version)
        found = rows.select_related("asset", "build_context").first()
        if found is not None and found.build_context is not None and uri == context_uri(found):
            tree: Tree = found.build_context  # a PUT of what GET gave: archive, restore
            return tree
        return sources.context_of(uri, workspace=self.workspace, actor=self.request.user)


def context_uri(version: EnvironmentVersion) -> str:
    return f"portway://environments/{version.asset.name}/{version.version}"


class CodeKind:
    kind = "codes"
    label = "code"
    series = Code
    versions = CodeVersion
    body = shapes.CodeBody
    workspace: Workspace
    request: Request

    def properties_of(self, version: CodeVersion) -> dict[str, Any]:
        return {"codeUri": f"portway://codes/{version.asset.name}/{version.version}", "properties": _hash_of(version)}

    def register(self, name: str, version: str, given: dict[str, Any], common: dict[str, Any]) -> tuple[Any, bool]:
        source = sources.resolve(given["codeUri"], workspace=self.workspace, actor=self.request.user)
        digest = str((given.get("properties") or {}).get("hash_sha256") or "")
        if digest and not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise Problem(
                "bad-field", field="properties.properties.hash_sha256", reason="must be 64 hexadecimal digits"
            )
        return domain.register_code(
            workspace=self.workspace,
            name=name,
            version=version,
            tree=source.tree,
            path=source.path,
            hash_sha256=digest,
            actor=self.request.user,
            **{**common, "properties": {}},
        )


def _hash_of(version: CodeVersion) -> dict[str, str]:
    return {"hash_sha256": version.hash_sha256, "hash_version": "202208"} if version.hash_sha256 else {}


class PendingUpload(WorkspaceView):
    """Where the SDK may send the files of a code asset (wire 5.7): a container of its own."""

    @extend_schema(request=shapes.PendingUploadBody, responses=ANY)
    def post(self, request: Request, **_: Any) -> Response:
        self.valid(shapes.PendingUploadBody, request.data)
        container = blobs.new_container(self.workspace)
        uri = sas.address(container)
        credential = {"credentialType": "SAS", "sasUri": f"{uri}?{sas.token(container, request.user)}"}
        reference = {"blobUri": uri, "storageAccountArmId": "", "credential": credential}
        kind = "TemporaryBlobReference"
        body = {"pendingUploadId": container.name, "pendingUploadType": kind, "blobReferenceForConsumption": reference}
        return Response(body)


class Uploads(WorkspaceView):
    """Sending files: multipart with one zip as `file`, or any number of `files` named by their relative paths."""

    parser_classes = [MultiPartParser]

    @extend_schema(
        request={
            "multipart/form-data": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
        },
        responses={201: ANY},
    )
    def post(self, request: Request, **_: Any) -> Response:
        upload = uploads.receive(
            workspace=self.workspace,
            archive=request.FILES.get("file"),
            files=request.FILES.getlist("files"),
            paths=request.POST.getlist("paths"),
            actor=request.user,
        )
        return Response({"uri": upload.uri, "files": upload.tree.files, "bytes": upload.tree.size_bytes}, status=201)

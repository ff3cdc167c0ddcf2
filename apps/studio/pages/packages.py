"""Packaging a model, and taking a package to another machine."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, resolve_url

from apps.accounts.policy import Permission
from apps.builds.enums import PackageServer
from apps.builds.packaging import domain as packaging
from apps.builds.packaging.domain import PackageSpec
from apps.builds.packaging.download import download
from apps.core.errors import Problem
from apps.registry.enums import ModelType
from apps.registry.models import ModelVersion
from apps.registry.queries import latest
from apps.studio import ascode_assets
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms import PackageForm, routes_of
from apps.studio.pages.code_files import CodePage
from apps.studio.pages.environments import EnvironmentBase
from apps.studio.pages.models import ModelBase
from apps.studio.views import one

FIELD_OF = {
    "targetEnvironmentName": "name",
    "baseEnvironmentSource": "environment",
    "codeConfiguration": "scoring_script",
    "codeConfiguration.scoringScript": "scoring_script",
    "codeConfiguration.codeId": "code",
    "inferenceConfiguration": "port",
    "modelConfiguration.mountPath": "mount_path",
    "environmentVariables": "environment_variables",
    "serverType": "server",
}


class ModelPackage(ModelBase, CodePage):
    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}
    template = "model_package"
    field_of = FIELD_OF

    def version(self) -> ModelVersion:
        """The version that the address names; never another one instead."""
        return self.exactly(self.request.GET.get("version", ""))

    def choose(self, request: HttpRequest, rows: QuerySet[ModelVersion]) -> ModelVersion | None:
        wanted = request.GET.get("version", "")  # not the form's own field of that name
        if not wanted and request.method != "POST":
            return None
        chosen: ModelVersion = one(rows.filter(version=wanted), "model", f"{self.model.name}:{wanted[:64]}")
        return chosen

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        """Without a version of the newest one, whose address it then has: the form is of just that version."""
        if self.chosen is not None:
            return super().get(request)
        newest = latest(self.model)
        if newest is None:
            raise Problem("not-found", kind="version of the model", name=self.model.name)
        address = resolve_url("studio:model-package", self.workspace.name, self.model.name)
        return redirect(f"{address}?{urlencode({'version': newest.version})}")

    def form(self, data: Any = None, files: Any = None) -> PackageForm:
        triton = self.version().type == ModelType.TRITON
        server = PackageServer.TRITON if triton else PackageServer.AZUREML_ONLINE
        initial = {"name": f"{self.model.name[:240]}-package", "server": server}
        return PackageForm(data, files, workspace=self.workspace, initial=initial)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        upload = self.received_code(data)
        with transaction.atomic():  # a version of the code only if there is a package of it
            spec = PackageSpec(
                base=data["environment"],
                server=data["server"],
                code=self.code_of(upload, f"{self.model.name[:240]}-code") if upload else None,
                scoring_script=data["scoring_script"],
                inference_config=routes_of(data),
                mode=data["mode"],
                mount_path=data["mount_path"],
                environment_variables=data["environment_variables"],
                description=data["description"],
            )
            _made, operation = packaging.package(
                model=self.version(), name=data["name"], version=data["version"], spec=spec, actor=self.request.user
            )
        return self.to_operation(operation)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        files = [each.name for each in data.get("code") or []]
        ascode_assets.package(writer, self.version(), {**data, "files": files, "routes": routes_of(data)})
        return writer.done()


class EnvironmentExport(EnvironmentBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        wanted = request.GET.get("version", "")
        if self.chosen is None or self.chosen.version != wanted:
            raise Problem("not-found", kind="environment", name=f"{self.environment.name}:{wanted}")
        return download(version=self.chosen, kind=request.GET.get("kind", "context"), actor=request.user)

"""Online deployments: create, look, scale, delete."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from apps.accounts.policy import Permission
from apps.compute.models import Replica
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec
from apps.endpoints.models import OnlineDeployment
from apps.registry import uploads
from apps.registry.domain import register_code
from apps.registry.enums import ModelType
from apps.registry.models import CodeVersion
from apps.studio.forms import DeploymentForm, ScaleForm
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.queries import cards, deployments_of
from apps.studio.views import one

HISTORY = 20
PLAIN = ("model", "instance_type", "instance_count", "request_timeout_ms", "max_concurrent_requests")


class DeploymentCreate(EndpointPage):
    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        chosen = request.GET.get("model", "")
        form = DeploymentForm(workspace=self.workspace, initial={"model": int(chosen) if chosen.isdigit() else None})
        return self.page("deployment_create", form=form)

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        form = DeploymentForm(request.POST, request.FILES, workspace=self.workspace)
        if not form.is_valid():
            return self.page("deployment_create", form=form, status=400)
        try:
            operation = self._create(form.cleaned_data)
        except Problem as problem:
            return self.page("deployment_create", form=form, problem=problem)
        return self.to_operation(operation)

    def _create(self, data: dict[str, Any]) -> Operation:
        model = data["model"]
        values = {name: data[name] for name in PLAIN} | {"instance_type": data["instance_type"].name}
        if model is None or model.type != ModelType.MLFLOW or data["code"]:
            values |= {"code": self._code(data), "scoring_script": data["scoring_script"], "environment": data["environment"]}
        actor = self.request.user
        _made, operation = domain.create_deployment(
            endpoint=self.endpoint, name=data["name"], spec=DeploymentSpec(**values), actor=actor
        )
        return operation

    def _code(self, data: dict[str, Any]) -> CodeVersion | None:
        files = data["code"]
        if not files:
            return None
        archive = files[0] if len(files) == 1 and files[0].name.lower().endswith(".zip") else None
        upload = uploads.receive(
            workspace=self.workspace, archive=archive, files=[] if archive else files, paths=[], actor=self.request.user
        )
        version, _new = register_code(
            workspace=self.workspace, name=f"{self.endpoint.name}-{data['name']}", tree=upload.tree, path=upload.path, actor=self.request.user
        )
        return version


class DeploymentPage(EndpointPage):
    permissions: ClassVar = {}
    deployment: OnlineDeployment

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name = kwargs["deployment"]
        self.deployment = one(deployments_of(self.endpoint).filter(name=name), "deployment", f"{self.endpoint.name}/{name}")

    def context(self) -> dict[str, Any]:
        return {**super().context(), "card": cards([self.deployment])[0], "deployment": self.deployment}


class Deployment(DeploymentPage):
    permissions: ClassVar = {"GET": Permission.READ, "POST": Permission.WRITE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page(ScaleForm(initial={"instance_count": self.deployment.instance_count}))

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        """Scale."""
        form = ScaleForm(request.POST)
        if not form.is_valid():
            return self._page(form, status=400)
        try:
            count = form.cleaned_data["instance_count"]
            operation = domain.scale_deployment(deployment=self.deployment, instance_count=count, actor=request.user)
        except Problem as problem:
            return self._page(form, problem=problem)
        return self.to_operation(operation)

    def _page(self, form: ScaleForm, **more: Any) -> HttpResponse:
        replicas = Replica.objects.filter(set__owner_key=self.deployment.owner_key).select_related("set")
        operations = Operation.objects.filter(
            target=self.deployment.topic, workspace=self.workspace.name
        ).select_related("actor")[:HISTORY]
        return self.page("deployment", form=form, replicas=replicas, operations=operations, **more)


class DeploymentDelete(DeploymentPage):
    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("deployment_delete")

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        try:
            if request.POST.get("name", "") != self.deployment.name:
                raise Problem("bad-field", field=_("Name"), reason=_("type the name of the deployment to delete it"))
            operation = domain.delete_deployment(deployment=self.deployment, actor=request.user)
        except Problem as problem:
            return self.page("deployment_delete", problem=problem)
        return self.to_operation(operation)

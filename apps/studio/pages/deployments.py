"""Online deployments: look, scale, delete."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from apps.accounts.policy import Permission
from apps.compute import domain as compute
from apps.compute.models import Replica
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import domain, servers
from apps.endpoints.models import OnlineDeployment
from apps.studio.forms import ScaleForm
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.queries import cards, deployments_of, prices
from apps.studio.views import one

HISTORY = 20


class DeploymentPage(EndpointPage):
    permissions: ClassVar = {}
    deployment: OnlineDeployment

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name = kwargs["deployment"]
        self.deployment = one(
            deployments_of(self.endpoint).filter(name=name),
            "deployment",
            f"{self.endpoint.name}/{name}",
        )

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
            target=self.deployment.topic,
            workspace=self.workspace.name,
        ).select_related("actor")[:HISTORY]
        cost = prices().of(self.deployment)
        more["place"] = compute.label(compute.driver_of(self.deployment.owner_key))
        more["server"] = servers.server_of(self.deployment)
        return self.page("deployment", form=form, replicas=replicas, operations=operations, cost=cost, **more)


class DeploymentDelete(DeploymentPage):
    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("deployment_delete")

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        if request.POST.get("name", "") != self.deployment.name:
            reason = _("type the name of the deployment to delete it")
            return self.page("deployment_delete", problem=Problem("bad-field", field=_("Name"), reason=reason))
        try:
            operation = domain.delete_deployment(deployment=self.deployment, actor=request.user)
        except Problem as problem:
            return self.page("deployment_delete", problem=problem)
        return self.to_operation(operation)

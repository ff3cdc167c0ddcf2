"""Environments: list, create, and one environment with its versions."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.accounts.policy import Permission
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.registry.domain import register_environment
from apps.registry.models import Environment
from apps.studio.forms import EnvironmentForm
from apps.studio.views import Page, one


class Environments(Page):
    section = "environments"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        query = request.GET.get("q", "").strip()
        rows = Environment.objects.filter(workspace=self.workspace, is_archived=False, name__icontains=query)
        counted = rows.annotate(count=Count("versions"), newest=Max("versions__created_at"))
        return self.page("environments", rows=counted, query=query)


class EnvironmentPage(Page):
    section = "environments"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, environment: str, **_: Any) -> HttpResponse:
        found = one(Environment.objects.filter(workspace=self.workspace, name=environment), "environment", environment)
        versions = list(found.versions.select_related("created_by", "asset"))
        wanted = request.GET.get("version", "")
        chosen = next((each for each in versions if each.version == wanted), versions[0] if versions else None)
        deployed = OnlineDeployment.objects.filter(environment__asset=found, endpoint__workspace=self.workspace)
        return self.page(
            "environment", environment=found, versions=versions, chosen=chosen, deployed=deployed.select_related("endpoint", "environment")
        )


class EnvironmentCreate(Page):
    section = "environments"
    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("environment_create", form=EnvironmentForm())

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        form = EnvironmentForm(request.POST)
        if not form.is_valid():
            return self.page("environment_create", form=form, status=400)
        data = form.cleaned_data
        try:
            version, _new = register_environment(
                workspace=self.workspace,
                name=data["name"],
                version=data["version"] or None,
                conda_file=data["conda_file"],
                description=data["description"],
                actor=request.user,
            )
        except Problem as problem:
            return self.page("environment_create", form=form, problem=problem)
        return redirect("studio:environment", self.workspace.name, version.asset.name)

"""The way in: what runs, what failed, what happened lately; first steps while there is nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, visible_workspaces
from apps.core.models import Operation, OperationState
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment
from apps.registry.models import Model
from apps.registry.queries import failed_imports
from apps.studio.queries import cards, endpoints_of
from apps.studio.views import Page, SignedIn

SHOWN = 8
RECENT = timedelta(days=1)


class Home(SignedIn):
    def get(self, request: HttpRequest) -> HttpResponse:
        first = visible_workspaces(request.user).first()
        if first is None:
            return self.page("no_workspace")
        return redirect("studio:workspace", first.name)


class WorkspaceHome(Page):
    section = "home"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        workspace = self.workspace
        deployments = cards(OnlineDeployment.objects.filter(endpoint__workspace=workspace).select_related("endpoint"))
        operations = Operation.objects.filter(workspace=workspace.name).select_related("actor")
        return self.page(
            "home",
            facts=_facts(workspace, deployments),
            failing=[each for each in deployments if each.tone in {"failed", "degraded"}][:SHOWN],
            failed=operations.filter(state=OperationState.FAILED, created_at__gt=timezone.now() - RECENT)[:SHOWN],
            imports=failed_imports(workspace)[:SHOWN],
            running=operations.filter(state__in=OperationState.live())[:SHOWN],
            recent=operations[:SHOWN],
            endpoints=endpoints_of(workspace).exclude(traffic={}).order_by("-modified_at")[:SHOWN],
        )


def _facts(workspace: Workspace, deployments: list[Any]) -> dict[str, int]:
    serving = [each for each in deployments if each.ready]
    return {
        "endpoints": endpoints_of(workspace).count(),
        "models": Model.objects.filter(workspace=workspace, is_archived=False).count(),
        "deployments": len(deployments),
        "serving": len(serving),
        "instances": sum(each.ready for each in deployments),
        "creating": sum(each.deployment.state == ProvisioningState.CREATING for each in deployments),
    }

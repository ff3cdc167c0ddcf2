"""The way in: what runs, what failed, what happened lately; first steps while there is nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, visible_workspaces
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.core.models import Operation, OperationState
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment
from apps.monitoring.queries import summary
from apps.registry.models import Model
from apps.registry.queries import failed_imports
from apps.studio.jobs import jobs_of
from apps.studio.queries import Card, cards, endpoints_of
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
        deployments = OnlineDeployment.objects.filter(endpoint__workspace=workspace)
        operations = Operation.objects.filter(workspace=workspace.name).select_related("actor")
        busy = list(endpoints_of(workspace).exclude(traffic={}).order_by("-modified_at")[:SHOWN])
        recent = summary([each.pk for each in busy])
        return self.page(
            "home",
            facts=_facts(workspace, deployments),
            failing=_failing(deployments),
            failed=operations.filter(state=OperationState.FAILED, created_at__gt=timezone.now() - RECENT)[:SHOWN],
            imports=failed_imports(workspace)[:SHOWN],
            running=operations.filter(state__in=OperationState.live())[:SHOWN],
            recent=operations[:SHOWN],
            endpoints=[(each, recent[each.pk]) for each in busy],
            jobs=_jobs(workspace),
        )


def _facts(workspace: Workspace, deployments: QuerySet[OnlineDeployment]) -> dict[str, int]:
    ready = Replica.objects.filter(
        state=ReplicaState.READY, set__in=deployments.exclude(serving=None).values("serving")
    )
    return {
        "endpoints": endpoints_of(workspace).count(),
        "models": Model.objects.filter(workspace=workspace, is_archived=False).count(),
        "deployments": deployments.count(),
        "serving": ready.values("set").distinct().count(),
        "instances": ready.count(),
    }


def _jobs(workspace: Workspace) -> list[Job]:
    """Those that run or wait, and those that failed lately."""
    failed = Q(state=JobState.FAILED, ended_at__gt=timezone.now() - RECENT)
    rows = jobs_of(workspace).filter(Q(state__in=JobState.live()) | failed, parent=None, is_archived=False)
    return list(rows.order_by("-created_at")[:SHOWN])


def _failing(deployments: QuerySet[OnlineDeployment]) -> list[Card]:
    """Those that failed lately, and those that serve with fewer instances than they should."""
    failed = deployments.filter(state=ProvisioningState.FAILED).order_by("-modified_at")[:SHOWN]
    up = Count("serving__replicas", filter=Q(serving__replicas__state=ReplicaState.READY))
    short = deployments.filter(state=ProvisioningState.SUCCEEDED, serving__isnull=False).annotate(up=up)
    keys = [
        *(each.pk for each in failed),
        *short.filter(up__lt=F("instance_count")).values_list("pk", flat=True)[:SHOWN],
    ]
    return cards(OnlineDeployment.objects.filter(pk__in=keys).select_related("endpoint"))

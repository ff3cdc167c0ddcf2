"""The timeline of any operation, addressable by its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch.models import BatchDeployment, BatchEndpoint
from apps.core import operations
from apps.core.models import Operation, OperationState, OperationStep, StepState
from apps.core.words import kinds_called
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import Page, one

LOG_TAIL = 200


@dataclass(frozen=True)
class Step:
    """A step of the recipe, whether it has begun or not."""

    name: str
    row: OperationStep | None

    @property
    def tone(self) -> str:
        if self.row is None:
            return "idle"
        return {StepState.RUNNING: "running", StepState.DONE: "ok", StepState.FAILED: "failed"}[
            StepState(self.row.state)
        ]

    @property
    def open(self) -> bool:
        return self.tone in {"running", "failed"}

    @property
    def took(self) -> float | None:
        return elapsed(self.row.started_at, self.row.finished_at) if self.row else None

    @property
    def log(self) -> str:
        return "\n".join(self.row.log.splitlines()[-LOG_TAIL:]) if self.row else ""


def elapsed(start: datetime | None, end: datetime | None) -> float | None:
    return ((end or timezone.now()) - start).total_seconds() if start else None


COLUMNS = (
    Column(_lazy("Operation"), "kind"),
    Column(_lazy("State"), "state"),
    Column(_lazy("Object"), "target"),
    Column(_lazy("By"), kind="fold"),
    Column(_lazy("Started"), "created_at"),
)


class Operations(Page):
    """Every operation of the workspace, the newest first."""

    section = "operations"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Operation.objects.filter(workspace=self.workspace.name).select_related("actor")
        query, state = query_of(request), request.GET.get("state", "")
        if query:
            rows = rows.filter(Q(target__icontains=query) | Q(kind__icontains=query) | Q(kind__in=kinds_called(query)))
        if state in OperationState.values:
            rows = rows.filter(state=state)
        listed = listing(request, rows, COLUMNS, default="-created_at", states=OperationState.choices)
        return self.page("operations", listing=listed)


class OperationPage(Page):
    section = "operations"
    permissions: ClassVar = {}
    operation: Operation

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        rows = Operation.objects.filter(pk=kwargs["operation"], workspace=self.workspace.name).select_related("actor")
        self.operation = one(rows, "operation", str(kwargs["operation"]))


class Timeline(OperationPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = {step.name: step for step in self.operation.steps.all()}
        names = operations.steps_of(self.operation.kind) if self.operation.kind in operations.kinds() else tuple(rows)
        steps = [Step(name, rows.get(name)) for name in names]
        took = elapsed(self.operation.started_at, self.operation.finished_at)
        return self.page(
            "operation",
            operation=self.operation,
            can_cancel=operations.can_cancel(self.operation),
            operation_topic=f"operation:{self.operation.pk}",
            steps=steps,
            has_log=any(step.log for step in steps),
            took=took,
            **self._of(),
        )

    def _of(self) -> dict[str, Any]:
        """What it is about, while that is there. Keys of online and batch things are not each other's."""
        if self.operation.kind.startswith("batch-"):
            endpoints: Any = BatchEndpoint.objects
            deployments: Any = BatchDeployment.objects
            name = "batch_endpoint"
        else:
            endpoints, deployments, name = OnlineEndpoint.objects, OnlineDeployment.objects, "endpoint"
        payload = self.operation.payload
        endpoint = endpoints.filter(pk=payload.get("endpoint"), workspace=self.workspace).first()
        deployment = deployments.filter(pk=payload.get("deployment"), endpoint=endpoint).first() if endpoint else None
        return {name: endpoint, "deployment": deployment}


class Log(OperationPage):
    """Every step's log as one text file, whole."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        steps = self.operation.steps.all()
        parts = [f"== {each.name}: {each.state}\n{each.log}" for each in steps]
        name = f"{self.operation.kind}-{str(self.operation.pk)[:8]}.log"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return HttpResponse("\n".join(parts), content_type="text/plain; charset=utf-8", headers=headers)


class Cancel(OperationPage):
    permissions: ClassVar = {"POST": Permission.WRITE}

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        operations.cancel(self.operation, actor=request.user)
        return redirect("studio:operation", self.workspace.name, self.operation.pk)

"""The timeline of any operation, addressable by its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from apps.accounts.policy import Permission
from apps.core import operations
from apps.core.models import Operation, OperationStep, StepState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
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


class OperationPage(Page):
    section = "endpoints"
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
        endpoint = OnlineEndpoint.objects.filter(
            pk=self.operation.payload.get("endpoint"),
            workspace=self.workspace,
        ).first()
        deployment = OnlineDeployment.objects.filter(
            pk=self.operation.payload.get("deployment"),
            endpoint=endpoint,
        ).first()
        took = elapsed(self.operation.started_at, self.operation.finished_at)
        return self.page(
            "operation",
            operation=self.operation,
            can_cancel=operations.can_cancel(self.operation),
            operation_topic=f"operation:{self.operation.pk}",
            steps=steps,
            took=took,
            endpoint=endpoint,
            deployment=deployment,
        )


class Cancel(OperationPage):
    permissions: ClassVar = {"POST": Permission.WRITE}

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        operations.cancel(self.operation, actor=request.user)
        return redirect("studio:operation", self.workspace.name, self.operation.pk)

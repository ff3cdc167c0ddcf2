"""The timeline of an operation: every step of its recipe, begun or not."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from apps.core import operations
from apps.core.models import Operation, OperationStep, StepState

LOG_TAIL = 200


@dataclass(frozen=True)
class Step:
    name: str
    row: OperationStep | None

    @property
    def tone(self) -> str:
        if self.row is None:
            return "idle"
        return {"running": "running", "done": "ok", "failed": "failed"}[StepState(self.row.state)]

    @property
    def open(self) -> bool:
        return self.tone in {"running", "failed"}

    @property
    def took(self) -> float | None:
        return ((self.row.finished_at or timezone.now()) - self.row.started_at).total_seconds() if self.row else None

    @property
    def log(self) -> str:
        return "\n".join(self.row.log.splitlines()[-LOG_TAIL:]) if self.row else ""


def steps_of(operation: Operation) -> list[Step]:
    rows = {step.name: step for step in operation.steps.all()}
    names = operations.steps_of(operation.kind) if operation.kind in operations.kinds() else tuple(rows)
    return [Step(name, rows.get(name)) for name in names]

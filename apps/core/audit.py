"""Writing the audit trail."""

from __future__ import annotations

from typing import Any

import structlog

from apps.core.models import AuditRecord


def record(actor: Any, action: str, *, workspace: str, target: str, **detail: Any) -> None:
    """Append one record, in the caller's transaction. `detail` must be JSON and free of secrets."""
    AuditRecord.objects.create(
        actor=actor if getattr(actor, "pk", None) else None,
        action=action,
        workspace=workspace,
        target=target,
        detail=detail,
        request=structlog.contextvars.get_contextvars().get("request", ""),
    )

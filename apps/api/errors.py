"""Every error as the ARM envelope (wire 3.3). Never a 5xx for what the caller did: the SDK would retry it."""

from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from apps.core.errors import Problem
from apps.core.states import Conflict

log = structlog.get_logger(__name__)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler."""
    problem = problem_of(error)
    if problem is None:
        return None
    headers = {"WWW-Authenticate": "Bearer"} if problem.entry.status == 401 else {}  # noqa: PLR2004
    request = context.get("request")
    if problem.entry.status >= 500:  # noqa: PLR2004
        log.warning("api.failed", code=problem.code, path=getattr(request, "path", ""))
    return Response(problem.as_envelope(), status=problem.entry.status, headers=headers)


def problem_of(error: Exception) -> Problem | None:  # noqa: C901, PLR0911 -- one line per kind of error
    """What an exception means in the catalogue's words; None for a defect of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Conflict):
        return Problem("conflict", reason="It is being changed by somebody else.")
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return Problem("unauthenticated")
    if isinstance(error, exceptions.PermissionDenied | PermissionDenied):
        return Problem("forbidden", workspace="-", permission=str(error) or "-")
    if isinstance(error, exceptions.NotFound | Http404):
        return Problem("not-found", kind="resource", name="at this path")
    if isinstance(error, exceptions.ParseError):
        return Problem("bad-json", reason=str(error.detail))
    if isinstance(error, RequestDataTooBig):
        return Problem("upload-too-large", limit=f"{settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2**20} MiB")
    if isinstance(error, SuspiciousOperation):  # too many files or fields
        return Problem("upload-refused", reason=str(error))
    if isinstance(error, exceptions.ValidationError):
        return of_validation(error.detail)
    if isinstance(error, exceptions.MethodNotAllowed):
        return _Status("bad-field", 405, field="method", reason="this resource does not have it")
    if isinstance(error, exceptions.UnsupportedMediaType):
        return _Status("bad-field", 415, field="Content-Type", reason=str(error.detail))
    if isinstance(error, exceptions.NotAcceptable):
        return _Status("bad-field", 406, field="Accept", reason="only application/json is spoken here")
    return None


class _Status(Problem):
    """A problem with another HTTP status than its entry's."""

    def __init__(self, code: str, status: int, **params: Any) -> None:
        super().__init__(code, **params)
        entry = self.entry
        self.entry = type(entry)(status, entry.azure, entry.fault, entry.message, entry.next_step)


def of_validation(detail: Any) -> Problem:
    """All the fields that DRF complains of, the first as the message, each in `details`."""
    found = [Problem("bad-field", field=path, reason=reason, target=path) for path, reason in _flat(detail, "")]
    first = found[0]
    return Problem(
        "bad-field", field=first.params["field"], reason=first.params["reason"], target=first.target, details=found
    )


def _flat(detail: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(detail, dict):
        return [each for key, value in detail.items() for each in _flat(value, f"{path}.{key}" if path else str(key))]
    if isinstance(detail, list):
        return [each for value in detail for each in _flat(value, path)] or [(path or "body", "is not valid")]
    path = path.removesuffix("non_field_errors").removesuffix(".")
    return [(path or "body", str(detail).rstrip("."))]

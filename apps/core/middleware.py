"""What is done with every request before a view sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponseBadRequest

PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")


class NoNul:
    """Refuses addresses with a NUL character: no name has one, and PostgreSQL takes none."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        if "\x00" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
            return HttpResponseBadRequest("The address holds a NUL character.", content_type="text/plain")
        return self.get_response(request)


class RequestId:
    """Gives the id that the gateway made to the log lines and audit records written while the request is answered."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        given = request.headers.get("x-request-id", "")
        with structlog.contextvars.bound_contextvars(request=given if PLAIN.fullmatch(given) else ""):
            return self.get_response(request)

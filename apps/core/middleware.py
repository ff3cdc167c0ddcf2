"""Gives each request's id, which the gateway made, to the log lines and audit records written while it is answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import structlog
from django.http import HttpRequest

PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        given = request.headers.get("x-request-id", "")
        with structlog.contextvars.bound_contextvars(request=given if PLAIN.fullmatch(given) else ""):
            return self.get_response(request)

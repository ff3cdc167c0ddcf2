"""Log lines as azmlinfsrv writes them: `<UTC> <L> [pid] <logger> - <message>`.

What is said while a request is answered begins with its id: `… - [<x-request-id>] <message>`.
"""

from __future__ import annotations

import logging
import sys
import time
from contextvars import ContextVar
from typing import Any

log = logging.getLogger("portway")
_request: ContextVar[str] = ContextVar("portway_request", default="")


def about(headers: Any) -> None:
    """From here on this thread or task works for the request with these headers; None: for none in particular."""
    _request.set("" if headers is None else headers.get("x-request-id") or "")


class _Named(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        name = _request.get()
        record.request = f"[{name}] " if name else ""
        return True


class _BelowError(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR


def setup(level: str) -> None:
    """Send our own loggers to stdout, errors to stderr. The user's loggers, the root one above all, are left alone."""
    formatter = logging.Formatter("%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(request)s%(message)s")
    formatter.converter = time.gmtime
    out, err = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    out.addFilter(_BelowError())
    err.setLevel(logging.ERROR)
    log.handlers[:] = []
    for handler in (out, err):
        handler.setFormatter(formatter)
        handler.addFilter(_Named())
        log.addHandler(handler)
    log.propagate = False
    number = logging.getLevelName(level)
    log.setLevel(number if isinstance(number, int) else logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        # Prints of a script must reach the log when they happen, not when a buffer is full.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)

"""Requests, replies, and the headers every reply carries."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from . import __version__
from .log import log
from .settings import Settings

HEADER_LIMIT = 100
JSON = ("content-type", "application/json")
TEXT = ("content-type", "text/plain; charset=utf-8")
RUN_OK = ("x-ms-run-function-failed", "False")
RUN_FAILED = ("x-ms-run-function-failed", "True")

Header = "tuple[str, str]"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")


class Request(NamedTuple):
    method: str
    path: str
    query: str
    headers: Any  # granian's RSGIHeaders
    body: bytes

    def header_dict(self) -> dict[str, str]:
        """The headers as a script sees them under azmlinfsrv: a plain dict with names written Like-This."""
        found: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.title()
            found[key] = f"{found[key]},{value}" if key in found else value
        return found


class Reply(NamedTuple):
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class BadInputError(Exception):
    """The request cannot be given to the model; `status` is a 4xx and the text goes to the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def refused(status: int, message: str) -> Reply:
    """The answer to a wrong input; the log has the reason too, for whoever looks for the request there."""
    log.warning("Input refused: %s", " ".join(message.split()))
    return error(status, message)


def error(status: int, message: str, *, run_failed: bool = False) -> Reply:
    # Python's own json: a lone surrogate in an echoed name must not break the answer.
    body = json.dumps({"message": message}).encode()
    return Reply(status, (JSON, RUN_FAILED if run_failed else RUN_OK), body)


def valid_header(name: str, value: str) -> bool:
    """Whether a header of a script may go out; anything else could split the response."""
    return bool(_NAME.match(name)) and bool(_VALUE.match(value))


def query_parameters(query: str) -> dict[str, Any]:
    """`a=1&b=[1,2]&c=x` as {"a": 1, "b": [1, 2], "c": "x"}; a repeated name gives a list."""
    values: dict[str, list[Any]] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        values.setdefault(name, []).append(_json_or_text(text))
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class Headers:
    """Builds the headers that do not depend on the handler: ids, version, session, CORS."""

    def __init__(self, settings: Settings) -> None:
        always = [("x-ms-server-version", f"portway/{__version__}")]
        if settings.session:
            always.append(("azureml-model-session", settings.session))
        self._always = tuple(always)
        self._origins = frozenset(settings.cors_origins)

    def ids(self, headers: Any) -> tuple[list[tuple[str, str]], Reply | None]:
        """The reply's id headers, and the 431 when one is too long."""
        get = headers.get
        found = [*self._always]
        request_id = get("x-request-id") or str(uuid.uuid4())
        legacy = get("x-ms-request-id") or ""
        client = get("x-ms-client-request-id") or ""
        trace = get("traceid")
        if trace is not None:
            found.append(("TraceId", trace))
        if self._origins:
            found.extend(self._cors(headers))
        if len(request_id) > HEADER_LIMIT:
            return found, error(431, f"x-request-id must not exceed {HEADER_LIMIT} characters")
        found.append(("x-request-id", request_id))
        if legacy:
            client = client or legacy
        else:
            legacy = client or request_id
        if len(legacy) > HEADER_LIMIT or len(client) > HEADER_LIMIT:
            text = f"x-ms-request-id and x-ms-client-request-id must not exceed {HEADER_LIMIT} characters"
            return found, error(431, text)
        found.append(("x-ms-request-id", legacy))
        if client:
            found.append(("x-ms-client-request-id", client))
        return found, None

    def _cors(self, headers: Any) -> Iterable[tuple[str, str]]:
        origin = headers.get("origin")
        if not origin or not ("*" in self._origins or origin in self._origins):
            return
        yield ("access-control-allow-origin", "*" if "*" in self._origins else origin)
        if "*" not in self._origins:
            yield ("vary", "Origin")
        if headers.get("access-control-request-method"):
            yield ("access-control-allow-methods", "GET, POST")
            wanted = headers.get("access-control-request-headers")
            if wanted:
                yield ("access-control-allow-headers", wanted)

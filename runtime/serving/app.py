"""The RSGI application: routes, the headers of every reply, the access line."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from typing import Any, Protocol

from .log import about, log
from .settings import Settings
from .swagger import Swagger
from .web import JSON, RUN_OK, TEXT, BadInputError, Headers, Reply, Request, error, query_parameters

_NOT_FOUND = error(
    404,
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again.",
)
_NOT_ALLOWED = error(405, "The method is not allowed for the requested URL.")
_HEALTHY = Reply(200, (TEXT,), b"Healthy")
_INTERNAL = "An unexpected internal error occurred. Check the logs for more info."
_GET = frozenset({"GET", "HEAD"})
_SCORE = frozenset({"GET", "POST", "OPTIONS"})


class Model(Protocol):
    """A loaded model or script that can answer."""

    def bind(self, loop: asyncio.AbstractEventLoop, settings: Settings, slots: int) -> None: ...

    async def score(self, request: Request) -> Reply: ...


class App:
    def __init__(self, model: Model, settings: Settings, swagger: Swagger, score_paths: frozenset[str]) -> None:
        self._model = model
        self._headers = Headers(settings)
        self._swagger = swagger
        self._score_paths = score_paths
        self._access = log.isEnabledFor(logging.DEBUG)

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        started = time.perf_counter()
        about(scope.headers)
        try:
            headers, reply = self._headers.ids(scope.headers)
            if reply is None:
                if scope.path in self._score_paths and scope.method in _SCORE:
                    body = await proto()
                    request = Request(scope.method, scope.path, scope.query_string, scope.headers, body)
                    reply = await self._model.score(request)
                else:
                    reply = self._route(scope)
        except Exception:  # noqa: BLE001 -- whatever it is, the client gets an answer
            log.error("Encountered Exception: %s", traceback.format_exc())
            headers, reply = [], error(500, _INTERNAL)
        headers.extend(reply.headers)
        if scope.method == "HEAD":
            proto.response_empty(reply.status, headers)
        else:
            proto.response_bytes(reply.status, headers, reply.body)
        if self._access or reply.status >= 500:  # noqa: PLR2004
            self._log(scope, reply, time.perf_counter() - started)

    def _route(self, scope: Any) -> Reply:
        path = scope.path
        if path in {"/", "/livez", "/readyz"}:
            # The socket appears only when init() of every worker has succeeded: who reads this reads "ready".
            return _HEALTHY if scope.method in _GET else _NOT_ALLOWED
        if path == "/swagger.json":
            return self._document(scope) if scope.method in _GET else _NOT_ALLOWED
        return _NOT_ALLOWED if path in self._score_paths else _NOT_FOUND

    def _document(self, scope: Any) -> Reply:
        version = query_parameters(scope.query_string).get("version", "2")
        try:
            return Reply(200, (JSON, RUN_OK), self._swagger.document(str(version)))
        except BadInputError as exc:
            return error(exc.status, str(exc))

    def _log(self, scope: Any, reply: Reply, seconds: float) -> None:
        path = f"{scope.path}?{scope.query_string}" if scope.query_string else scope.path
        level = logging.ERROR if reply.status >= 500 else logging.DEBUG  # noqa: PLR2004
        log.log(level, "%s %s %d %.3fms %d", scope.method, path, reply.status, seconds * 1000, len(reply.body))

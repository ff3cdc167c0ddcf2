"""The user's scoring script: load it, check run(), read each request the way run() is declared."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
import traceback
from typing import Any, Callable

from . import entry, jsonio, rawhttp
from .failures import Record, StartError
from .log import about, log
from .pool import Pool, RunTimeout
from .settings import Settings
from .web import JSON, RUN_OK, BadInputError, Reply, Request, error, query_parameters, refused

RUN_FAILED_TEXT = "An unexpected error occurred in scoring script. Check the logs for more info."


def load(settings: Settings, record: Record) -> Script:
    """Import the script and run init(); StartError when it cannot be served."""
    name = entry.name_of(settings)
    rawhttp.install()
    record.expect("UserScriptImportError", f"the import of the scoring script {name}")
    module = entry.load(settings)
    script = Script(entry.run_of(module), name)
    record.expect("UserScriptInitFailed", f"init() of the scoring script {name}")
    entry.initialise(module, settings.app_root)
    return script


class Script:
    """One loaded script. `bind` gives it its loop and its slots; `score` answers one request."""

    def __init__(self, run: Callable[..., Any], name: str) -> None:
        self.run = run
        self.name = name
        parameters = list(inspect.signature(run).parameters.values())
        allowed = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if any(p.kind not in allowed for p in parameters):
            raise _unusable(name, "run() cannot accept positional-only arguments, *args, or **kwargs.")
        self._wants_headers = any(p.name == "request_headers" for p in parameters)
        self._parameters = [p for p in parameters if p.name != "request_headers"]
        if not self._parameters:
            raise _unusable(
                name,
                'run() needs to accept an argument other than "request_headers".'
                if self._wants_headers
                else "run() needs to accept an argument for input data.",
            )
        decorated = is_schema_decorated(run)
        self._raw = rawhttp.Caller() if rawhttp.requested() else None
        if self._raw is not None and decorated:
            raise _unusable(name, "run() cannot be decorated with both @rawhttp and @input_schema")
        self._read = self._read_object if decorated else self._read_text
        self._is_async = inspect.iscoroutinefunction(inspect.unwrap(run))
        self._pool: Pool | None = None
        self._slots: asyncio.Semaphore | None = None
        self._timeout_ms = 0

    def bind(self, loop: asyncio.AbstractEventLoop, settings: Settings, slots: int) -> None:
        self._timeout_ms = settings.timeout_ms
        if self._is_async:
            self._slots = asyncio.Semaphore(slots)
        else:
            self._pool = Pool(loop, slots, settings.timeout_ms)

    async def score(self, request: Request) -> Reply:
        if request.method == "OPTIONS" and self._raw is None:
            return Reply(200, (("content-type", "text/html; charset=utf-8"), RUN_OK), b"")
        try:
            if self._pool is not None:
                reply: Reply = await self._pool.run(self._answer, request)
                return reply
            return await self._answer_async(request)
        except BadInputError as exc:
            return refused(exc.status, str(exc))
        except RunTimeout as exc:
            return error(500, str(exc), run_failed=True)

    def _answer(self, request: Request) -> Reply:
        """The whole of a request on one thread: read, run, write."""
        about(request.headers)
        keywords = {} if self._raw is not None else self._read(request)
        started = time.perf_counter()
        try:
            if self._raw is not None:
                result = self._raw.call(lambda raw: self.run(**self._keywords(request, raw)), request)
            else:
                result = self.run(**self._keywords(request, **keywords))
        except BaseException:  # noqa: BLE001 -- sys.exit() included: one request must not end the server
            return self._failed()
        return self._reply(result, started)

    async def _answer_async(self, request: Request) -> Reply:
        keywords = {} if self._raw is not None else self._read(request)
        assert self._slots is not None  # noqa: S101 -- bind() came first
        await self._slots.acquire()
        started = time.perf_counter()
        raw = self._raw
        if raw is not None:
            work = raw.call_async(lambda given: self.run(**self._keywords(request, given)), request)
        else:
            work = self.run(**self._keywords(request, **keywords))
        task = asyncio.ensure_future(work)
        # The slot is free when the run is over, not when its client has been answered.
        task.add_done_callback(lambda _: self._slots.release() if self._slots else None)
        done, _ = await asyncio.wait({task}, timeout=self._timeout_ms / 1000)
        if not done:
            task.cancel()
            log.error("Scoring timeout after %d ms; the run was asked to stop", self._timeout_ms)
            raise RunTimeout(self._timeout_ms)
        try:
            result = task.result()
        except BaseException:  # noqa: BLE001 -- as above
            return self._failed()
        return self._reply(result, started)

    def _keywords(self, request: Request, raw: Any = None, **values: Any) -> dict[str, Any]:
        if self._raw is not None:
            values = {self._parameters[0].name: raw}
        if self._wants_headers:
            values["request_headers"] = request.header_dict()
        return values

    def _failed(self) -> Reply:
        log.error("Encountered Exception: %s", traceback.format_exc())
        return error(500, RUN_FAILED_TEXT, run_failed=True)

    def _reply(self, result: Any, started: float) -> Reply:
        took = ("x-ms-run-fn-exec-ms", f"{(time.perf_counter() - started) * 1000:.3f}")
        if rawhttp.is_response(result):
            reply = rawhttp.reply_of(result)
            return reply._replace(headers=(*reply.headers, took))
        # NaN stays NaN as with azmlinfsrv: Python clients read it, and turning it into null would change a value.
        body = "{}" if result is None else json.dumps(result, default=jsonio.plain)
        return Reply(200, (JSON, RUN_OK, took), body.encode())

    def _read_text(self, request: Request) -> dict[str, Any]:
        name = self._parameters[0].name
        if request.method == "GET":
            return {name: json.dumps(query_parameters(request.query))}
        try:
            return {name: request.body.decode("utf-8")}
        except UnicodeDecodeError as exc:
            raise BadInputError(f"Input cannot be decoded as UTF-8: {exc}") from None

    def _read_object(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            return self._arguments(query_parameters(request.query))
        kind = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            raise BadInputError("Expects Content-Type to be application/json", 415)
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError) as exc:
            if not request.body:
                raise BadInputError("POST body is empty. Expecting a JSON dictionary.") from None
            raise BadInputError(f"POST body could not be decoded as JSON: {exc}") from None
        if not isinstance(body, dict):
            raise BadInputError("POST body should be a JSON dictionary.")
        return self._arguments(body)

    def _arguments(self, body: dict[str, Any]) -> dict[str, Any]:
        values = {}
        for parameter in self._parameters:
            value = body.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                raise BadInputError(f"A value is not provided for the {parameter.name!r} parameter.")
            values[parameter.name] = value
        return values


def is_schema_decorated(run: Callable[..., Any]) -> bool:
    """Whether inference-schema, when the script imported it, knows this function."""
    util = sys.modules.get("inference_schema.schema_util")
    return bool(util and util.is_schema_decorated(run))


def _unusable(name: str, text: str) -> StartError:
    return StartError("UserScriptFunctionNotFound", f"The scoring script {name} cannot be served: {text}", text)

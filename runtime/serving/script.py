"""The user's scoring script: load it, check run(), read each request the way run() is declared."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from . import jsonio, rawhttp
from .failures import Record, StartError, evidence_of
from .log import about, log
from .pool import Pool, RunTimeout
from .settings import Settings
from .web import JSON, RUN_OK, BadInputError, Reply, Request, error, query_parameters, refused

MODULE_NAME = "entry_module"
RUN_FAILED_TEXT = "An unexpected error occurred in scoring script. Check the logs for more info."


def load(settings: Settings, record: Record) -> Script:
    """Import the script and run init(); StartError when it cannot be served."""
    root = settings.app_root
    rawhttp.install()
    record.expect("UserScriptImportError", f"the import of the scoring script {settings.entry_script or 'main.py'}")
    module = _import(settings, root)
    for name in ("init", "run"):
        if not callable(getattr(module, name, None)):
            raise StartError(
                "UserScriptFunctionNotFound",
                f"The scoring script {_name(settings)} has no {name}() function; define init() and run().",
                f"{_name(settings)}: {name} is not defined",
            )
    # Scripts made by older Azure SDKs are drivers around the real script; decorated arguments reach only the real one.
    driver = getattr(module, "driver_module", None)
    run = driver.run if isinstance(driver, ModuleType) and hasattr(driver, "run") else module.run
    script = Script(run, _name(settings))
    record.expect("UserScriptInitFailed", f"init() of the scoring script {_name(settings)}")
    _init(module.init, root)
    return script


def _name(settings: Settings) -> str:
    return settings.entry_script or "main.py"


def _import(settings: Settings, root: Path) -> ModuleType:
    path = root / _name(settings)
    _extend_path(settings, root, path)
    if not path.is_file():
        raise StartError(
            "UserScriptImportError",
            f"The scoring script {_name(settings)} is not in the code folder; "
            "set the deployment's scoring_script to a file in it.",
            f"{path}: no such file",
        )
    try:
        spec = importlib.util.spec_from_file_location(MODULE_NAME if settings.entry_script else "main", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")  # noqa: TRY301
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look their module up
        spec.loader.exec_module(module)
    except BaseException as exc:
        traceback.print_exc()
        hint = "repair the line below"
        if isinstance(exc, ModuleNotFoundError):
            hint = (
                f"add the package that provides {exc.name!r} to the deployment's environment, or the file to its code"
            )
        elif isinstance(exc, SystemExit):
            hint = "take out the call that ends the process"
        raise StartError(
            "UserScriptImportError",
            f"The scoring script {_name(settings)} could not be imported: {_what(exc)}; {hint}.",
            evidence_of(exc, root),
        ) from exc
    return module


def _extend_path(settings: Settings, root: Path, path: Path) -> None:
    """User code goes behind the environment's packages, as under azmlinfsrv, and before our overlay."""
    at = sys.path.index(settings.overlay) if settings.overlay in sys.path else len(sys.path)
    for folder in (path.parent, root):
        if str(folder) not in sys.path:
            sys.path.insert(at, str(folder))


def _init(init: Callable[[], Any], root: Path) -> None:
    try:
        result = init()
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as exc:
        traceback.print_exc()
        raise StartError(
            "UserScriptInitFailed",
            f"init() of the scoring script failed: {_what(exc)}; "
            "repair the line below, or look at the model folder it reads.",
            evidence_of(exc, root),
        ) from exc


def _what(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {text[0][:200]}" if text else type(exc).__name__


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

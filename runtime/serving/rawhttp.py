"""@rawhttp: `azureml.contrib.services.aml_request` and `aml_response` for scripts that want the request itself.

With flask in the model's environment scripts get real flask requests and responses, as under azmlinfsrv. Without it
they get the small classes below, which do what needs no multipart parser.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import sys
from email.message import Message
from types import ModuleType
from typing import Any, Callable
from urllib.parse import parse_qsl, unquote

from .web import Reply, Request, valid_header

_MODULES = (
    "azureml.contrib.services.aml_request",
    "azureml.contrib.services.aml_response",
    "azureml_inference_server_http.api.aml_request",
    "azureml_inference_server_http.api.aml_response",
)
_NEEDS_FLASK = (
    "request.{} needs flask (it parses multipart bodies), and flask is not in this model's environment: "
    "add flask to the environment's packages, or read the body with request.get_data()."
)


@functools.cache
def _flask() -> Any:
    """flask, or None. Imported only when a script asks for one of its classes: it takes a tenth of a second."""
    try:
        return importlib.import_module("flask")
    except ImportError:  # the model's environment decides
        return None


class _Seen:
    rawhttp = False


def rawhttp(func: Callable[..., Any]) -> Callable[..., Any]:
    """Mark run() as wanting the raw request. Global, as in azmlinfsrv: other decorators may wrap the function."""
    _Seen.rawhttp = True
    return func


class PlainHeaders(dict):
    """Headers by name in any case."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key.title())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and super().__contains__(key.title())

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.title(), default)


class PlainRequest:
    """The part of flask.Request that needs no flask."""

    def __init__(self, request: Request) -> None:
        self.method = request.method
        self.path = unquote(request.path)
        self.query_string = request.query.encode()
        self.full_path = f"{self.path}?{request.query}"
        self.headers = PlainHeaders(request.header_dict())
        self.args = dict(reversed(parse_qsl(request.query, keep_blank_values=True)))
        self.data = request.body
        self.content_type = self.headers.get("Content-Type")
        self.content_length = len(request.body)
        self.mimetype = (self.content_type or "").partition(";")[0].strip().lower()
        self.is_json = self.mimetype == "application/json" or self.mimetype.endswith("+json")
        self.stream = io.BytesIO(request.body)

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> bytes | str:
        del cache, parse_form_data
        return self.data.decode(errors="replace") if as_text else self.data

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        del cache
        if not (force or self.is_json):
            if silent:
                return None
            raise ValueError(
                "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
            )
        try:
            return json.loads(self.data)
        except ValueError:
            if silent:
                return None
            raise

    @property
    def json(self) -> Any:
        return self.get_json()

    @property
    def files(self) -> Any:
        raise RuntimeError(_NEEDS_FLASK.format("files"))

    @property
    def form(self) -> Any:
        raise RuntimeError(_NEEDS_FLASK.format("form"))

    @property
    def values(self) -> Any:
        raise RuntimeError(_NEEDS_FLASK.format("values"))


class PlainResponse:
    """The part of flask.Response that scripts use through AMLResponse."""

    def __init__(self, message: Any, status: int = 200, mimetype: str = "text/html; charset=utf-8") -> None:
        self.status_code = status
        self.headers = Message()
        self.headers["Content-Type"] = mimetype
        self._body = message if isinstance(message, (bytes, bytearray)) else str(message).encode()

    def get_data(self) -> bytes:
        return bytes(self._body)


@functools.cache
def response_class() -> Any:
    """AMLResponse: a flask response where there is flask."""
    flask = _flask()
    base: Any = PlainResponse if flask is None else flask.Response

    class AMLResponse(base):
        """What a @rawhttp run() returns to choose status, headers and body."""

        def __init__(
            self,
            message: Any,
            status_code: int,
            response_headers: dict[str, str] | None = None,
            json_str: bool = False,
            run_function_failed: bool = False,
        ) -> None:
            given = response_headers or {}
            if message is None or json_str:
                text = json.dumps({} if message is None else message)
                super().__init__(text, status=status_code, mimetype="application/json")
            else:
                super().__init__(message, status=status_code)
                if any(name.lower() == "content-type" for name in given):
                    del self.headers["Content-Type"]
            self.headers["x-ms-run-function-failed"] = str(run_function_failed)
            for name, value in given.items():
                for part in str(value).split(","):  # commas stand for repeated headers, as azmlinfsrv has it
                    self.headers.add_header(name, part.strip())

    return AMLResponse


def request_class() -> Any:
    flask = _flask()
    return PlainRequest if flask is None else flask.Request


_OFFERED: dict[str, Callable[[], Any]] = {
    "rawhttp": lambda: rawhttp,
    "AMLRequest": request_class,
    "AMLResponse": response_class,
}


def _offer(name: str) -> Any:
    """`__getattr__` of the modules that scripts import."""
    if name not in _OFFERED:
        raise AttributeError(name)
    return _OFFERED[name]()


def install() -> None:
    """Make the modules that scripts import; they are ours even when a package of that name is there."""
    for name in _MODULES:
        module = ModuleType(name)
        module.__dict__.update(__getattr__=_offer, __all__=list(_OFFERED))
        sys.modules[name] = module


def requested() -> bool:
    return _Seen.rawhttp


class Caller:
    """Calls run() with the raw request: inside a flask request context when flask is there, as scripts expect."""

    def __init__(self) -> None:
        self._flask = _flask()
        self._app = None if self._flask is None else self._flask.Flask("portway", static_folder=None)

    def call(self, run: Callable[[Any], Any], request: Request) -> Any:
        if self._app is None:
            return run(PlainRequest(request))
        with self._app.request_context(_environ(request)):
            return _materialised(run(self._flask.request._get_current_object()))  # noqa: SLF001 -- flask's own way

    async def call_async(self, run: Callable[[Any], Any], request: Request) -> Any:
        if self._app is None:
            return await run(PlainRequest(request))
        with self._app.request_context(_environ(request)):
            return _materialised(await run(self._flask.request._get_current_object()))  # noqa: SLF001


def _materialised(result: Any) -> Any:
    if is_response(result):
        result.get_data()  # a streamed body may need the request context
    return result


def _environ(request: Request) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(request.path),
        "QUERY_STRING": request.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.header_dict().items():
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value
        elif key != "CONTENT_LENGTH":
            environ[f"HTTP_{key}"] = value
    return environ


def is_response(value: Any) -> bool:
    flask = sys.modules.get("flask")  # a script may return flask's own response without @rawhttp
    return isinstance(value, PlainResponse) or (flask is not None and isinstance(value, flask.Response))


def reply_of(response: Any) -> Reply:
    """A script's response as ours; ValueError when a header could not go over the wire."""
    headers = []
    for name, value in response.headers.items():
        if name.lower() in {"content-length", "connection", "transfer-encoding"}:
            continue  # the server's own business
        if not valid_header(name, str(value)):
            raise ValueError(
                f"run() returned the response header {name!r} with a name or value that HTTP does not allow"
            )
        headers.append((name.lower(), str(value)))
    status = int(response.status_code)
    if status >= 500:  # noqa: PLR2004
        headers = [pair for pair in headers if pair[0] != "x-ms-run-function-failed"]
        headers.append(("x-ms-run-function-failed", "True"))
    return Reply(status, tuple(headers), response.get_data())

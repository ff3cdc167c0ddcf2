"""The WSGI application of azureml-inference-server-http, and the reason on record when a script cannot be served."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).parent
sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).absolute() != _HERE]  # not before the user's


def _failures() -> ModuleType:
    path = _HERE.parent / "serving" / "failures.py"
    spec = importlib.util.spec_from_file_location("_portway_failures", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _said(error: BaseException) -> tuple[str, str, BaseException]:
    """(code, sentence, the user's own exception). The server ends with SystemExit(3), the cause is its context."""
    seen: BaseException | None = error
    while seen is not None:
        kind, own = type(seen).__name__, getattr(seen, "user_ex", None)
        if kind == "UserScriptImportException":
            return "UserScriptImportError", "The scoring script could not be imported.", own or seen
        if kind == "UserScriptException":
            return "UserScriptInitFailed", "init() of the scoring script raised an exception.", own or seen
        if kind == "UserScriptError":
            return "UserScriptFunctionNotFound", str(seen), seen
        seen = seen.__cause__ or seen.__context__
    return "ServingRuntimeBroken", "azureml-inference-server-http could not start.", error


def _load() -> Any:
    os.environ.setdefault("HTTP_X_MS_SERVER_VERSION", "azmlinfsrv")  # its own command line would set the header
    try:
        from azureml_inference_server_http.server.entry import (  # type: ignore[import-not-found, unused-ignore]
            app as found,
        )
    except BaseException as error:
        failures = _failures()
        code, sentence, cause = _said(error)
        root = Path(os.environ.get("AML_APP_ROOT") or "/var/azureml-app")
        record = failures.Record(Path(os.environ.get("PORTWAY_SOCKET_DIR") or "/run/s"))
        record.write(code, sentence, failures.evidence_of(cause, root))
        raise
    return found


app = _load()

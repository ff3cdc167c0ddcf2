"""MLflow's own way to an answer: pyfunc loads the model, enforces its signature and words what is wrong."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, TypeVar

from . import fastpath, imports, rowwise
from .failures import StartError, evidence_of
from .log import log
from .mlflow_input import Parsed, Reader, is_csv
from .script import RUN_FAILED_TEXT
from .web import Reply, error, refused

_TEXT_LIMIT = 1000
_T = TypeVar("_T")


def load(path: Path) -> Pyfunc:
    """Load the model for online requests; StartError(ModelLoadFailed) says why it cannot be."""
    return load_model(path, Pyfunc)


def load_model(path: Path, wrap: Callable[[Any], _T]) -> _T:
    """What `wrap` makes of the model that MLflow loads; StartError(ModelLoadFailed) says why it cannot be."""
    try:
        with imports.uncollected():
            import mlflow.pyfunc
    except ImportError as exc:
        traceback.print_exc()
        raise StartError(
            "ModelLoadFailed",
            f"MLflow cannot be imported in the model's environment ({exc}); add mlflow to its packages.",
            evidence_of(exc, None),
        ) from exc
    try:
        return wrap(mlflow.pyfunc.load_model(str(path)))
    except BaseException as exc:
        traceback.print_exc()
        hint = "the environment's packages must match those the model was saved with (requirements.txt beside MLmodel)"
        if isinstance(exc, ModuleNotFoundError):
            hint = f"add the package that provides {exc.name!r} to the environment"
        raise StartError(
            "ModelLoadFailed",
            f"The MLflow model could not be loaded: {type(exc).__name__}: {_first_line(exc)}; {hint}.",
            evidence_of(exc, path),
        ) from exc


class Pyfunc:
    def __init__(self, model: Any) -> None:
        self.metadata = model.metadata
        self._model = model
        self._reader = Reader(model.metadata)
        self._takes_params = "params" in inspect.signature(model.predict).parameters
        self._known_make = rowwise.is_row_wise(model)

    def fast(self) -> fastpath.FastPath | None:
        """The proved short way for plain rows, for a model that has one."""
        layout = fastpath.layout_of(self.metadata.get_input_schema())
        if layout is None or not self._known_make or self._has_params():
            return None
        return fastpath.FastPath(layout, self._model)

    def answer(self, request: Any, doc: Any, render: Callable[[Any, bool, float], Reply]) -> Reply:
        """Signature enforced, params passed on."""
        try:
            parsed = self._reader.csv(request.body) if is_csv(request) else self._reader.read(doc)
        except Exception as exc:  # noqa: BLE001 -- MLflow's converters raise many kinds
            return refused(getattr(exc, "status", 400), input_text(exc))
        started = time.perf_counter()
        try:
            return render(self._predict(parsed), parsed.bare, time.perf_counter() - started)
        except BaseException as exc:  # noqa: BLE001 -- sys.exit() included: one request must not end the server
            if type(exc).__name__ == "MlflowException" or (self._known_make and isinstance(exc, ValueError)):
                log.debug("Encountered Exception: %s", traceback.format_exc())
                return refused(400, input_text(exc))
            log.error("Encountered Exception: %s", traceback.format_exc())
            return error(500, RUN_FAILED_TEXT, run_failed=True)

    def _predict(self, parsed: Parsed) -> Any:
        if self._takes_params:
            return self._model.predict(parsed.data, params=parsed.params)
        return self._model.predict(parsed.data)

    def _has_params(self) -> bool:
        get = getattr(self.metadata, "get_params_schema", None)
        return bool(get and get())


class Later:
    """Runs `call` once, on a thread of its own, when the first request needs its result; all wait for that one run."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
        self._loop = loop
        self._call = call
        self._found: asyncio.Future[Any] | None = None

    async def get(self) -> Any:
        if self._found is None:
            self._found = self._loop.create_future()
            threading.Thread(target=self._work, name="portway-load", daemon=True).start()
        # A client that goes away must not take the result from the others.
        return await asyncio.shield(self._found)

    def _work(self) -> None:
        result: Any = None
        failed: Exception | None = None
        try:
            result = self._call()
        except BaseException as exc:  # noqa: BLE001 -- sys.exit() in a package must not leave clients waiting
            failed = exc if isinstance(exc, Exception) else RuntimeError(repr(exc))
        try:
            self._loop.call_soon_threadsafe(self._settle, result, failed)
        except RuntimeError:  # the loop is closed: the server is on its way out
            return

    def _settle(self, result: Any, failed: Exception | None) -> None:
        assert self._found is not None  # noqa: S101 -- get() made it
        if failed is None:
            self._found.set_result(result)
        else:
            self._found.set_exception(failed)


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else ""


def input_text(exc: BaseException) -> str:
    """What is wrong with the input, without MLflow's copy of all of it."""
    text = str(getattr(exc, "message", None) or exc)
    if text.startswith("Failed to enforce schema"):
        text = text.rsplit("'. Error: ", 1)[-1]
    return text[:_TEXT_LIMIT]

"""MLflow models without code: load through pyfunc, answer Azure's and MLflow's callers."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from pathlib import Path
from typing import Any

from . import fastpath, jsonio, mlflow_schema, rowwise
from .failures import Record, StartError, evidence_of
from .lane import Item, Lane
from .log import log
from .mlflow_input import Parsed, Reader, document, is_csv
from .pool import Pool, RunTimeout
from .script import RUN_FAILED_TEXT
from .settings import Settings
from .swagger import Schemas
from .web import JSON, RUN_OK, BadInputError, Reply, Request, error

_BIG_BODY = 64 * 1024
"""Larger bodies are read on the model's thread: reading them takes longer than a health answer should wait."""

_TEXT_LIMIT = 1000


def load(path: Path, settings: Settings, record: Record) -> MlflowModel:
    """Load the model; StartError(ModelLoadFailed) says why it cannot be."""
    record.expect("ModelLoadFailed", f"the load of the MLflow model in {path}")
    if not (path / "MLmodel").is_file():
        raise StartError(
            "ModelLoadFailed",
            "The model folder has no MLmodel file; register the folder that MLflow saved, or set a scoring script.",
            f"{path / 'MLmodel'}: no such file",
        )
    try:
        import mlflow.pyfunc
    except ImportError as exc:
        traceback.print_exc()
        raise StartError(
            "ModelLoadFailed",
            f"MLflow cannot be imported in the model's environment ({exc}); add mlflow to its packages.",
            evidence_of(exc, None),
        ) from exc
    try:
        return MlflowModel(mlflow.pyfunc.load_model(str(path)), path, settings)
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


class MlflowModel:
    def __init__(self, model: Any, path: Path, settings: Settings) -> None:
        import inspect

        self._model = model
        self._path = path
        self._reader = Reader(model.metadata)
        self._takes_params = "params" in inspect.signature(model.predict).parameters
        self._known_make = rowwise.is_row_wise(model)
        self._fast: fastpath.FastPath | None = None
        layout = fastpath.layout_of(model.metadata.get_input_schema())
        if layout is not None and self._known_make and settings.max_batch > 1 and not self._has_params():
            self._fast = fastpath.FastPath(layout, model)
        self._pool: Pool | None = None
        self._lane: Lane | None = None

    def schemas(self) -> Schemas:
        return mlflow_schema.schemas(self._model.metadata, self._path)

    def bind(self, loop: asyncio.AbstractEventLoop, settings: Settings, slots: int) -> None:
        # With batches one thread is the right number: more would take work from each other's batches.
        self._pool = Pool(loop, 1 if self._fast else slots, settings.timeout_ms)
        if self._fast is not None:
            self._lane = Lane(loop, self._pool, self._answer, settings.max_batch)

    async def score(self, request: Request) -> Reply:
        if request.method == "OPTIONS":
            return Reply(200, (("content-type", "text/html; charset=utf-8"), RUN_OK), b"")
        if request.method == "GET":
            return error(405, "Method not allowed")
        assert self._pool is not None  # noqa: S101 -- bind() came first
        try:
            if self._lane is not None:
                return await self._lane.submit(self._item(request))
            is_csv(request)
            replies: list[Reply] = await self._pool.run(self._answer, [Item(request, None, None, bare=False)])
            return replies[0]
        except BadInputError as exc:
            return error(exc.status, str(exc))
        except RunTimeout as exc:
            return error(500, str(exc), run_failed=True)

    def _item(self, request: Request) -> Item:
        if is_csv(request) or len(request.body) > _BIG_BODY or self._fast is None:
            return Item(request, None, None, bare=False)
        doc = document(request.body)
        found = fastpath.rows_in(self._fast.layout, doc)
        return Item(request, doc, None, bare=False) if found is None else Item(request, doc, *found)

    def _answer(self, batch: list[Item]) -> list[Reply]:
        if len(batch) == 1:
            return [self._one(batch[0])]
        replies = self._together(batch)
        # One bad row must cost its neighbours nothing but time.
        return [self._one(item) for item in batch] if replies is None else replies

    def _together(self, batch: list[Item]) -> list[Reply] | None:
        """One predict for all; None when it failed or gave something that cannot be dealt out."""
        assert self._fast is not None  # noqa: S101 -- only then do items have rows
        rows = [row for item in batch for row in item.rows or ()]
        started = time.perf_counter()
        try:
            values = _values(self._fast.predict(rows))
            if not isinstance(values, list) or len(values) != len(rows):
                return None
            took = time.perf_counter() - started
            replies, at = [], 0
            for item in batch:
                end = at + len(item.rows or ())
                replies.append(_reply(values[at:end], item.bare, took))
                at = end
        except Exception as exc:  # noqa: BLE001 -- each request is tried again alone
            log.debug("A batch of %d requests is answered one by one: %s", len(batch), exc)
            return None
        return replies

    def _one(self, item: Item) -> Reply:
        started = time.perf_counter()
        if item.rows is not None and self._fast is not None:
            with contextlib.suppress(Exception):  # pyfunc's own way gives the better error
                return _reply(_values(self._fast.predict(item.rows)), item.bare, time.perf_counter() - started)
        try:
            if item.doc is None and not is_csv(item.request):
                item.doc = document(item.request.body)
                found = None if self._fast is None else fastpath.rows_in(self._fast.layout, item.doc)
                if found is not None:
                    item.rows, item.bare = found
                    return self._one(item)
            parsed = self._reader.csv(item.request.body) if item.doc is None else self._reader.read(item.doc)
        except BadInputError as exc:
            return error(exc.status, str(exc))
        except Exception as exc:  # noqa: BLE001 -- MLflow's converters raise many kinds
            return error(400, _input_text(exc))
        return self._full(parsed)

    def _full(self, parsed: Parsed) -> Reply:
        """Pyfunc's own predict: signature enforced, params passed on."""
        started = time.perf_counter()
        try:
            if self._takes_params:
                result = self._model.predict(parsed.data, params=parsed.params)
            else:
                result = self._model.predict(parsed.data)
            return _reply(_values(result), parsed.bare, time.perf_counter() - started)
        except BaseException as exc:  # noqa: BLE001 -- sys.exit() included: one request must not end the server
            if type(exc).__name__ == "MlflowException" or (self._known_make and isinstance(exc, ValueError)):
                log.debug("Input refused: %s", traceback.format_exc())
                return error(400, _input_text(exc))
            log.error("Encountered Exception: %s", traceback.format_exc())
            return error(500, RUN_FAILED_TEXT, run_failed=True)

    def _has_params(self) -> bool:
        get = getattr(self._model.metadata, "get_params_schema", None)
        return bool(get and get())


def _values(result: Any) -> Any:
    """Predictions as MLflow's server lists them: arrays as lists, frames and series as records."""
    if hasattr(result, "to_dict") or hasattr(result, "dtype"):
        return jsonio.plain(result)
    return result


def _reply(values: Any, bare: bool, seconds: float) -> Reply:
    body = jsonio.dumps(values if bare else {"predictions": values})
    return Reply(200, (JSON, RUN_OK, ("x-ms-run-fn-exec-ms", f"{seconds * 1000:.3f}")), body)


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else ""


def _input_text(exc: BaseException) -> str:
    """What is wrong with the input, without MLflow's copy of all of it."""
    text = str(getattr(exc, "message", None) or exc)
    if text.startswith("Failed to enforce schema"):
        text = text.rsplit("'. Error: ", 1)[-1]
    return text[:_TEXT_LIMIT]

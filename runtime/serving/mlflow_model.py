"""MLflow models without code: answer Azure's and MLflow's callers, by the shortest way that gives MLflow's answer.

A model of plain structure starts without MLflow (direct.py); the first request that needs more waits while MLflow loads
it too. From then on everything is as it is for any other model, and what the direct way answered is proved.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import traceback
from pathlib import Path
from typing import Any

from . import direct, fastpath, imports, jsonio, mlflow_schema, pyfunc
from .failures import Record, StartError
from .lane import Item, Lane
from .log import about, log
from .mlflow_input import document, is_csv
from .pool import Pool, RunTimeout
from .script import RUN_FAILED_TEXT
from .settings import Settings
from .swagger import Schemas
from .web import JSON, RUN_OK, BadInputError, Reply, Request, error, refused

_BIG_BODY = 64 * 1024
"""Larger bodies are read on the model's thread: reading them takes longer than a health answer should wait."""

_NEEDS_MLFLOW = Reply(0, (), b"")
"""Never sent: says that a request must be answered again when MLflow is there."""


def load(path: Path, settings: Settings, record: Record) -> MlflowModel:
    """Load the model; StartError(ModelLoadFailed) says why it cannot be."""
    record.expect("ModelLoadFailed", f"the load of the MLflow model in {path}")
    if not (path / "MLmodel").is_file():
        raise StartError(
            "ModelLoadFailed",
            "The model folder has no MLmodel file; register the folder that MLflow saved, or set a scoring script.",
            f"{path / 'MLmodel'}: no such file",
        )
    found = _direct(path) if settings.max_batch > 1 else None
    if found is not None:
        return MlflowModel(path, found.metadata, found, None)
    slow = pyfunc.load(path)
    return MlflowModel(path, slow.metadata, slow.fast() if settings.max_batch > 1 else None, slow)


def _direct(path: Path) -> direct.Direct | None:
    try:
        with imports.uncollected():
            found = direct.load(path)
    except Exception as exc:  # noqa: BLE001 -- MLflow decides whether it is an error, and says so
        log.info("MLflow is loaded at the start, because the model is not one to serve directly: %s", str(exc)[:300])
        return None
    gc.freeze()  # what was imported stays; no later collection need look at it
    log.info("Rows of this model are batched; the way from JSON to predict: %s", found.way)
    return found


class MlflowModel:
    def __init__(
        self, path: Path, metadata: Any, fast: fastpath.FastPath | direct.Direct | None, slow: pyfunc.Pyfunc | None
    ) -> None:
        self._path = path
        self._metadata = metadata
        self._fast = fast
        self._slow = slow
        self._later: pyfunc.Later | None = None
        self._pool: Pool | None = None
        self._lane: Lane | None = None

    def schemas(self) -> Schemas:
        return mlflow_schema.schemas(self._metadata, self._path)

    def bind(self, loop: asyncio.AbstractEventLoop, settings: Settings, slots: int) -> None:
        # With batches one thread is the right number: more would take work from each other's batches.
        self._pool = Pool(loop, 1 if self._fast else slots, settings.timeout_ms)
        self._later = pyfunc.Later(loop, self._load_slow)
        if self._fast is not None:
            self._lane = Lane(loop, self._pool, self._answer, settings.max_batch)

    async def score(self, request: Request) -> Reply:
        if request.method == "OPTIONS":
            return Reply(200, (("content-type", "text/html; charset=utf-8"), RUN_OK), b"")
        if request.method == "GET":
            return error(405, "Method not allowed")
        try:
            reply = await self._score(request)
            if reply is _NEEDS_MLFLOW:
                await self._with_mlflow()
                reply = await self._score(request)
        except BadInputError as exc:
            return refused(exc.status, str(exc))
        except (RunTimeout, StartError) as exc:
            return error(500, RUN_FAILED_TEXT if isinstance(exc, StartError) else str(exc), run_failed=True)
        return reply

    async def _score(self, request: Request) -> Reply:
        assert self._pool is not None  # noqa: S101 -- bind() came first
        if self._lane is not None:
            item = self._item(request)
            if self._slow is None and item.rows is None and len(request.body) <= _BIG_BODY:
                return _NEEDS_MLFLOW  # it would only stand in the way of those that need not wait
            return await self._lane.submit(item)
        is_csv(request)
        replies: list[Reply] = await self._pool.run(self._answer, [Item(request, None, None, bare=False)])
        return replies[0]

    def _item(self, request: Request) -> Item:
        if is_csv(request) or len(request.body) > _BIG_BODY or self._fast is None:
            return Item(request, None, None, bare=False)
        doc = document(request.body)
        found = fastpath.rows_in(self._fast.layout, doc)
        return Item(request, doc, None, bare=False) if found is None else Item(request, doc, *found)

    def _answer(self, batch: list[Item]) -> list[Reply]:
        about(None)
        if len(batch) == 1:
            return [self._one(batch[0])]
        replies = self._together(batch)
        # One bad row must cost its neighbours nothing but time.
        return [self._one(item) for item in batch] if replies is None else replies

    def _together(self, batch: list[Item]) -> list[Reply] | None:
        """One predict for all; None when it failed or gave something that cannot be dealt out."""
        fast = self._fast
        if fast is None:  # MLflow, loaded meanwhile, does not take the model for one to batch
            return None
        rows = [row for item in batch for row in item.rows or ()]
        started = time.perf_counter()
        try:
            values = _values(fast.predict(rows))
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
        about(item.request.headers)
        started = time.perf_counter()
        fast = self._fast
        if item.rows is not None and fast is not None:
            with contextlib.suppress(Exception):  # pyfunc's own way gives the better error
                return _reply(_values(fast.predict(item.rows)), item.bare, time.perf_counter() - started)
        if item.doc is None and not is_csv(item.request):
            try:
                item.doc = document(item.request.body)
            except BadInputError as exc:
                return refused(exc.status, str(exc))
            found = None if fast is None else fastpath.rows_in(fast.layout, item.doc)
            if found is not None:
                item.rows, item.bare = found
                return self._one(item)
        if self._slow is None:
            return _NEEDS_MLFLOW
        return self._slow.answer(item.request, item.doc, lambda result, bare, took: _reply(_values(result), bare, took))

    async def _with_mlflow(self) -> None:
        assert self._later is not None  # noqa: S101 -- bind() came first
        slow, fast = await self._later.get()
        if self._slow is None:
            # The proved way takes over; the direct one and its copy of the model are given back.
            self._fast, self._slow = fast, slow

    def _load_slow(self) -> tuple[pyfunc.Pyfunc, fastpath.FastPath | None]:
        log.info("A request needs MLflow; it is loaded now")
        try:
            slow = pyfunc.load(self._path)
            fast = slow.fast()
        except StartError as exc:
            log.error("Requests other than plain rows fail from now on: %s %s", exc, exc.evidence)
            raise
        except Exception as exc:
            log.error("Requests other than plain rows fail from now on: %s", traceback.format_exc())
            raise StartError("ModelLoadFailed", str(exc)) from exc
        self._compare(fast)
        return slow, fast

    def _compare(self, fast: fastpath.FastPath | None) -> None:
        """Say so when the direct way was wrong; MLflow's way is the only one from now on in any case."""
        if fast is None or not isinstance(self._fast, direct.Direct):
            log.warning("MLflow does not take this model for one whose rows can be batched; the direct way ends")
            return
        difference = direct.difference(self._fast, fast)
        if difference:
            log.error("The direct way answered differently from MLflow, which takes over: %s", difference)


def _values(result: Any) -> Any:
    """Predictions as MLflow's server lists them: arrays as lists, frames and series as records."""
    if hasattr(result, "to_dict") or hasattr(result, "dtype"):
        return jsonio.plain(result)
    return result


def _reply(values: Any, bare: bool, seconds: float) -> Reply:
    body = jsonio.dumps(values if bare else {"predictions": values})
    return Reply(200, (JSON, RUN_OK, ("x-ms-run-fn-exec-ms", f"{seconds * 1000:.3f}")), body)

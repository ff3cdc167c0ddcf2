"""One predict at a time; everything that arrives meanwhile is its next batch. No timer: an idle model adds no wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Callable

from .log import about
from .pool import Pool
from .web import Reply

INLINE_S = 0.0015
"""Batches that take less than this run in the event loop itself: handing them to a thread would cost more than the
wait they cause to a health answer."""

_UNKNOWN_S = 0.1


class Item:
    """One request in the lane. `rows` is None for one that cannot share a batch."""

    __slots__ = ("bare", "doc", "future", "request", "rows")

    def __init__(self, request: Any, doc: Any, rows: list[list[Any]] | None, bare: bool) -> None:
        self.request = request
        self.doc = doc
        self.rows = rows
        self.bare = bare
        self.future: asyncio.Future[Reply] | None = None


class Lane:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, pool: Pool, answer: Callable[[list[Item]], list[Reply]], max_rows: int
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._answer = answer
        self._max_rows = max_rows
        self._waiting: deque[Item] = deque()
        self._busy = False
        self._cost = _UNKNOWN_S  # of late, pessimistic: it rises at once and falls slowly
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Reply:
        item.future = self._loop.create_future()
        self._waiting.append(item)
        if not self._busy:
            self._busy = True
            # One turn of the loop later: requests that are already read join the first batch.
            self._loop.call_soon(self._next)
        return await item.future

    def _take(self) -> list[Item]:
        first = self._waiting.popleft()
        batch = [first]
        if first.rows is None:
            return batch
        room = self._max_rows - len(first.rows)
        while self._waiting:
            rows = self._waiting[0].rows
            if rows is None or len(rows) > room:
                break
            room -= len(rows)
            batch.append(self._waiting.popleft())
        return batch

    def _next(self) -> None:
        while self._waiting and (self._waiting[0].future is None or self._waiting[0].future.done()):
            self._waiting.popleft()  # its client has gone
        if not self._waiting:
            self._busy = False
            return
        batch = self._take()
        rows = sum(len(item.rows) for item in batch if item.rows is not None)
        if rows and rows <= self._max_rows and self._cost < INLINE_S:
            self._inline(batch)
            self._loop.call_soon(self._next)
        else:
            task = self._loop.create_task(self._on_thread(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _inline(self, batch: list[Item]) -> None:
        started = time.perf_counter()
        try:
            replies = self._answer(batch)
        except Exception as exc:  # noqa: BLE001 -- goes to each client's handler
            self._fail(batch, exc)
        else:
            self._settle(batch, replies)
        self._learn(time.perf_counter() - started)

    async def _on_thread(self, batch: list[Item]) -> None:
        about(batch[0].request.headers if len(batch) == 1 else None)
        try:
            replies, seconds = await self._pool.run(self._timed, batch)
        except Exception as exc:  # noqa: BLE001 -- goes to each client's handler
            self._cost = _UNKNOWN_S
            self._fail(batch, exc)
        else:
            self._settle(batch, replies)
            if batch[0].rows is not None:
                self._learn(seconds)
        self._next()

    def _timed(self, batch: list[Item]) -> tuple[list[Reply], float]:
        started = time.perf_counter()
        replies = self._answer(batch)
        return replies, time.perf_counter() - started

    def _learn(self, seconds: float) -> None:
        self._cost = max(seconds, self._cost * 0.8)

    def _settle(self, batch: list[Item], replies: list[Reply]) -> None:
        for item, reply in zip(batch, replies):
            if item.future is not None and not item.future.done():
                item.future.set_result(reply)

    def _fail(self, batch: list[Item], exc: Exception) -> None:
        for item in batch:
            if item.future is not None and not item.future.done():
                item.future.set_exception(exc)

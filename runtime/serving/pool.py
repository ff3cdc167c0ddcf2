"""The slots of a replica: so many threads, so many runs at once, and a time limit for each run."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from typing import Any, Callable

from .log import log


class RunTimeout(Exception):  # noqa: N818 -- it is an outcome, as asyncio.TimeoutError is
    def __init__(self, timeout_ms: int) -> None:
        super().__init__(f"Scoring timeout after {timeout_ms} ms")


class _Job:
    __slots__ = ("args", "call", "future", "started", "timer")

    def __init__(self, call: Callable[..., Any], args: tuple[Any, ...], future: asyncio.Future[Any]) -> None:
        self.call = call
        self.args = args
        self.future = future
        self.started: float | None = None
        self.timer: asyncio.TimerHandle | None = None


class Pool:
    """`size` threads and one queue: the semaphore of max concurrency is the number of threads.

    A thread cannot be killed. When a run exceeds the limit its client gets the answer at once and the thread stays
    taken until the run ends, so the limit on concurrent runs holds whatever the scripts do.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, timeout_ms: int) -> None:
        self._loop = loop
        self._timeout_ms = timeout_ms
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        for number in range(size):
            threading.Thread(target=self._work, name=f"portway-run-{number}", daemon=True).start()

    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run `call` on a thread, in the order of arrival; RunTimeout when it runs longer than the limit."""
        job = _Job(call, args, self._loop.create_future())
        job.timer = self._loop.call_later(self._timeout_ms / 1000, self._check, job)
        self._queue.put(job)
        try:
            return await job.future
        finally:
            job.timer.cancel()

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            job.started = time.perf_counter()
            result, error = None, None
            try:
                result = job.call(*job.args)
            except BaseException as exc:  # noqa: BLE001 -- sys.exit() in a script must not end the thread
                error = exc
            try:
                self._loop.call_soon_threadsafe(self._settle, job, result, error)
            except RuntimeError:  # the loop is closed: the server is on its way out
                return

    def _settle(self, job: _Job, result: Any, error: BaseException | None) -> None:
        if job.future.done():
            seconds = time.perf_counter() - (job.started or 0.0)
            log.warning("A run that was answered as timed out ended after %.0f ms", seconds * 1000)
        elif error is None:
            job.future.set_result(result)
        elif isinstance(error, StopIteration):
            job.future.set_exception(RuntimeError("the run raised StopIteration"))  # a future refuses the original
        else:
            job.future.set_exception(error)

    def _check(self, job: _Job) -> None:
        if job.future.done():
            return
        limit = self._timeout_ms / 1000
        ran = 0.0 if job.started is None else time.perf_counter() - job.started
        if ran < limit:  # it waited in the queue for a part of the time: only running counts
            job.timer = self._loop.call_later(max(limit - ran, 0.001), self._check, job)
            return
        log.error("Scoring timeout after %d ms; the run goes on and keeps its slot until it ends", self._timeout_ms)
        job.future.set_exception(RunTimeout(self._timeout_ms))

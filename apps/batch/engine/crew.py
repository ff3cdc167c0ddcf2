"""The worker processes of one node: one connection each, at most one mini-batch at a time in each.

`Crew.turn()` moves everything one step: sends what is due, reads what came, enforces deadlines. It never blocks for
longer than it is told, whatever the workers do.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone

from apps.batch.engine import channel
from apps.batch.engine.channel import ProtocolError, Reader
from apps.batch.engine.claims import Claimed

RECONNECT_S = 0.5
BUFFERED = 2**28  # bytes of answers in memory, beyond which only one worker is heard
TEXT = 2000  # characters kept of what a worker says of an error


@dataclass
class Worker:
    """One process. Without `sock` it is to be connected at `retry_at`."""

    number: int
    sock: socket.socket | None = None
    reader: Reader = field(default_factory=Reader)
    out: bytearray = field(default_factory=bytearray)
    ready: bool = False
    heard: bool = True  # whether we read what it says
    watched: int = 0  # events of its socket we are told of
    claimed: Claimed | None = None
    started_at: datetime | None = None
    since: float = 0.0
    deadline: float = 0.0
    retry_at: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What one attempt came to."""

    claimed: Claimed
    process: int
    started_at: datetime
    duration_ms: int
    rows: int = 0
    body: bytes = b""
    error: dict[str, Any] | None = None


def failure(code: str, message: str, evidence: str = "", trace: str = "") -> dict[str, Any]:
    """The stored form of a failed attempt; everything in it may come from the worker, so it is cut."""
    return {
        "code": _plain(code)[:60],
        "azure": "UserScriptFailed",
        "fault": "user",
        "message": _plain(message)[:TEXT],
        "evidence": _plain(evidence)[:TEXT],
        "trace": _plain(trace)[: 4 * TEXT],
    }


def _plain(text: Any) -> str:
    """What every database and JSON take: scripts name files whose names are no text."""
    return str(text).replace("\x00", "").encode("utf-8", "replace").decode()


class Crew:
    def __init__(self, address: Callable[[], str | None], workers: int, *, timeout_s: float, start_s: float) -> None:
        """`address`: where the node's program listens, None while it does not. Times in seconds."""
        self._address = address
        self._timeout_s = timeout_s
        self._start_s = start_s
        self._selector = selectors.DefaultSelector()
        self.workers = [Worker(number) for number in range(workers)]
        self.queue: deque[Claimed] = deque()
        self.outcomes: list[Outcome] = []
        self.failed_starts: list[dict[str, Any]] = []
        self.was_ready = False

    @property
    def busy(self) -> list[Claimed]:
        return [each.claimed for each in self.workers if each.claimed is not None]

    @property
    def unfinished(self) -> list[Claimed]:
        return [*self.busy, *self.queue]

    def turn(self, wait_s: float) -> None:
        """Connect, feed, wait up to `wait_s` for news, read them, end what is overdue."""
        self._connect()
        self._feed()
        self._listen()
        if not self._selector.get_map():
            time.sleep(min(wait_s, 0.05))
            return
        for key, mask in self._selector.select(wait_s):
            worker: Worker = key.data
            if worker.sock is not key.fileobj:
                continue
            if mask & selectors.EVENT_WRITE:
                self._write(worker)
            if mask & selectors.EVENT_READ and worker.sock is not None:
                self._read(worker)
        self._feed()
        self._overdue()

    @property
    def buffered(self) -> int:
        """Bytes of answers that nobody has taken yet."""
        heard = sum(each.reader.buffered for each in self.workers)
        return heard + sum(len(each.body) for each in self.outcomes)

    def _listen(self) -> None:
        """Hear everybody while there is room, else only who has most to say: its answer must end to make room."""
        full = self.buffered > BUFFERED
        longest = max(self.workers, key=lambda each: each.reader.buffered)
        for worker in self.workers:
            worker.heard = not full or worker is longest
            self._watch(worker)

    def _watch(self, worker: Worker) -> None:
        if worker.sock is None:
            return
        events = (selectors.EVENT_READ if worker.heard else 0) | (selectors.EVENT_WRITE if worker.out else 0)
        if events == worker.watched:
            return
        if not worker.watched:
            self._selector.register(worker.sock, events, worker)
        elif not events:
            self._selector.unregister(worker.sock)
        else:
            self._selector.modify(worker.sock, events, worker)
        worker.watched = events

    def close(self) -> None:
        """Hang up on every worker; each is killed by the node's program at once."""
        for worker in self.workers:
            self._drop(worker)
        self._selector.close()

    # -- one worker

    def _connect(self) -> None:
        now = time.monotonic()
        due = [each for each in self.workers if each.sock is None and each.retry_at <= now]
        if not due:
            return
        address = self._address()
        if address is None:
            return
        for worker in due:
            worker.retry_at = now + RECONNECT_S
            try:
                sock = channel.connect(address, timeout_s=2.0)
            except OSError:
                continue
            sock.setblocking(False)
            worker.sock, worker.reader, worker.ready = sock, Reader(), False
            worker.out = bytearray(channel.pack({"process": worker.number}))
            worker.since, worker.deadline = now, now + self._start_s
            self._watch(worker)

    def _feed(self) -> None:
        for worker in self.workers:
            if not self.queue:
                return
            if worker.sock is not None and worker.ready and worker.claimed is None:
                self._hand(worker, self.queue.popleft())

    def _hand(self, worker: Worker, claimed: Claimed) -> None:
        worker.claimed = claimed
        worker.started_at, worker.since = timezone.now(), time.monotonic()
        worker.deadline = worker.since + self._timeout_s
        worker.out += channel.pack({"id": claimed.number, "files": list(claimed.files)})
        self._write(worker)

    def _write(self, worker: Worker) -> None:
        if worker.sock is None:
            return
        try:
            while worker.out:
                sent = worker.sock.send(worker.out)
                del worker.out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._lost(worker, {})
            return
        self._watch(worker)

    def _read(self, worker: Worker) -> None:
        if worker.sock is None:
            return
        try:
            data = worker.sock.recv(channel.RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(worker, {})
            return
        worker.reader.feed(data)
        try:
            while worker.sock is not None and (found := worker.reader.next()) is not None:
                self._hear(worker, *found)
        except ProtocolError as error:
            self._lost(worker, {"message": f"It broke the protocol: {error}."})

    def _hear(self, worker: Worker, message: dict[str, Any], body: bytes) -> None:
        if worker.ready and ("ready" in message or "failed" in message):
            raise ProtocolError("a start after it had started")
        if message.get("ready"):
            worker.ready = self.was_ready = True
        elif isinstance(message.get("failed"), dict):
            told = message["failed"]
            self.failed_starts.append(failure(told.get("code"), told.get("message"), told.get("evidence") or ""))
            self._drop(worker)
        elif "ended" in message:
            self._lost(worker, message["ended"] if isinstance(message["ended"], dict) else {})
        elif worker.claimed is not None and message.get("id") == worker.claimed.number:
            self._answer(worker, message, body)
        else:
            raise ProtocolError("an answer nobody asked for")

    def _answer(self, worker: Worker, message: dict[str, Any], body: bytes) -> None:
        if message.get("ok") is True:
            rows = message.get("rows")
            if not isinstance(rows, int) or isinstance(rows, bool) or not 0 <= rows < 2**31:
                raise ProtocolError("an answer without a number of rows")
            self._end(worker, rows=rows, body=body)
            return
        told = message.get("error")
        told = told if isinstance(told, dict) else {}
        code, text = told.get("code") or "RunFailed", told.get("message") or "run() failed."
        self._end(worker, error=failure(code, text, told.get("evidence") or "", told.get("trace") or ""))

    def _end(self, worker: Worker, **values: Any) -> None:
        claimed, started = worker.claimed, worker.started_at
        if claimed is None or started is None:
            return
        worker.claimed = None
        took = int((time.monotonic() - worker.since) * 1000)
        self.outcomes.append(Outcome(claimed, worker.number, started, took, **values))

    def _lost(self, worker: Worker, ended: dict[str, Any]) -> None:
        """The process is gone: with a mini-batch in it that is a failed attempt, before init() a failed start."""
        said = ended.get("message") or "The worker process ended without a word."
        exit_ = ended.get("exit")
        if isinstance(exit_, int):
            said = f"{said} (exit {exit_})"
        error = failure("WorkerDied", said, ended.get("evidence") or "")
        if worker.claimed is not None:
            self._end(worker, error=error)
        elif not worker.ready:
            self.failed_starts.append(error)
        self._drop(worker)

    def _overdue(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if worker.sock is None or now < worker.deadline:
                continue
            if worker.claimed is not None:
                text = f"run() took longer than {self._timeout_s:g} s and was ended."
                self._end(worker, error=failure("Timeout", text))
                self._drop(worker)
            elif not worker.ready:
                text = f"init() took longer than {self._start_s:g} s and was ended."
                self.failed_starts.append(failure("UserScriptInitFailed", text))
                self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        if worker.sock is not None:
            if worker.watched:
                self._selector.unregister(worker.sock)
            worker.sock.close()
        worker.retry_at = time.monotonic() + (0.0 if worker.ready else RECONNECT_S)
        worker.sock, worker.ready, worker.claimed = None, False, None
        worker.reader, worker.heard, worker.watched = Reader(), True, 0

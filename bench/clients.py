"""Clients that score without a pause and remember every failure. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    at: float
    what: str


@dataclass
class Load:
    """Connections to the plain HTTP port, each sending one request after the other."""

    port: int
    path: str
    key: str
    body: bytes = b'{"x": 1}'
    connections: int = 2
    limit: int | None = None
    pause_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.connections)]

    @property
    def sent(self) -> int:
        return sum(self.answers.values()) + len(self.failures)

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def wait(self, timeout_s: float) -> None:
        """Until `limit` requests are done."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(35)

    def _run(self) -> None:
        link: http.client.HTTPConnection | None = None
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        while not self._stop.is_set() and (self.limit is None or next(self._numbers) < self.limit):
            try:
                link = link or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                link.request("POST", self.path, self.body, headers)
                answer = link.getresponse()
                text = answer.read().decode(errors="replace")
                if answer.status == http.client.OK:
                    self._count(text)
                else:
                    self._fail(f"{answer.status} {text[:200]}")
                if answer.will_close:
                    link.close()
                    link = None
            except (OSError, http.client.HTTPException) as error:
                self._fail(f"{type(error).__name__}: {error}")
                if link is not None:
                    link.close()
                link = None
                time.sleep(0.02)
            if self.pause_s:
                time.sleep(self.pause_s)
        if link is not None:
            link.close()

    def _count(self, text: str) -> None:
        with self._lock:
            self.answers[text] = self.answers.get(text, 0) + 1
            self.last[text] = time.time()

    def _fail(self, what: str) -> None:
        with self._lock:
            self.failures.append(Failure(time.monotonic(), what))


@contextlib.contextmanager
def under_load(load: Load) -> Iterator[Load]:
    load.start()
    try:
        yield load
    finally:
        load.stop()


def until(ready: Callable[[], object], timeout_s: float, what: str) -> None:
    """Poll until it is so."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.1)

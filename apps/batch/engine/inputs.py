"""The files of a mini-batch, where the worker can read them: mounted, or fetched from afar just before they are due."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from django.db import connection

from apps.batch.engine.claims import Claimed
from apps.core.errors import Problem
from apps.registry import locations

FETCHERS = 4


class Inputs(Protocol):
    def want(self, claimed: list[Claimed]) -> None:
        """These are due soon."""

    def ready(self) -> list[tuple[Claimed, Problem | None]]:
        """Those that can be run now, or cannot be had and why; each once."""

    def done(self, claimed: Claimed) -> None:
        """Its files are not needed any more."""

    @property
    def waiting(self) -> bool:
        """Whether some that were wanted are not ready yet."""

    def close(self) -> None: ...


class Mounted:
    """The worker sees the input's folder itself."""

    def __init__(self) -> None:
        self._ready: list[tuple[Claimed, Problem | None]] = []

    def want(self, claimed: list[Claimed]) -> None:
        self._ready += [(each, None) for each in claimed]

    def ready(self) -> list[tuple[Claimed, Problem | None]]:
        found, self._ready = self._ready, []
        return found

    def done(self, claimed: Claimed) -> None:
        pass

    @property
    def waiting(self) -> bool:
        return bool(self._ready)

    def close(self) -> None:
        pass


class Fetched:
    """Copies into a folder that the worker sees, some mini-batches ahead.

    Its threads are daemons: a place that answers slowly holds up neither the node nor the end of the process.
    """

    def __init__(self, location: Any, folder: Path) -> None:
        self._location = location
        self._folder = folder
        self._due: SimpleQueue[Claimed | None] = SimpleQueue()
        self._had: SimpleQueue[tuple[Claimed, Problem | None]] = SimpleQueue()
        self._missing = 0
        self._closed = threading.Event()
        for number in range(FETCHERS):
            _use(folder, 1)
            threading.Thread(target=self._work, daemon=True, name=f"fetch-{number}").start()

    def want(self, claimed: list[Claimed]) -> None:
        for each in claimed:
            self._missing += 1
            self._due.put(each)

    def _work(self) -> None:
        try:
            while (claimed := self._due.get()) is not None and not self._closed.is_set():
                self._had.put((claimed, self._fetched(claimed)))
        finally:
            _use(self._folder, -1)
            connection.close()

    def _fetched(self, claimed: Claimed) -> Problem | None:
        try:
            for name in claimed.files:
                if self._closed.is_set():
                    break
                self._fetch(name)
        except Problem as problem:
            return problem
        except Exception as error:  # noqa: BLE001 -- whatever a client raises, the node goes on
            return Problem("unavailable", what="The input", evidence=f"{type(error).__name__}: {error}"[:300])
        return None

    def _fetch(self, name: str) -> None:
        target = self._folder / locations.checked_path(name, "uri")
        self._location.fetch(name, target)
        target.chmod(0o444)

    def ready(self) -> list[tuple[Claimed, Problem | None]]:
        found = []
        for _ in range(self._had.qsize()):
            found.append(self._had.get())
            self._missing -= 1
        return found

    def done(self, claimed: Claimed) -> None:
        for name in claimed.files:
            (self._folder / name).unlink(missing_ok=True)

    @property
    def waiting(self) -> bool:
        return self._missing > 0

    def close(self) -> None:
        """Nothing more is fetched; who is in the midst of a file ends by itself, and the last removes the folder."""
        self._closed.set()
        for _ in range(FETCHERS):
            self._due.put(None)


_users: Counter[Path] = Counter()  # threads by the folder they write to: a node may come back before they have ended
_lock = threading.Lock()


def _use(folder: Path, change: int) -> None:
    with _lock:
        _users[folder] += change
        if not _users[folder]:
            del _users[folder]
            shutil.rmtree(folder, ignore_errors=True)

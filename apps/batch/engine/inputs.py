"""The files of a mini-batch, where the worker can read them: mounted, or fetched from afar just before they are due."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from apps.batch.engine.claims import Claimed
from apps.core.errors import Problem

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
    """Copies into a folder that the worker sees, some mini-batches ahead."""

    def __init__(self, location: Any, folder: Path) -> None:
        self._location = location
        self._folder = folder
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._pending: dict[Future[None], Claimed] = {}

    def want(self, claimed: list[Claimed]) -> None:
        for each in claimed:
            self._pending[self._pool.submit(self._fetch, each)] = each

    def _fetch(self, claimed: Claimed) -> None:
        for name in claimed.files:
            target = self._folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._location.fetch(name, target)
            target.chmod(0o444)

    def ready(self) -> list[tuple[Claimed, Problem | None]]:
        found = []
        for future in [each for each in self._pending if each.done()]:
            error = future.exception()
            problem = error if isinstance(error, Problem) else None
            if error is not None and problem is None:
                problem = Problem("unavailable", what="The input", evidence=f"{type(error).__name__}: {error}"[:300])
            found.append((self._pending.pop(future), problem))
        return found

    def done(self, claimed: Claimed) -> None:
        for name in claimed.files:
            (self._folder / name).unlink(missing_ok=True)

    @property
    def waiting(self) -> bool:
        return bool(self._pending)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

"""The words of this app: what is asked for, what comes of it, and how both are named."""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

MARK = ".complete"
LOG_LIMIT = 200_000
LONGEST_LINE, LINES_KEPT, LINES_TOLD = 2000, 4000, 50_000  # of what a build prints
DOCKER = "docker"

Log = Callable[[str], None]
Check = Callable[[], None]


@dataclass(frozen=True)
class EnvironmentSpec:
    """What is asked for: a conda file's text or a requirements file's text, and the Python it names (or "").

    `image`: what containers run in, "" for the installation's base image. `context`: the tree of a Docker build
    instead, with `dockerfile` as the path in it. `version`: the registered version that asks, for its history.
    `extra`: requirements that Portway adds to the user's.
    """

    conda_file: str = ""
    requirements: str = ""
    python: str = ""
    image: str = ""
    context: str = ""
    dockerfile: str = ""
    version: int | None = None
    name: str = ""
    extra: tuple[str, ...] = ()

    @property
    def has_packages(self) -> bool:
        """Empty requirements without an image are an environment of nothing but Python."""
        return bool(self.conda_file or self.requirements) or not (self.image or self.context)

    @property
    def needs_container(self) -> bool:
        return bool(self.context) or not self.has_packages


@dataclass(frozen=True)
class Runnable:
    """A built environment: `path` is its folder (never moved), `overlay` the serving packages behind it.

    `image`: what its containers run in, as an id that never changes its meaning; "" for processes. An image without
    packages of ours has no `path`; one in which no Python was found has neither `python` nor `overlay`.
    `contained`: model, code and server are in the image, so nothing is mounted.
    """

    key: str
    path: Path | None
    python: Path | None
    overlay: Path | None
    image: str = ""
    contained: bool = False


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextmanager
def lock_of(name: str, check: Check) -> Iterator[None]:
    """One build of a key at a time on this machine; the lock ends with its process."""
    folder = Path(settings.HOME.environments) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name[:20]).open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(0.1)
        yield

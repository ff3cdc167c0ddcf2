"""What every store can do, and what is the same in all of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Literal

from apps.core.errors import Problem

Kind = Literal["file", "folder"]
CHUNK = 1 << 20
PARTIAL = ".portway-partial-"  # begins the names of what is being written; never listed, never nameable
CONNECT_S, READ_S = 10, 60
TRIES = 3


class Store:
    """A place with files by their paths: relative, "" for the place itself, checked by `locations`.

    All raise Problem "unavailable" when the place does not answer, "bad-field" when it refuses.
    """

    def kind(self, path: str) -> Kind | None:
        """What is at a path; None: nothing."""
        raise NotImplementedError

    def files(self, path: str, *, nested: bool) -> Iterator[tuple[str, int]]:
        """(path below the folder, bytes) of its files, sorted by path; of a file its name."""
        raise NotImplementedError

    def open(self, path: str) -> BinaryIO:
        raise NotImplementedError

    def local(self, path: str) -> Path | None:
        return None

    def put(self, source: Path, path: str) -> bool:
        """Write a file or a folder; False, and nothing changed, when something is there already."""
        raise Problem("unsupported", what="writing", reason="this place is read only")

    def delete(self, path: str) -> None:
        raise Problem("unsupported", what="deleting", reason="this place is read only")


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterable[bytes], close: Callable[[], object]) -> None:
        self._chunks, self._close, self._rest = iter(chunks), close, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            found = next(self._chunks, None)
            if found is None:
                return 0
            self._rest = found
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()


def reading(
    chunks: Iterable[bytes], close: Callable[[], object], errors: Callable[[], AbstractContextManager[None]]
) -> BinaryIO:
    """A stream of chunks as a file; what goes wrong while they come is said as `errors` says it."""

    def guarded() -> Iterator[bytes]:
        with errors():
            yield from chunks

    return io.BufferedReader(_Chunks(guarded(), close), CHUNK)


def tree_files(source: Path) -> list[tuple[str, Path]]:
    """(relative path, file) of what shall be written. Raises Problem "upload-refused" for links and special files."""
    found = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Problem("upload-refused", reason=f"{name} is a link or a special file")
        if path.is_file():
            found.append((name, path))
    return found


def put_each(
    source: Path, path: str, *, occupied: bool, write: Callable[[Path, str], bool], delete: Callable[[str], None]
) -> bool:
    """`put` for stores that know single objects only: what was written goes again when one of them is there."""
    if occupied:
        return False
    files = [(f"{path}/{name}", file) for name, file in tree_files(source)] if source.is_dir() else [(path, source)]
    written: list[str] = []
    done = False
    try:
        for key, file in files:
            if not write(file, key):
                return False
            written.append(key)
        done = True
    finally:
        if not done:
            for key in written:
                delete(key)
    return True


def refused(what: str, reason: str, *, evidence: str = "") -> Problem:
    return Problem("bad-field", field=what, reason=reason, evidence=evidence, target=what)

"""Results: workers' rows are appended to segments, one per node and lease; rows of the database say which pieces count.

A piece is on disk before the row that names it is committed, so a crash leaves bytes that nobody names, never a row
without its bytes. The merge copies the pieces in the order of the input.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20


class SegmentBroken(Exception):  # noqa: N818 -- a condition of the disk, reported as such
    """A segment is shorter than what was committed of it."""


@dataclass(frozen=True)
class Piece:
    segment: str
    offset: int
    length: int


class Segment:
    """An append-only file of results."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file: BinaryIO = (folder / name).open("ab")
        self._end = self._file.tell()

    def append(self, data: bytes) -> Piece:
        piece = Piece(self.name, self._end, len(data))
        self._file.write(data)
        self._end += len(data)
        return piece

    def secure(self) -> None:
        """On disk, so that the rows which name the pieces may be committed."""
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def merge(pieces: Iterable[Piece], folder: Path, target: Path) -> int:
    """Write all pieces, in their order, to `target`; its size in bytes. Memory stays flat.

    Raises:
        SegmentBroken: the disk lost what was committed.
    """
    written = 0
    with target.open("wb") as out, _segments(folder) as segment:
        for piece in pieces:
            written += _copy(segment(piece.segment), piece, out)
        out.flush()
        os.fsync(out.fileno())
    return written


@contextmanager
def _segments(folder: Path) -> Iterator[_Opened]:
    opened = _Opened(folder)
    try:
        yield opened
    finally:
        opened.close()


class _Opened:
    """The segments of a merge, each opened once; there are as many as nodes the job had."""

    MOST = 64

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}

    def __call__(self, name: str) -> BinaryIO:
        found = self._files.pop(name, None)
        if found is None:
            if len(self._files) >= self.MOST:
                self._files.pop(next(iter(self._files))).close()
            found = (self._folder / name).open("rb")
        self._files[name] = found  # last: the most recently used
        return found

    def close(self) -> None:
        for each in self._files.values():
            each.close()


def _copy(source: BinaryIO, piece: Piece, out: BinaryIO) -> int:
    source.seek(piece.offset)
    left = piece.length
    while left:
        data = source.read(min(CHUNK, left))
        if not data:
            raise SegmentBroken(f"{piece.segment} ends {left} bytes before {piece.offset + piece.length}")
        out.write(data)
        left -= len(data)
    return piece.length

"""The log of requests on the disk: the file Envoy writes, those before it, and finding one request in all of them.

    access.jsonl                         what Envoy writes now
    access-<UTC time>.jsonl              rotated; Envoy may still write to it until it has made the file above anew
    access-<UTC time>.jsonl.gz           complete

Each step of `tend` may be the last before a kill: every line is in one of these files, or in two of which only the
compressed one counts.
"""

from __future__ import annotations

import gzip
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import structlog

log = structlog.get_logger(__name__)

ROTATE_BYTES = 64 * 2**20
ROTATE_AGE = timedelta(days=1)
QUIET_S = 15.0  # longer than a gateway that is replaced goes on, and than Envoy keeps lines in memory
WAITS_S = 3600.0  # a file that is not compressed by then counts as it is
BLOCK = 4 * 2**20
LONGEST_LINE = 2**20
PACKED = ".gz"


def rotated(current: Path) -> list[Path]:
    """The files before the current one, newest first; of a file and its compressed copy only the copy."""
    names = {path.name: path for path in current.parent.glob(f"{current.stem}-*{current.suffix}*")}
    kept = [
        path
        for name, path in names.items()
        if name.endswith(current.suffix + PACKED) or (name.endswith(current.suffix) and name + PACKED not in names)
    ]
    return sorted(kept, key=lambda path: path.name.removesuffix(PACKED), reverse=True)


def tend(current: Path, reopen: Callable[[], object], *, most_bytes: int, most_days: int, now: datetime) -> None:
    """One step: rotate when it is time, compress what Envoy has let go of, forget what is too old or too much."""
    try:
        _rotate_or_compress(current, reopen, now)
    finally:  # most of all when the disk is full
        _forget(current, most_bytes=most_bytes, oldest=now - timedelta(days=most_days), now=now)


def _rotate_or_compress(current: Path, reopen: Callable[[], object], now: datetime) -> None:
    waiting = [path for path in current.parent.glob(f"{current.stem}-*{current.suffix}") if path.is_file()]
    if not current.exists():
        if waiting:
            reopen()  # the last step was interrupted, or nobody has asked anything since
    elif _is_due(current, now):
        current.rename(current.with_name(f"{current.stem}-{now.astimezone(UTC):%Y%m%dT%H%M%S%f}{current.suffix}"))
        reopen()
    else:
        for path in sorted(waiting):
            try:
                _compress(path, now)
            except OSError as error:
                log.warning("access_log.not_compressed", file=path.name, reason=str(error))


def _is_due(current: Path, now: datetime) -> bool:
    if current.stat().st_size >= ROTATE_BYTES:
        return True
    with current.open("rb") as file:
        began = time_of(file.readline(LONGEST_LINE))
    return began is not None and now - began > ROTATE_AGE


def _compress(path: Path, now: datetime) -> None:
    packed = path.with_name(path.name + PACKED)
    before = path.stat()
    if now.timestamp() - before.st_mtime < QUIET_S:
        return
    draft = path.with_name(f".{packed.name}.{os.getpid()}.draft")
    try:
        with path.open("rb") as source, draft.open("wb") as raw:
            draft.chmod(0o600)
            with gzip.GzipFile("", "wb", 5, raw, mtime=0) as out:
                while block := source.read(BLOCK):
                    out.write(block)
            raw.flush()
            os.fsync(raw.fileno())
        os.utime(draft, (before.st_atime, before.st_mtime))
        draft.replace(packed)
    finally:
        draft.unlink(missing_ok=True)
    if path.stat().st_size == before.st_size:  # else somebody still wrote: it is compressed again
        path.unlink()


def _forget(current: Path, *, most_bytes: int, oldest: datetime, now: datetime) -> None:
    total = 0
    for path in current.parent.glob(f".{current.stem}-*.draft"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest.timestamp():
                path.unlink()
    for path in rotated(current):
        with suppress(OSError):
            status = path.stat()
            if path.suffix != PACKED and now.timestamp() - status.st_mtime < WAITS_S:
                continue  # it is about to be a tenth of that
            total += status.st_size
            if total > most_bytes or status.st_mtime < oldest.timestamp():
                path.unlink()


# ---- finding a request


@dataclass
class Search:
    """What was found, newest first, and how far the search got."""

    found: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = True
    since: datetime | None = None  # the oldest moment looked at
    unsearchable: bool = False  # there are lines without the field that was needed
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Piece:
    """What is left of a block once it was looked at."""

    size: int
    first: dict[str, Any] | None
    found: list[dict[str, Any]]  # newest first


def search(
    current: Path,
    request_id: str,
    wanted: Callable[[dict[str, Any]], bool],
    *,
    most_bytes: int,
    most_s: float,
    most: int,
    needs: str = "",
) -> Search:
    """The newest `most` requests with this id, be it ours or the caller's, that are `wanted`.

    Args:
        needs: a field without which `wanted` can judge no line; lines without it do not count as looked at.
    """
    result, began = Search(), time.monotonic()
    needle = f'"{request_id}"'.encode()

    def look(block: bytes) -> Piece:
        found = _matching(block, needle, request_id, wanted)[:most] if needle in block else []
        return Piece(len(block), _first_line(block), found)

    def is_over(unpacked: int) -> bool:
        return result.bytes + unpacked >= most_bytes or time.monotonic() - began >= most_s

    for piece in _pieces(current, look, is_over):
        result.bytes += piece.size
        result.found += piece.found
        if needs and piece.first is not None and needs not in piece.first:
            result.unsearchable = True
        else:
            result.since = _time(piece.first) or result.since
        result.seconds = time.monotonic() - began
        if len(result.found) >= most or any(each.get("request_id") == request_id for each in result.found):
            break  # our own ids are given once
        if is_over(0):
            result.complete = False
            break
    result.found = result.found[:most]
    return result


def _matching(
    block: bytes, needle: bytes, request_id: str, wanted: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    found = []
    at = block.rfind(needle)
    while at >= 0:
        start, end = block.rfind(b"\n", 0, at) + 1, block.find(b"\n", at)
        line = parse(block[start : end if end >= 0 else len(block)])
        if line and request_id in (line.get("request_id"), line.get("client_request_id")) and wanted(line):
            found.append(line)
        at = block.rfind(needle, 0, start)
    return found


def parse(line: bytes) -> dict[str, Any] | None:
    """One line of the log; None for what is none, e.g. the last one after a full disk."""
    try:
        value = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("ts"), str) else None


def _first_line(block: bytes) -> dict[str, Any] | None:
    return parse(block[: block.find(b"\n") + 1][:LONGEST_LINE])


def time_of(block: bytes) -> datetime | None:
    """When the first whole line of a block was a request that began."""
    return _time(_first_line(block))


def _time(line: dict[str, Any] | None) -> datetime | None:
    try:
        return datetime.fromisoformat(line["ts"]).astimezone(UTC) if line else None
    except ValueError:
        return None


def _pieces(current: Path, look: Callable[[bytes], Piece], is_over: Callable[[int], bool]) -> Iterator[Piece]:
    """All whole lines in blocks that were looked at, the newest block first; within a block as they were written."""
    with suppress(FileNotFoundError), current.open("rb") as file:
        yield from map(look, _backwards(file))
    for path in rotated(current):
        packed = path if path.suffix == PACKED else path.with_name(path.name + PACKED)
        try:
            if path.suffix == PACKED:
                yield from _unpacked(path, look, is_over)
                continue
            with path.open("rb") as file:
                yield from map(look, _backwards(file))
        except FileNotFoundError:  # compressed just now
            with suppress(FileNotFoundError):
                yield from _unpacked(packed, look, is_over)


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    position, rest = file.seek(0, os.SEEK_END), b""
    while position > 0:
        step = min(BLOCK, position)
        position -= step
        data = os.pread(file.fileno(), step, position) + rest
        start = data.find(b"\n") + 1 if position > 0 else 0
        if position > 0 and start == 0 and len(data) < LONGEST_LINE + BLOCK:
            rest = data
            continue
        rest = data[:start]
        yield data[start:]


def _unpacked(path: Path, look: Callable[[bytes], Piece], is_over: Callable[[int], bool]) -> list[Piece]:
    """A compressed file can only be read forwards: of each block only what was found is kept.

    When the time is over in the middle, the newest part of the file was not looked at: one piece without a time.
    """
    pieces: list[Piece] = []
    size, rest = 0, b""
    try:
        with gzip.open(path, "rb") as file:
            while data := file.read(BLOCK):
                if is_over(size):
                    newest_first = [line for piece in reversed(pieces) for line in piece.found]
                    return [Piece(size, None, newest_first)]
                data = rest + data
                end = data.rfind(b"\n") + 1
                rest = data[end:] if len(data) - end < LONGEST_LINE + BLOCK else b""
                if end:
                    pieces.append(look(data[:end]))
                    size += end
    except FileNotFoundError:
        raise
    except (EOFError, OSError, zlib.error) as error:
        log.warning("access_log.broken", file=path.name, reason=str(error))
    if rest:
        pieces.append(look(rest))
    return pieces[::-1]

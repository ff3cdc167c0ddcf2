"""Reading the shim's log: lines `<UTC time> <o|e> <text>` in `log`, older ones in `log.1`.

A mark is `<first line's time>+<offset>`: the time names the file, whose inode may come again after a rotation.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from apps.compute.drivers.base import LogChunk, LogLine

STREAMS = {"o": "stdout", "e": "stderr"}
BLOCK = 64 * 1024
POLL_SECONDS = 0.1
STAMP_BYTES = len("2026-01-01T00:00:00.000000Z")
LONGEST_OFFSET = 12


def parse(line: bytes) -> LogLine | None:
    stamp, _, rest = line.decode("utf-8", "replace").partition(" ")
    stream, _, text = rest.partition(" ")
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    if at.tzinfo is not UTC:
        return None
    return LogLine(at=at, text=text, stream=STREAMS.get(stream, "stdout"))


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines, read from the end in blocks."""
    try:
        with path.open("rb") as file:
            position = file.seek(0, 2)
            data = b""
            while position > 0 and data.count(b"\n") <= count:
                step = min(BLOCK, position)
                position -= step
                file.seek(position)
                data = file.read(step) + data
    except FileNotFoundError:
        return []
    lines = data.split(b"\n")
    return lines[:-1][-count:]


def tail(path: Path, count: int) -> list[LogLine]:
    if count <= 0:
        return []
    lines = last_lines(path, count)
    if len(lines) < count:
        lines = last_lines(path.with_name(path.name + ".1"), count - len(lines)) + lines
    return [parsed for parsed in map(parse, lines) if parsed]


def name_of(file: BinaryIO) -> str:
    """The time of its first line; "" while it has none."""
    head = os.pread(file.fileno(), STAMP_BYTES, 0)
    return head.decode("ascii", "replace") if len(head) == STAMP_BYTES else ""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[list[tuple[str, BinaryIO]]]:
    """The log's files with their names, oldest first; a rotation in between neither hides nor doubles one."""
    with contextlib.ExitStack() as stack:
        found: dict[str, BinaryIO] = {}
        # the newer one first: rotated meanwhile, it is met again as the older one
        for each in (path, path.with_name(path.name + ".1")):
            with contextlib.suppress(FileNotFoundError):
                file = stack.enter_context(each.open("rb"))
                if (name := name_of(file)) and name not in found:
                    found[name] = file
        yield list(found.items())[::-1]


def mark(path: Path, back: int) -> str:
    with opened(path) as files:
        for name, file in reversed(files):
            starts, end = line_starts(file, back)
            if len(starts) >= back:
                return f"{name}+{starts[-back] if back else end}"
            back -= len(starts)
    return ""


def line_starts(file: BinaryIO, count: int) -> tuple[list[int], int]:
    """Where the last `count` whole lines begin, and where the last one ends; read from the end in blocks."""
    position = file.seek(0, os.SEEK_END)
    breaks: list[int] = []  # offsets behind line breaks, ascending
    while position > 0 and len(breaks) <= count:
        step = min(BLOCK, position)
        position -= step
        data = os.pread(file.fileno(), step, position)
        breaks[:0] = [position + found.end() for found in re.finditer(b"\n", data)]
    if position == 0:
        breaks.insert(0, 0)
    return (breaks[:-1][-count:] if count else []), breaks[-1]


def read(path: Path, after: str, most_bytes: int) -> LogChunk:
    name, _, text = after.partition("+")
    offset = int(text) if text.isascii() and text.isdigit() and len(text) <= LONGEST_OFFSET else 0
    most_bytes = max(most_bytes, BLOCK)  # a whole line at least
    lines: list[LogLine] = []
    with opened(path) as files:
        names = [each for each, _ in files]
        for each, file in files[names.index(name) if name in names else 0 :]:
            start = offset if each == name else 0
            data = os.pread(file.fileno(), most_bytes, start)
            whole = data.rfind(b"\n") + 1
            lines += [parsed for parsed in map(parse, data[:whole].split(b"\n")[:-1]) if parsed]
            after = f"{each}+{start + whole}"
            most_bytes -= len(data)
            if most_bytes <= 0:
                break
    return LogChunk(lines, after)


def follow(path: Path, *, timeout_s: float, alive: Callable[[], bool]) -> Iterator[LogLine]:
    """New lines until the time is up or the replica is gone; goes on over a rotation."""
    file = path.open("rb") if path.exists() else None
    if file:
        file.seek(0, 2)
    # Opened before the first line is asked for: “from now on” means from the call.
    return lines_of(path, file, deadline=time.monotonic() + timeout_s, alive=alive)


def lines_of(path: Path, file: BinaryIO | None, *, deadline: float, alive: Callable[[], bool]) -> Iterator[LogLine]:
    rest = b""
    try:
        while True:
            over = time.monotonic() >= deadline or not alive()  # asked before reading: the last lines still come
            while file and (data := file.read(BLOCK)):
                *lines, rest = (rest + data).split(b"\n")
                yield from (parsed for parsed in map(parse, lines) if parsed)
            if over:
                return
            fresh = rotated(path, file.fileno() if file else -1)
            if fresh:
                if file:
                    file.close()
                file, rest = path.open("rb"), b""
                continue
            time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
    finally:
        if file:
            file.close()


def rotated(path: Path, fd: int) -> bool:
    """True when `path` is another file than the open one."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return fd < 0 or now.st_ino != Path(f"/proc/self/fd/{fd}").stat().st_ino

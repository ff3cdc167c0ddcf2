"""Reading the shim's log: lines `<UTC time> <o|e> <text>` in `log`, older ones in `log.1`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from apps.compute.drivers.base import LogLine

STREAMS = {"o": "stdout", "e": "stderr"}
BLOCK = 64 * 1024
POLL_SECONDS = 0.1


def parse(line: bytes) -> LogLine | None:
    stamp, _, rest = line.decode("utf-8", "replace").partition(" ")
    stream, _, text = rest.partition(" ")
    try:
        at = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
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

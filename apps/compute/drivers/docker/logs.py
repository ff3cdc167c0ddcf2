"""Reading the engine's log of a container, with marks that neither lose nor double a line.

The engine can only be asked for what was written since a whole second, several lines may bear one time, and the times
of the two streams need not be in order. A mark therefore is `<second>/<count>/<time>`: of the lines since that second
`count` are read, and the last of these bears `time`. The second lies a little before that line.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from apps.compute.drivers.base import LogChunk, LogLine

STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
MARK = re.compile(r"([0-9]{1,11})/([0-9]{1,8})/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)", re.ASCII)
STAMP_BYTES = len("2026-01-01T00:00:00.000000000Z")
SLACK_S = 1  # how far out of order lines may be
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Record:
    """One line as the engine keeps it; of a line longer than 16 KiB, one piece."""

    stamp: str
    stream: str
    data: bytes

    def line(self) -> LogLine:
        text = self.data.removesuffix(b"\n").removesuffix(b"\r").replace(b"\0", b"").decode("utf-8", "replace")
        # what is before a carriage return, a terminal would have overwritten
        return LogLine(datetime.fromisoformat(self.stamp), text.rpartition("\r")[2], self.stream)


Source = Callable[[int, int], Iterator[Record]]
"""The records since a second (0: all), of these the last so many (0: all), oldest first."""


def source(outputs: list[Callable[..., Iterator[tuple[str, bytes]]]]) -> Source:
    """The records of several containers as one log, the oldest container first."""

    def records(since: int, last: int) -> Iterator[Record]:
        if not last:
            return itertools.chain.from_iterable(parse(each(since=since, tail="all")) for each in outputs)
        kept: list[Record] = []
        for each in reversed(outputs):
            if len(kept) < last:
                kept = [*parse(each(since=since, tail=last - len(kept))), *kept]
        return iter(kept)

    return records


def parse(frames: Iterator[tuple[str, bytes]]) -> Iterator[Record]:
    for stream, data in frames:
        if STAMP.match(data):
            yield Record(data[:STAMP_BYTES].decode(), stream, data[STAMP_BYTES + 1 :])


def second(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp())


def mark_behind(stamps: list[str], since: int) -> str:
    """The mark behind the last of these, which are all since that second. The same however one came to be there."""
    start = max(since, second(stamps[-1]) - SLACK_S, 0)
    edge = datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{start}/{sum(stamp >= edge for stamp in stamps)}/{stamps[-1]}"


def tail(source: Source, count: int) -> list[LogLine]:
    return [record.line() for record in source(0, count)] if count > 0 else []


def mark(source: Source, back: int) -> str:
    last = [record.stamp for record in source(0, back + 1)]
    if len(last) <= back:
        return ""
    since = max(0, second(last[0]) - SLACK_S)
    # asked once more, since more may have come: these lines alone say what is behind the mark
    stamps = [record.stamp for record in source(since, 0)]
    before = stamps[: len(stamps) - back]
    return mark_behind(before, since) if before else ""


def read(source: Source, after: str, most_bytes: int) -> LogChunk:
    since, passed, records = behind(source, after)
    lines: list[LogLine] = []
    size = 0
    for record in records:
        passed.append(record.stamp)
        lines.append(record.line())
        size += len(record.data)
        if size >= most_bytes:
            break
    return LogChunk(lines, mark_behind(passed, since) if lines else after)


def behind(source: Source, after: str) -> tuple[int, list[str], Iterator[Record]]:
    """(second, times of what was read since then, the records behind the mark)."""
    found = MARK.fullmatch(after)
    if found is None:
        return 0, [], source(0, 0)
    since, count, stamp = int(found[1]), int(found[2]), found[3]
    records = source(since, 0)
    passed = [record.stamp for record in itertools.islice(records, count)]
    if passed and len(passed) == count and passed[-1] == stamp:
        return since, passed, records
    # The log was rotated past that second, or begun anew: look for the line itself.
    everything = list(source(0, 0))
    start = 1 + max((index for index, record in enumerate(everything) if record.stamp == stamp), default=-1)
    return 0, [record.stamp for record in everything[:start]], iter(everything[start:])


def follow(source: Source, *, timeout_s: float, alive: Callable[[], bool]) -> Iterator[LogLine]:
    """New lines until the time is up or the replica is gone. Asked for again and again: no connection hangs open."""
    # Asked before the first line is wanted: “from now on” means from the call.
    return lines_behind(source, mark(source, 0), deadline=time.monotonic() + timeout_s, alive=alive)


def lines_behind(source: Source, at: str, *, deadline: float, alive: Callable[[], bool]) -> Iterator[LogLine]:
    while True:
        over = time.monotonic() >= deadline or not alive()  # asked before reading: the last lines still come
        chunk = read(source, at, 2**18)
        yield from chunk.lines
        at = chunk.mark
        if over and not chunk.lines:
            return
        if not chunk.lines:
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

"""What the instances of a deployment said: those that live, and those that are gone."""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import QuerySet

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.endpoints.models import OnlineEndpoint
from apps.monitoring import logs as kept
from apps.monitoring.models import ReplicaLog
from apps.monitoring.text import clean

MOST_GONE = 100
PAGE_BYTES = 2**20
LINE_BYTES = 100  # what is sent of a line beside its text
SEARCH_S = 5.0
SEARCH_LINES = 5_000_000
TAIL_MOST = 5000


class Entry(NamedTuple):
    at: datetime
    source: Source
    text: str
    stream: str


@dataclass(frozen=True)
class Source:
    """One instance: a living replica, or one life of a replica that is gone. `key` names it in addresses."""

    key: str
    deployment: str
    revision: int
    index: int
    replica: str
    started_at: datetime | None
    row: ReplicaLog | None = None
    living: Replica | None = None
    after: str = ""  # the driver's mark behind what is kept of earlier lives

    @property
    def name(self) -> str:
        return f"{self.deployment} #{self.index}"

    @property
    def covers_from(self) -> datetime | None:
        """Since when its lines are its own: it may have stood down in between, which is no end."""
        if self.row is not None:
            return min(self.row.started_at, self.row.first_at or self.row.started_at)
        return self.living.set.created_at if self.living is not None else None

    def lines(self, after: str = "") -> Iterator[Entry]:
        """Every line, oldest first."""
        if self.row is not None:
            for line in kept.lines_of(self.row):
                yield Entry(line.at, self, line.text, line.stream)
        elif self.living is not None:
            while (chunk := compute.read_log(self.living, after=after)).lines:
                yield from (Entry(line.at, self, line.text, line.stream) for line in chunk.lines)
                after = chunk.mark

    def last_lines(self, count: int) -> tuple[list[Entry], str]:
        """The last lines, and the mark to go on from."""
        if self.living is None:
            return list(deque(self.lines(), maxlen=count)), ""
        mark = compute.mark_log(self.living, back=count)
        found: list[Entry] = []
        while len(found) < 2 * count and (chunk := compute.read_log(self.living, after=mark)).lines:
            found += [Entry(line.at, self, line.text, line.stream) for line in chunk.lines]
            mark = chunk.mark
        return found, mark


def sources(
    workspace: str, endpoint: str, *, deployment: str = "", most_gone: int = MOST_GONE
) -> tuple[list[Source], int]:
    """The living instances, then those that are gone, newest first; and how many more of these there are."""
    gone = ReplicaLog.objects.filter(workspace=workspace, endpoint=endpoint)
    if deployment:
        gone = gone.filter(deployment=deployment)
    rows = list(gone[: most_gone + 1])
    more = gone.count() - most_gone if len(rows) > most_gone else 0
    rows = rows[:most_gone]
    ended = {(row.replica, row.started_at) for row in rows}
    marks = {row.replica: row.mark for row in reversed(rows)}
    found = [
        _living(each, marks.get(each.name, ""))
        for each in _replicas(workspace, endpoint, deployment)
        if each.state != ReplicaState.FAILED or (each.name, each.started_at) not in ended
    ]
    return [*found, *map(_gone, rows)], more


def _replicas(workspace: str, endpoint: str, deployment: str) -> QuerySet[Replica]:
    """Names are unique in the installation: while the endpoint is this workspace's, so are its replicas."""
    rows = Replica.objects.select_related("set").order_by("set__owner_key", "set__revision", "index")
    if not OnlineEndpoint.objects.filter(workspace__name=workspace, name=endpoint).exists():
        return rows.none()
    if deployment:
        return rows.filter(set__owner_key=f"{endpoint}/{deployment}")
    return rows.filter(set__owner_key__startswith=f"{endpoint}/")


def _living(replica: Replica, after: str) -> Source:
    deployment = replica.set.owner_key.partition("/")[2]
    name, revision, started = replica.name, replica.set.revision, replica.started_at
    return Source(name, deployment, revision, replica.index, name, started, living=replica, after=after)


def _gone(row: ReplicaLog) -> Source:
    return Source(f"log-{row.pk}", row.deployment, row.revision, row.index, row.replica, row.started_at, row=row)


# ---- the end of it, and what comes after


def tail(chosen: Iterable[Source], count: int) -> tuple[list[Entry], dict[str, str]]:
    """The last `count` lines of these instances by time, and the marks to go on from."""
    entries: list[Entry] = []
    marks: dict[str, str] = {}
    for source in chosen:
        found, mark = source.last_lines(count)
        entries += found
        if source.living is not None:
            marks[source.key] = mark
    entries.sort(key=lambda entry: entry.at)
    return _fitting(entries[-count:] if count else []), marks


def more(chosen: Iterable[Source], marks: Mapping[str, str]) -> tuple[list[Entry], dict[str, str]]:
    """What the living ones said since; those without a mark are read from their beginning.

    Once that is enough for one answer, the others keep their marks. The order is any, so that each has its turn.
    """
    entries: list[Entry] = []
    after: dict[str, str] = {}
    size = 0
    living = [source for source in chosen if source.living is not None]
    for source in random.sample(living, len(living)):
        mark = marks.get(source.key, source.after)
        if source.living is None or size >= PAGE_BYTES:
            after[source.key] = mark
            continue
        chunk = compute.read_log(source.living, after=mark)
        entries += [Entry(line.at, source, line.text, line.stream) for line in chunk.lines]
        size += sum(len(line.text.encode("utf-8", "replace")) + LINE_BYTES for line in chunk.lines)
        after[source.key] = chunk.mark
    entries.sort(key=lambda entry: entry.at)
    return entries, after


def _fitting(entries: list[Entry]) -> list[Entry]:
    size = 0
    for at in range(len(entries) - 1, -1, -1):
        size += len(entries[at].text)
        if size > PAGE_BYTES:
            return entries[at + 1 :]
    return entries


# ---- all of it


def everything(chosen: Iterable[Source], *, since: datetime | None = None) -> Iterator[Entry]:
    """All lines by time, read while they are asked for."""
    several = list(chosen)
    alone = len(several) == 1
    streams = [source.lines("" if alone else source.after) for source in several if not _before(source, since)]
    merged = heapq.merge(*streams, key=lambda entry: entry.at)
    return (entry for entry in merged if since is None or entry.at >= since)


def _before(source: Source, since: datetime | None) -> bool:
    return since is not None and source.row is not None and (source.row.last_at or source.row.ended_at) < since


@dataclass(frozen=True)
class Found:
    """The newest matches, oldest first, of `total` found; not `complete` when the time for it was over."""

    entries: list[Entry]
    total: int
    complete: bool


def search(chosen: Iterable[Source], text: str, *, most: int, since: datetime | None = None) -> Found:
    """Lines with the text, whatever its case, in all that is kept. Bounded in time: instances that ended last first."""
    wanted, deadline, seen = text.casefold(), time.monotonic() + SEARCH_S, 0
    found: list[Entry] = []
    total, complete = 0, True
    several = list(chosen)
    for source in several:
        if _before(source, since):
            continue
        matches: deque[Entry] = deque(maxlen=most)
        for entry in source.lines("" if len(several) == 1 else source.after):
            seen += 1
            if not seen % 1000 and (time.monotonic() > deadline or seen > SEARCH_LINES):
                complete = False
                break
            if (since is None or entry.at >= since) and wanted in clean(entry.text).casefold():
                total += 1
                matches.append(entry)
        found += matches
        if not complete:
            break
    found.sort(key=lambda entry: entry.at)
    return Found(_fitting(found[-most:]), total, complete)


def window(source: Source, start: datetime, end: datetime, *, most: int) -> list[Entry]:
    """What one instance said between two moments."""
    found: list[Entry] = []
    for entry in source.lines():
        if entry.at > end or len(found) >= most:
            break
        if entry.at >= start:
            found.append(entry)
    return found


def alive(source: Source, start: datetime, end: datetime) -> bool:
    """Whether it ran at some moment between these two; a start is written down a little late."""
    slack = timedelta(seconds=2)
    began = source.covers_from is not None and source.covers_from - slack <= end
    return began and (source.row is None or source.row.ended_at + slack >= start)


def server_log(workspace: str, endpoint: str, deployment: str, *, tail: int) -> str:
    """The last lines of each living instance, one after the other; when none lives, of the last one of each revision.

    Empty when there never was an instance.
    """
    found, _ = sources(workspace, endpoint, deployment=deployment)
    living = [source for source in found if source.living is not None]
    if not living:
        newest = max((source.revision for source in found), default=0)
        living = [source for source in found if source.revision == newest][:3][::-1]
    return "\n\n".join(_with_head(source, min(tail, TAIL_MOST)) for source in living)


def _with_head(source: Source, count: int) -> str:
    state = source.living.state if source.living is not None else "gone"
    if source.row is not None:
        state = f"{source.row.get_why_display().lower()}, {source.row.ended_at:%Y-%m-%dT%H:%M:%SZ}"
        if source.row.exit_code is not None:
            state += f", exit code {source.row.exit_code}"
    entries, _ = source.last_lines(count)
    lines = [f"{entry.at:%Y-%m-%dT%H:%M:%S.%f}Z {entry.text}" for entry in entries[-count:]]
    return "\n".join([f"Instance {source.index} (revision {source.revision}), {state}:", *lines])

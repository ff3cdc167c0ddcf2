"""Keeping what replicas said: one compressed file per life of a replica, one row that finds it.

Whoever removes a replica calls `keep` before. A file appears by a rename and a row only behind its file, so a kill
leaves neither half a file nor a row without one; running it again makes the same file and finds the row.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog
from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from apps.core.controller import every
from apps.monitoring.models.logs import ReplicaLog

log = structlog.get_logger(__name__)

DRAFT = ".draft"
STREAMS = {"stdout": "o", "stderr": "e"}
MOST_BYTES = 64 * 2**20
SWEEP_STEP = 100
SWEEP_S = 5.0
SMALLEST_BYTES = 4096  # what the smallest file takes on a disk
STRAY_S = 3600.0


class Line(NamedTuple):
    at: datetime
    text: str
    stream: str = "stdout"


class Said(Protocol):
    """A line as drivers give it."""

    @property
    def at(self) -> datetime: ...
    @property
    def text(self) -> str: ...
    @property
    def stream(self) -> str: ...


class Chunk(Protocol):
    @property
    def lines(self) -> Sequence[Said]: ...
    @property
    def mark(self) -> str: ...


@dataclass(frozen=True)
class Life:
    """One life of a replica, with its end."""

    workspace: str
    endpoint: str
    deployment: str
    revision: int
    index: int
    replica: str
    address: str
    started_at: datetime
    ended_at: datetime
    why: str
    exit_code: int | None = None
    oom: bool = False
    reason: dict[str, Any] | None = None


def folder() -> Path:
    return settings.HOME.logs / "replicas"


def keep(life: Life, read: Callable[[str], Chunk]) -> ReplicaLog:
    """Keep what a replica said in this life, and how it ended. Once it is kept, nothing happens.

    Args:
        read: the lines behind a mark, and the mark behind them; no lines when there are no more.
    """
    known = ReplicaLog.objects.filter(replica=life.replica, started_at=life.started_at).first()
    if known is not None:
        return known
    name = f"{life.replica}-{life.started_at.astimezone(UTC):%Y%m%dT%H%M%S%f}.log.gz"
    path = folder() / life.workspace / life.endpoint / life.deployment / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = _write(path, read, mark_of(life.workspace, life.replica))
    if found["lines"]:
        found |= {"file": str(path.relative_to(folder())), "size_bytes": path.stat().st_size}
    row, _ = ReplicaLog.objects.get_or_create(
        replica=life.replica, started_at=life.started_at, defaults={**asdict(life), **found}
    )
    return row


def mark_of(workspace: str, replica: str) -> str:
    """Behind the last line that is kept already."""
    rows = ReplicaLog.objects.filter(workspace=workspace, replica=replica).order_by("-started_at")
    return rows.values_list("mark", flat=True).first() or ""


def _write(path: Path, read: Callable[[str], Chunk], mark: str) -> dict[str, Any]:
    draft = path.with_name(f"{path.name}.{os.getpid()}{DRAFT}")
    first = last = None
    count = size = 0
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            while size < MOST_BYTES and (chunk := read(mark)).lines:
                data = b"".join(map(_as_bytes, chunk.lines))
                packed.write(data)
                first, last, mark = first or chunk.lines[0].at, chunk.lines[-1].at, chunk.mark
                count, size = count + len(chunk.lines), size + len(data)
            packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        if count:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return {"first_at": first, "last_at": last, "lines": count, "mark": mark}


def _as_bytes(line: Said) -> bytes:
    text = line.text.replace("\n", " ")
    stamp = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"{stamp} {STREAMS.get(line.stream, 'o')} {text}\n".encode("utf-8", "replace")


def lines_of(row: ReplicaLog) -> Iterator[Line]:
    """Every line of a kept log, oldest first; of a broken file what can be read, none when it is lost."""
    if not row.file:
        return
    with suppress(OSError, EOFError, zlib.error), gzip.open(folder() / row.file, "rb") as packed:
        for raw in packed:
            stamp, _, rest = raw[:-1].decode("utf-8", "replace").partition(" ")
            stream, _, text = rest.partition(" ")
            if (at := _time(stamp)) is not None:
                yield Line(at, text, "stderr" if stream == "e" else "stdout")


def _time(stamp: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


# ---- retention


@every(60.0, "kept-logs")
def sweep() -> int:
    """Forget what is too old or too much, for a bounded time; how many logs went."""
    gone, deadline = 0, time.monotonic() + SWEEP_S
    while (step := _sweep_step()) > 0:
        gone += step
        if time.monotonic() >= deadline:
            break
    return gone


def _sweep_step() -> int:
    limit = timezone.now() - timedelta(days=settings.LOG_DAYS)
    gone = _forget(ReplicaLog.objects.filter(ended_at__lt=limit).order_by("ended_at")[:SWEEP_STEP])
    rows = ReplicaLog.objects.order_by("ended_at", "pk")
    excess = (rows.aggregate(total=Sum("size_bytes"))["total"] or 0) + SMALLEST_BYTES * rows.count()
    excess -= settings.LOG_BYTES
    oldest = []
    for row in rows[:SWEEP_STEP] if excess > 0 else ():
        if excess <= 0:
            break
        excess -= row.size_bytes + SMALLEST_BYTES
        oldest.append(row)
    return gone + _forget(oldest)


def _forget(rows: Any) -> int:
    count = 0
    for row in rows:
        if row.file:
            (folder() / row.file).unlink(missing_ok=True)  # before the row: a file without one is found by nobody
        row.delete()
        count += 1
    return count


@every(1800.0, "stray-logs")
def sweep_strays() -> int:
    """Remove files that an interrupted `keep` left and no row knows; how many. Empty folders go too."""
    removed = 0
    known: set[str] | None = None
    old = timezone.now().timestamp() - STRAY_S
    for top, _, names in os.walk(folder(), topdown=False):
        for name in names:
            path = Path(top, name)
            with suppress(FileNotFoundError):
                if path.stat().st_mtime > old:
                    continue
                known = known if known is not None else set(ReplicaLog.objects.values_list("file", flat=True))
                if str(path.relative_to(folder())) not in known:
                    path.unlink()
                    removed += 1
        with suppress(OSError):
            if Path(top) != folder():
                Path(top).rmdir()
    return removed

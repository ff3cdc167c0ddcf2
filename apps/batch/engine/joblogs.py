"""The logs tree of a job (spec 7.2), kept with the job: what worker processes print, and what the engine notes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog
from django.utils import timezone

from apps.batch.engine import folders
from apps.batch.models import Job
from apps.batch.settings import JobSettings
from apps.compute.drivers.base import LogLine
from apps.registry.stores.local import NO_SPACE

log = structlog.get_logger(__name__)

MOST_BYTES = 20 * 2**20  # of one file
MOST_OF_JOB = 200 * 2**20  # of all files that scripts fill
MEASURE_S = 10.0
MOST_KNOWN = 1000  # jobs whose size we remember
LONGEST_LINE = 16 * 1024
CUT = "-- this log has reached its limit; what follows is not kept --\n"
TAGGED = re.compile(r"(-|[0-9]{1,4})\t([oe])\t(.*)", re.DOTALL)
OVERVIEW = "logs/job_progress_overview.txt"
MASTER = "logs/sys/master_role.txt"
ERRORS = "logs/user/error.txt"
README = "logs/readme.txt"
OURS = {OVERVIEW, MASTER, README}  # written by the engine, some lines at a time
README_TEXT = """logs/job_progress_overview.txt   what became of the mini-batches
logs/sys/master_role.txt         what the scheduler did
logs/sys/node/                   what the batch worker itself said, for each node
logs/user/error.txt              failed mini-batches, with the reason
logs/user/stdout/, stderr/       what the scoring script printed, for each node and process
"""


@dataclass
class _Known:
    """What this process knows of a job's tree."""

    bytes: int = 0
    measured_at: float = -1e9
    full: bool = False
    warned: bool = False


_known: dict[UUID, _Known] = {}


def append(job: Job, name: str, lines: Iterable[str]) -> None:
    """Add lines to a file of the tree. What is beyond MOST_BYTES or MOST_OF_JOB is left out, and that is said.

    A full disk loses the lines, never the job.
    """
    known = _of(job)
    try:
        if name in OURS or not _full(job, known):
            known.bytes += _append(job, name, lines)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        if not known.warned:
            log.warning("joblogs.disk_full", job=job.name)
        known.warned = True


def _of(job: Job) -> _Known:
    if job.pk not in _known and len(_known) >= MOST_KNOWN:
        _known.clear()
    return _known.setdefault(job.pk, _Known())


def _full(job: Job, known: _Known) -> bool:
    """Whether scripts have filled the tree. Others write to it too, so it is measured now and then."""
    if time.monotonic() - known.measured_at > MEASURE_S:
        known.measured_at = time.monotonic()
        known.bytes = sum(size for name, size in tree(job) if name not in OURS)
    if known.bytes < MOST_OF_JOB:
        known.full = False
    elif not known.full:
        known.full = True
        note(job, f"the logs have reached {MOST_OF_JOB // 2**20} MiB; what scripts print from now on is not kept")
    return known.full


def _append(job: Job, name: str, lines: Iterable[str]) -> int:
    path = folders.logs(job) / name.removeprefix("logs/")
    path.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size if path.exists() else 0
    if size >= MOST_BYTES:
        return 0
    text = "".join(f"{line[:LONGEST_LINE]}\n" for line in lines)
    data = text.encode("utf-8", "replace")
    if size + len(data) > MOST_BYTES:
        data = data[: MOST_BYTES - size] + f"\n{CUT}".encode()
    with path.open("ab") as stream:
        stream.write(data)
    return len(data)


def note(job: Job, text: str, *, name: str = MASTER) -> None:
    """A line with the time."""
    append(job, name, [f"{timezone.now():%Y-%m-%dT%H:%M:%S.%fZ} {text}"])


def sort_out(job: Job, node: str, lines: Iterable[LogLine]) -> None:
    """Spread what a node's worker printed over the files of its processes.

    Scripts print to the same stream: a number that no process has is no number.
    """
    most = JobSettings.of(job.settings).max_concurrency_per_instance
    found: dict[str, list[str]] = {}
    for line in lines:
        match = TAGGED.match(line.text)
        if match is None or match[1] == "-" or int(match[1]) >= most:
            name, text = f"logs/sys/node/{node}.txt", match[3] if match and match[1] == "-" else line.text
        else:
            stream = "stdout" if match[2] == "o" else "stderr"
            name, text = f"logs/user/{stream}/{node}/process{int(match[1])}.{stream}.txt", match[3]
        found.setdefault(name, []).append(text)
    for name, texts in found.items():
        append(job, name, texts)


def tree(job: Job) -> list[tuple[str, int]]:
    """(name, bytes) of every log file, sorted."""
    root = folders.of(job) / "logs"
    found = [(path, path.stat().st_size) for path in root.rglob("*") if path.is_file()] if root.is_dir() else []
    return sorted((f"logs/{path.relative_to(root).as_posix()}", size) for path, size in found)


def path_of(job: Job, name: str) -> Path | None:
    """The file of a name of the tree; None when there is none, whatever the name is."""
    return next(
        (folders.of(job) / each for each, _size in tree(job) if each == name),
        None,
    )


def read(job: Job, name: str, *, after: int = 0, most: int = 2**18) -> tuple[str, int]:
    """(text, where it ends) of a log file from byte `after` on. Raises FileNotFoundError."""
    path = path_of(job, name)
    if path is None:
        raise FileNotFoundError(name)
    with path.open("rb") as stream:
        stream.seek(after)
        data = stream.read(most)
    return data.decode("utf-8", "replace"), after + len(data)

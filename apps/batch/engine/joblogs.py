"""The logs tree of a job (spec 7.2), kept with the job: what worker processes print, and what the engine notes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from django.utils import timezone

from apps.batch.engine import folders
from apps.batch.models import Job
from apps.compute.drivers.base import LogLine

MOST_BYTES = 20 * 2**20  # of one file
LONGEST_LINE = 16 * 1024
CUT = "-- this log has reached its limit; what follows is not kept --\n"
TAGGED = re.compile(r"(-|\d{1,4})\t([oe])\t(.*)", re.DOTALL)
OVERVIEW = "logs/job_progress_overview.txt"
MASTER = "logs/sys/master_role.txt"
ERRORS = "logs/user/error.txt"
README = "logs/readme.txt"
README_TEXT = """logs/job_progress_overview.txt   what became of the mini-batches
logs/sys/master_role.txt         what the scheduler did
logs/sys/node/                   what the batch worker itself said, for each node
logs/user/error.txt              failed mini-batches, with the reason
logs/user/stdout/, stderr/       what the scoring script printed, for each node and process
"""


def append(job: Job, name: str, lines: Iterable[str]) -> None:
    """Add lines to a file of the tree. What comes after MOST_BYTES is left out, and that is said."""
    path = folders.logs(job) / name.removeprefix("logs/")
    path.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size if path.exists() else 0
    if size >= MOST_BYTES:
        return
    text = "".join(f"{line[:LONGEST_LINE]}\n" for line in lines)
    data = text.encode("utf-8", "replace")
    if size + len(data) > MOST_BYTES:
        data = data[: MOST_BYTES - size] + f"\n{CUT}".encode()
    with path.open("ab") as stream:
        stream.write(data)


def note(job: Job, text: str, *, name: str = MASTER) -> None:
    """A line with the time."""
    append(job, name, [f"{timezone.now():%Y-%m-%dT%H:%M:%S.%fZ} {text}"])


def sort_out(job: Job, node: str, lines: Iterable[LogLine]) -> None:
    """Spread what a node's worker printed over the files of its processes."""
    found: dict[str, list[str]] = {}
    for line in lines:
        match = TAGGED.match(line.text)
        if match is None or match[1] == "-":
            name, text = f"logs/sys/node/{node}.txt", match[3] if match else line.text
        else:
            stream = "stdout" if match[2] == "o" else "stderr"
            name, text = f"logs/user/{stream}/{node}/process{match[1]}.{stream}.txt", match[3]
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

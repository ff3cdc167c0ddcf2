"""The first rows of a Parquet file, read by a process that may not take much and may fail."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from apps.registry.locations import Location

SUFFIXES = (".parquet", ".parq", ".pq")
CHILD = Path(__file__).with_name("parquet_child.py")
TIMEOUT_S = 20
COPIED = 64 * 2**20  # bytes of a file that is not on this machine
COPY_S = 30
PIECE = 2**20
LIMITS = {
    "memory": 3 * 2**29,  # bytes of address space
    "cpu": 15,  # seconds
    "written": 16 * 2**20,
    "footer": 16 * 2**20,
    "read": 64 * 2**20,  # bytes of rows that are decoded
}
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
_places = threading.BoundedSemaphore(2)


class NotShownError(Exception):
    """The file cannot be shown; its text says why."""


def read(location: Location, name: str, *, rows: int, columns: int, cell: int) -> dict[str, Any]:
    """`head`, `types`, `rows`, `count` of all rows and `width`: of all columns. `cell`: characters of a value.

    Raises NotShownError, and Problem when the file cannot be read at all.
    """
    with location.open(name) as stream:
        if location.local_path() is not None:
            return _read(stream, {**LIMITS, "rows": rows, "columns": columns, "cell": cell})
        with tempfile.TemporaryFile() as copy:
            _copy(stream, copy)
            return _read(copy, {**LIMITS, "rows": rows, "columns": columns, "cell": cell})


def _copy(stream: BinaryIO, copy: BinaryIO) -> None:
    """The footer is at the end, so there must be all of it."""
    end, size = time.monotonic() + COPY_S, 0
    while piece := stream.read(PIECE):
        size += len(piece)
        if size > COPIED or time.monotonic() > end:
            raise NotShownError(_("This file is too large to be looked into from afar: download it."))
        copy.write(piece)
    copy.flush()


def _read(source: BinaryIO, limits: dict[str, int]) -> dict[str, Any]:
    source.seek(0)
    if not _places.acquire(timeout=TIMEOUT_S):
        raise NotShownError(_("Other files are being looked into: try again."))
    try:
        with tempfile.TemporaryFile() as out:
            command = [sys.executable, "-I", str(CHILD), json.dumps(limits)]
            done = subprocess.run(
                command,
                stdin=source,
                stdout=out,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                timeout=TIMEOUT_S,
                check=False,
            )
            out.seek(0)
            answer: dict[str, Any] = json.loads(out.read(limits["written"])) if done.returncode == 0 else {}
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    finally:
        _places.release()
    if "rows" not in answer:
        raise NotShownError(_reason(answer))
    return answer


def _reason(answer: dict[str, Any]) -> str:
    reasons = {
        "none": _("This is no Parquet file, or its end is missing: download it."),
        "encrypted": _("This file is encrypted: download it."),
        "footer": _("This file describes too many columns or pieces to be shown: download it."),
        "broken": _("This file cannot be read as Parquet: %(evidence)s"),
    }
    large = _("This file takes too much memory or time to be shown: download it.")
    return reasons.get(answer.get("reason", ""), large) % {"evidence": answer.get("evidence", "")}

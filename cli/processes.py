"""Finding and ending processes of this installation that an earlier start left behind. Linux, standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cli.home import Home


@dataclass(frozen=True)
class Process:
    """`started` (clock ticks since boot) tells it from a later process with the same pid."""

    pid: int
    started: int
    part: str

    def alive(self) -> bool:
        return _started(self.pid) == self.started


def _started(pid: int) -> int | None:
    """Start time in ticks; None when there is no such process or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def leftovers(home: Home) -> list[Process]:
    """Parts (not replicas) of this home that run although their supervisor is gone."""
    found = []
    marker = f"PORTWAY_HOME={home.root}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        part = next((each[13:].decode() for each in environment if each.startswith(b"PORTWAY_PART=")), "")
        started = _started(int(folder.name))
        if part and marker in environment and started is not None:
            found.append(Process(int(folder.name), started, part))
    return found


def end(processes: Iterable[Process], *, grace_s: float) -> None:
    """TERM, wait, KILL; only what still is the process that was found."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 3.0)):
        living = [process for process in processes if process.alive()]
        for process in living:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait_s
        while any(process.alive() for process in living) and time.monotonic() < deadline:
            time.sleep(0.05)


def die_with_parent() -> None:
    """For `preexec_fn`: get SIGTERM when the process that starts this one is gone, however it ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)

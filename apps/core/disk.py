"""How much room folders take. Every walk has a deadline: a number may be "at least"."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """Bytes as the disk counts them. `shared`: of files that have a name elsewhere too, so deleting here frees none."""

    total: int
    shared: int
    whole: bool

    @property
    def own(self) -> int:
        return self.total - self.shared


def measure(path: Path, *, seconds: float = 2.0) -> Room:
    """What a file or folder takes; links are not followed. A missing one takes nothing."""
    deadline = time.monotonic() + seconds
    total = shared = 0
    waiting = [str(path)]
    try:
        if not path.is_dir() or path.is_symlink():
            found = path.lstat()
            return Room(found.st_blocks * 512, found.st_blocks * 512 if found.st_nlink > 1 else 0, whole=True)
    except OSError:
        return Room(0, 0, whole=True)
    while waiting:
        if time.monotonic() > deadline:
            return Room(total, shared, whole=False)
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    total += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif found.st_nlink > 1:
                        shared += found.st_blocks * 512
        except OSError:
            continue  # gone or closed meanwhile
    return Room(total, shared, whole=True)

"""The state folder: one folder per replica, written by its shim, read by all others. Nothing here starts anything."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.compute.drivers.base import FAILURE_NAME, Failure
from apps.compute.drivers.files import locked, read_failure

JSON_BYTES = 1024 * 1024
LOCKS = 64


def read_json(path: Path) -> dict[str, Any] | None:
    """None when the file is missing or is no JSON object."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(JSON_BYTES))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(value, file)
    temporary.replace(path)


@dataclass(frozen=True)
class Process:
    """One process, told from a later one with the same pid by its start time."""

    pid: int
    ticks: int

    def alive(self) -> bool:
        """It runs: neither gone, nor recycled, nor a zombie that nobody has collected yet."""
        if self.pid <= 0:
            return False
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return False
        return bool(fields) and int(fields[19]) == self.ticks and fields[0] not in "ZX"

    def signal(self, number: int) -> None:
        """Signal this process and no other: the descriptor is taken before the start time is compared."""
        with contextlib.suppress(ProcessLookupError), pidfd(self.pid) as fd:
            if self.alive():
                signal.pidfd_send_signal(fd, number)

    def wait(self, timeout: float) -> bool:
        """True when it has ended within `timeout` seconds."""
        if not self.alive():
            return True
        try:
            with pidfd(self.pid) as fd:
                return not self.alive() or bool(select.select([fd], [], [], max(0.0, timeout))[0])
        except ProcessLookupError:
            return True


@contextlib.contextmanager
def pidfd(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Folder:
    """One replica's files."""

    path: Path
    run: Path

    def file(self, name: str) -> Path:
        return self.path / name

    def spec(self) -> dict[str, Any] | None:
        return read_json(self.file("spec.json"))

    def shim(self) -> dict[str, Any] | None:
        return read_json(self.file("shim.json"))

    def exit(self) -> dict[str, Any] | None:
        return read_json(self.file("exit.json"))

    def failure(self) -> Failure | None:
        return read_failure(self.run / "s" / FAILURE_NAME)


class Store:
    """All replicas' folders below `root`, their short socket folders below `run_dir`, and who owns which."""

    def __init__(self, root: Path, run_dir: Path) -> None:
        self.root = root
        self.run_dir = run_dir

    def prepare(self) -> None:
        for folder in (self.root, self.root / ".locks", self.root / ".owners"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)

    def folder(self, name: str) -> Folder:
        return Folder(self.root / name, self.run_dir / name)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One starter at a time per name, over all processes. Names share a few lock files, so none is ever left."""
        with locked(self.root / ".locks" / str(zlib.crc32(name.encode()) % LOCKS)):
            yield

    def groups(self) -> contextlib.AbstractContextManager[None]:
        """The lock under which shims make control groups: who removes the folder they share takes it too."""
        return locked(self.root / ".groups.lock")

    def owner_dir(self, owner: str) -> Path:
        return self.root / ".owners" / hashlib.sha256(owner.encode()).hexdigest()[:32]

    def own(self, owner: str, name: str) -> None:
        folder = self.owner_dir(owner)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / name).touch()

    def disown(self, owner: str, name: str) -> None:
        (self.owner_dir(owner) / name).unlink(missing_ok=True)

    def owned(self, owner: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.owner_dir(owner)))
        except FileNotFoundError:
            return []

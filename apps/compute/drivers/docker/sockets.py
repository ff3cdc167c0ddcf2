"""The folder of one replica on this machine: outside, links for the gateway; inside, what the container writes."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from apps.compute.drivers.base import (
    FAILURE_NAME,
    GRPC_SOCKET_NAME,
    SOCKET_NAME,
    DriverUnavailable,
    Failure,
)
from apps.compute.drivers.files import is_socket, overfull, read_failure, share_socket

NAMES = (SOCKET_NAME, GRPC_SOCKET_NAME)


@dataclass(frozen=True)
class SocketFolder:
    """`path` is Portway's own, where nobody else writes; `inside` is SOCKET_DIR of the container."""

    path: Path

    @property
    def inside(self) -> Path:
        return self.path / "s"

    def prepare(self, user: str, *, anybody: bool) -> None:
        """Empty, and writable for the container's user. `anybody`: it is not known here who that is."""
        self.remove()
        self.path.mkdir(mode=0o755, parents=True)
        self.path.chmod(0o755)  # whatever the umask: the gateway must get to the sockets
        self.inside.mkdir()
        self.inside.chmod(0o1777 if anybody else 0o755)  # sticky: nobody takes away another one's socket
        if os.geteuid() == 0 and not anybody:
            uid, _, gid = user.partition(":")
            os.chown(self.inside, int(uid), int(gid))

    def address(self) -> str | None:
        """Where the server listens; None: not yet."""
        for name in NAMES:
            try:
                share_socket(self.inside / name, self.path / name)
            except PermissionError as error:
                raise DriverUnavailable(f"The socket {self.inside / name} cannot be handed on: {error}") from error
        return f"unix:{self.path / SOCKET_NAME}" if is_socket(self.path / SOCKET_NAME) else None

    def close(self) -> None:
        """After its server has ended, nobody shall connect to what is left."""
        for name in NAMES:
            (self.path / name).unlink(missing_ok=True)

    def overfull(self) -> Failure | None:
        return overfull(self.inside)

    def failure(self) -> Failure | None:
        return read_failure(self.inside / FAILURE_NAME)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

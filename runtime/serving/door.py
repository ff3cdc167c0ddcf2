"""The unix socket: it appears in one step, listening, and replaces a stale one."""

from __future__ import annotations

import socket
from pathlib import Path

BACKLOG = 1024


def bind_unix(path: Path) -> socket.socket:
    """A listening socket that is not yet at `path`; rename `.binding` to it to open the door."""
    half = path.with_name(f"{path.name}.binding")
    half.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(half))
    half.chmod(0o666)  # who may connect is decided by the folder, which belongs to the driver
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def open_door(path: Path) -> None:
    path.with_name(f"{path.name}.binding").replace(path)

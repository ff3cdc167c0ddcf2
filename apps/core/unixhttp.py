"""HTTP over a unix socket, with the standard library's client. Plain Python: drivers and the gateway use it too."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """An HTTPConnection to the socket at `path`; `timeout` (seconds) holds for connecting and for each read."""

    def __init__(self, path: Path | str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

"""Talking to our supervisor over its socket. Standard library only."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any


class UnixLink(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, *, timeout_s: float = 30) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002 -- the base's signature
        return UnixLink(self._path)


def call(path: Path, method: str, *arguments: Any) -> Any:
    """One call of supervisor's XML-RPC interface, e.g. "startProcess".

    Raises:
        OSError, xmlrpc.client.Error: it does not answer, or refuses.
    """
    with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_Transport(path)) as proxy:
        return getattr(proxy.supervisor, method)(*arguments)


def answers(path: Path) -> bool:
    """Whether it answers. Being asked also makes it start its programs at once and not at its next second."""
    try:
        call(path, "getState")
    except (OSError, xmlrpc.client.Error, http.client.HTTPException):
        return False
    return True

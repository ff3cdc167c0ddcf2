"""Asking a replica over its socket whether it is ready."""

from __future__ import annotations

import http.client

from apps.compute.drivers.base import GRPC_SOCKET_NAME
from apps.core.unixhttp import UnixConnection

TIMEOUT_S = 1.0


def connection(address: str, *, timeout_s: float = TIMEOUT_S) -> http.client.HTTPConnection:
    """A connection to "unix:/path" or "host:port"."""
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"), timeout=timeout_s)
    host, _, port = address.rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=timeout_s)


def at(address: str, port: int | None) -> str:
    """The same machine at another port; a socket has none."""
    return address if port is None or address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def grpc_at(address: str, port: int) -> str:
    """Where the replica at `address` speaks gRPC: another port of its machine, or the socket beside its own."""
    if not address.startswith("unix:"):
        return at(address, port)
    return f"{address.rpartition('/')[0]}/{GRPC_SOCKET_NAME}"


def answers(address: str, path: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether GET `path` gives 200 in time."""
    link = connection(address, timeout_s=timeout_s)
    try:
        link.request("GET", path)
        return link.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()

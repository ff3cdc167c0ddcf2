"""Asking a replica over its socket whether it is ready."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from apps.compute.drivers.base import GRPC_SOCKET_NAME
from apps.core.unixhttp import UnixConnection

TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What a server said when it was asked; `said` is for people, "" when all is well."""

    ok: bool
    said: str = ""
    status: int = 0
    refused: bool = False


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


def ask(address: str, path: str, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """GET `path`: 200 in time, or why not."""
    where = "" if address.startswith("unix:") else f" on port {address.rpartition(':')[2]}"
    link = connection(address, timeout_s=timeout_s)
    try:
        link.request("GET", path)
        status = link.getresponse().status
        said = "" if status == http.client.OK else f"GET {path}{where}: answered {status}"
        return Answer(status == http.client.OK, said, status=status)
    except TimeoutError:
        return Answer(False, f"GET {path}{where}: no answer within {timeout_s:g} s")
    except (OSError, http.client.HTTPException) as error:
        refused = isinstance(error, ConnectionRefusedError)
        return Answer(False, f"GET {path}{where}: {error}", refused=refused)
    finally:
        link.close()

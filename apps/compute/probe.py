"""Asking a replica over its socket whether it is ready."""

from __future__ import annotations

import http.client

from apps.core.unixhttp import UnixConnection

TIMEOUT_S = 1.0


def connection(address: str, *, timeout_s: float = TIMEOUT_S) -> http.client.HTTPConnection:
    """A connection to "unix:/path" or "host:port"."""
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"), timeout=timeout_s)
    host, _, port = address.rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=timeout_s)


def answers(address: str, path: str) -> bool:
    """Whether GET `path` gives 200 within a second."""
    link = connection(address)
    try:
        link.request("GET", path)
        return link.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()

"""No connection to an address that is not public: the data that people name must not reach what is around us.

It is checked on the address of the socket, after the connection and before anything is sent, so a name that resolves
differently the second time gains nothing. `INPUT_HOSTS_ALLOWED` names the exceptions.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from urllib3.poolmanager import PoolManager

from apps.core.errors import Problem
from apps.registry.stores.base import refused

# addresses that carry an IPv4 address inside, which is where the connection would end
CARRIERS = [ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]
PORTS = {"http": 80, "https": 443}


def allowed(host: str, port: int | None) -> bool:
    """Whether the operator has named this host."""
    host = host.strip("[]").lower()
    return bool({host, f"{host}:{port}", f"[{host}]:{port}"} & settings.INPUT_HOSTS_ALLOWED)


def is_public(address: str) -> bool:
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    carried = any(found in each for each in CARRIERS if each.version == found.version)
    return bool(found.is_global and not found.is_multicast and not carried)


def check_url(url: str, field: str) -> str:
    """The URL, if its form is right: HTTPS, or plain HTTP to a host the operator named. Raises Problem "bad-field"."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise refused(field, "is not a URL") from None
    if parts.scheme not in PORTS or not host or not url.isprintable() or not url.isascii() or " " in url:
        raise refused(field, "must be a URL that begins with https://")
    if parts.username is not None or parts.password is not None:
        raise refused(field, "must not hold a user name or a password")
    if parts.scheme == "http" and not allowed(host, port or PORTS["http"]):
        raise refused(field, "must begin with https://")
    return url


class Watch:
    """The connections that one thread uses for one piece of work; `over` when its time has come."""

    def __init__(self) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._used: list[socket.socket] = []

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._used.append(sock)
            if self.over:
                _shut(sock)

    def end(self) -> None:
        with self._lock:
            self.over = True
            for sock in self._used:
                _shut(sock)


def _shut(sock: socket.socket) -> None:
    """Wakes whoever reads from it, with an end."""
    with suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own would let the reader see what is not deciphered


_current = threading.local()


@contextmanager
def watched(seconds: float) -> Iterator[Watch]:
    """End every connection that this thread uses in the block when the time is over, however little comes how often."""
    watch = Watch()
    timer = threading.Timer(seconds, watch.end)
    timer.daemon = True
    timer.start()
    _current.watch = watch
    try:
        yield watch
    finally:
        _current.watch = None
        timer.cancel()


class _Checked:
    host: str
    port: int
    sock: Any

    def _new_conn(self) -> Any:
        sock = super()._new_conn()  # type: ignore[misc]
        if not allowed(self.host, self.port) and not is_public(sock.getpeername()[0]):
            sock.close()
            raise Problem(
                "bad-field",
                field="uri",
                target="uri",
                reason=f"{self.host} is not a public address, and the operator has not named it",
                hint="Ask the operator to add it to PORTWAY_INPUT_HOSTS.",
            )
        return sock

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        watch: Watch | None = getattr(_current, "watch", None)
        if watch is not None and self.sock is not None:
            watch.add(self.sock)
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]


def guard(manager: PoolManager) -> None:
    """Have a manager's connections checked."""
    classes: Any = {}
    pools: Any = manager.pool_classes_by_scheme
    for scheme, pool in pools.items():
        connection = type(f"Checked{pool.ConnectionCls.__name__}", (_Checked, pool.ConnectionCls), {})
        classes[scheme] = type(f"Checked{pool.__name__}", (pool,), {"ConnectionCls": connection})
    manager.pool_classes_by_scheme = classes


def problem_in(error: BaseException | None) -> Problem | None:
    """Our own problem, where a client has wrapped it in an error of its own."""
    for _ in range(10):
        if error is None or isinstance(error, Problem):
            return error
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
    return None

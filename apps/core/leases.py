"""Lease rows with fencing tokens: how controllers and workers share work. The row decides, not a lock server."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Case, F, Q, When

from apps.core import clock
from apps.core.errors import Problem
from apps.core.models import Lease

SEARCH_TTL_S = 30.0  # longer than any takes


class LeaseTaken(Exception):  # noqa: N818 -- a condition, not a failure
    """Somebody else holds the lease."""


@dataclass(frozen=True)
class Grant:
    name: str
    holder: str
    token: int


def new_holder() -> str:
    """A name for one holder: host, process and thread can be read from it; no two are ever the same."""
    return f"{socket.gethostname()[:30]}:{os.getpid()}:{threading.get_ident() % 10**6}:{uuid.uuid4().hex[:8]}"


def acquire(name: str, *, holder: str, ttl_s: float) -> Grant | None:
    """Take or renew a lease for `ttl_s` seconds; None when somebody else has it.

    The token grows when the holder changes or comes back after expiry.
    """
    now = clock.now()
    Lease.objects.get_or_create(name=name, defaults={"expires_at": now})
    hit = (
        Lease.objects.filter(name=name)
        .filter(Q(expires_at__lte=now) | Q(holder=holder))
        .update(
            token=Case(When(Q(holder=holder) & Q(expires_at__gt=now), then=F("token")), default=F("token") + 1),
            holder=holder,
            expires_at=now + timedelta(seconds=ttl_s),
        )
    )
    if not hit:
        return None
    lease = Lease.objects.get(name=name)
    return Grant(name, holder, lease.token) if lease.holder == holder else None


def release(grant: Grant) -> None:
    """Give the lease back early; nothing happens when it is somebody else's by now."""
    Lease.objects.filter(name=grant.name, holder=grant.holder, token=grant.token).update(expires_at=clock.now())


def drop(grant: Grant) -> None:
    """Give back a lease that nobody will ask for again."""
    Lease.objects.filter(name=grant.name, holder=grant.holder, token=grant.token).delete()


def holds(grant: Grant) -> bool:
    """Whether the grant is still good."""
    return Lease.objects.filter(
        name=grant.name, holder=grant.holder, token=grant.token, expires_at__gt=clock.now()
    ).exists()


@contextmanager
def held(name: str, *, ttl_s: float, wait_s: float = 0.0) -> Iterator[Grant]:
    """Hold a lease for the block, waiting up to `wait_s` seconds for it.

    Raises:
        LeaseTaken: somebody else kept it for longer than that.
    """
    holder = new_holder()
    deadline = time.monotonic() + wait_s
    while True:
        grant = acquire(name, holder=holder, ttl_s=ttl_s)
        if grant is not None:
            break
        if time.monotonic() >= deadline:
            raise LeaseTaken(name)
        time.sleep(0.05)
    try:
        yield grant
    finally:
        release(grant)


@contextmanager
def one_search_of(user: Any) -> Iterator[None]:
    """Searches through logs read much: each person does one at a time. Raises Problem "searching"."""
    grant = acquire(f"search/{user.pk}", holder=new_holder(), ttl_s=SEARCH_TTL_S)
    if grant is None:
        raise Problem("searching")
    try:
        yield
    finally:
        release(grant)

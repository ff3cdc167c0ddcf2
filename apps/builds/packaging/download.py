"""A package on its way to a browser or a script: in constant memory, one at a time for each person."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponseBase, StreamingHttpResponse

from apps.builds.packaging.domain import export
from apps.core import leases
from apps.core.errors import Problem
from apps.registry.models import EnvironmentVersion

MOST_S = 3600.0
PIECE = 1 << 18
LEASE_S, RENEW_S = 60.0, 15.0


def download(*, version: EnvironmentVersion, kind: str, actor: Any) -> HttpResponseBase:
    """The answer that carries the file. Raises what `domain.export` raises, and "busy"."""
    grant = leases.acquire(f"package-export/{actor.pk}", holder=leases.new_holder(), ttl_s=LEASE_S)
    if grant is None:
        raise Problem("busy", subject="an export of yours", kind="package.export")
    try:
        name, parts = export(version=version, kind=kind, actor=actor)
    except BaseException:
        leases.release(grant)
        raise
    answer = Sending(parts, grant)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


class Sending(StreamingHttpResponse):
    """Gives the lease back when all is sent, or when nobody wants it any more."""

    def __init__(self, parts: Iterator[bytes], grant: leases.Grant) -> None:
        self.grant: leases.Grant | None = grant
        super().__init__(self._stream(parts, grant), content_type="application/octet-stream")

    async def _stream(self, parts: Iterator[bytes], grant: leases.Grant) -> AsyncIterator[bytes]:
        self.grant = None
        deadline = time.monotonic() + MOST_S
        renewed = time.monotonic()
        try:
            while piece := await sync_to_async(_piece)(parts):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not sent within {MOST_S:.0f} s")
                if time.monotonic() - renewed > RENEW_S:
                    grant = await sync_to_async(_renewed)(grant)
                    renewed = time.monotonic()
                yield piece
        finally:
            await sync_to_async(_over)(parts, grant)

    def close(self) -> None:
        super().close()
        if self.grant is not None:
            leases.release(self.grant)
            self.grant = None


def _renewed(grant: leases.Grant) -> leases.Grant:
    """Raises TimeoutError when nothing was read for so long that the next export has begun."""
    again = leases.acquire(grant.name, holder=grant.holder, ttl_s=LEASE_S)
    if again is None:
        raise TimeoutError("another export took its place")
    return again


def _piece(parts: Iterator[bytes]) -> bytes:
    """The next bytes, in pieces that are worth a change of threads."""
    found = bytearray()
    for part in parts:
        found += part
        if len(found) >= PIECE:
            break
    return bytes(found)


def _over(parts: Iterator[bytes], grant: leases.Grant) -> None:
    try:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    finally:
        leases.release(grant)

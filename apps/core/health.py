"""Whether every part is up: the one place that asks. `/healthz`, `portway status` and the console show what it finds.

Beside the parts there are findings (the container engine, worker hosts, work that nobody can take), which take nothing
down: `portway doctor` and the console show them.

An app registers the check of its part. What a check raises may name paths and addresses, so `/healthz` shows only the
kind of the error; the console shows all of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.core import clock
from apps.core.models import Lease

TIMEOUT_S = 2.0
SILENT_S = 30.0  # a part that has not renewed its lease for so long is down
ORDER = ("web", "database", "broker", "worker", "controller", "gateway", "mlflow")


@dataclass(frozen=True)
class Found:
    """What a check learned. `since`: when the part was started, as far as this machine can tell."""

    detail: str = ""
    version: str = ""
    since: datetime | None = None
    seen: datetime | None = None


@dataclass(frozen=True)
class Part:
    name: str
    up: bool
    found: Found
    latency_ms: float
    error: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """What anybody may know."""
        return {"up": self.up, "detail": self.found.detail if self.up else self.error}


class Silent(Exception):  # noqa: N818 -- a condition, not a defect
    """A part has not given a sign of life; `seen` is its last one."""

    def __init__(self, seen: datetime | None) -> None:
        self.seen = seen
        super().__init__("has not been heard of")


@dataclass(frozen=True)
class Finding:
    """What is so with something that is no part of Portway, but without which some work stands still.

    `tone`: ok; idle when it is not there and need not be; degraded or failed, and `advice` says what to do.
    """

    name: str
    tone: str
    text: str
    advice: str = ""
    seen: datetime | None = None

    @property
    def word(self) -> str:
        words = {"ok": _("Fine"), "idle": _("Not used"), "degraded": _("Needs a look")}
        return words.get(self.tone) or _("Failed")

    @property
    def fine(self) -> bool:
        return self.tone in {"ok", "idle"}


_checks: dict[str, Callable[[], Found]] = {}
_looks: dict[str, Callable[[], list[Finding]]] = {}


def check(name: str) -> Callable[[Callable[[], Found]], Callable[[], Found]]:
    """Register the check of a part; it raises anything when the part is down."""

    def register(function: Callable[[], Found]) -> Callable[[], Found]:
        _checks[name] = function
        return function

    return register


def parts() -> list[Part]:
    """Ask every part. Takes at most a few seconds, however much is down."""
    return [_ask(name, _checks[name]) for name in ORDER if name in _checks]


def _ask(name: str, function: Callable[[], Found]) -> Part:
    began = time.monotonic()
    try:
        found, error, reason = function(), "", ""
    except Exception as problem:  # noqa: BLE001 -- whatever a part's client raises, the part is down
        found = Found(seen=getattr(problem, "seen", None))
        error, reason = type(problem).__name__, str(problem)[:300]
    return Part(name, not error, found, (time.monotonic() - began) * 1000, error, reason)


def look(name: str) -> Callable[[Callable[[], list[Finding]]], Callable[[], list[Finding]]]:
    """Register who knows about something beside the parts; it may raise anything when that cannot be asked."""

    def register(function: Callable[[], list[Finding]]) -> Callable[[], list[Finding]]:
        _looks[name] = function
        return function

    return register


def findings() -> list[Finding]:
    """What `portway doctor` and the console say beside the parts. Names and reasons are for administrators."""
    found: list[Finding] = []
    for name, function in _looks.items():
        try:
            found += function()
        except Exception as problem:  # noqa: BLE001 -- as for parts
            advice = _("See the log of the web part.")
            found.append(Finding(name, "failed", f"{type(problem).__name__}: {problem}"[:300], advice))
    return found


def started(pid: int) -> datetime | None:
    """When a process of this machine was started."""
    import psutil  # noqa: PLC0415 -- slow to import, and every process loads this module

    with contextlib.suppress(psutil.Error, OSError, ValueError):
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), tz=UTC)
    return None


def listener(path: Path) -> int:
    """The pid of who listens on a unix socket; raises OSError when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(TIMEOUT_S)
        link.connect(str(path))
        pid, _, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)


def beat(prefix: str, *, ttl_s: float) -> Found:
    """The newest lease of a part that renews one, for `ttl_s` seconds, as its sign of life. Raises Silent."""
    newest = Lease.objects.filter(name__startswith=prefix).order_by("-expires_at").first()
    if newest is None or newest.expires_at < clock.now() - timedelta(seconds=SILENT_S):
        raise Silent(newest.expires_at - timedelta(seconds=ttl_s) if newest else None)
    host, pid, *_ = [*newest.holder.split(":"), "0", "0"]
    here = host == socket.gethostname()[:30] and pid.isdigit()
    return Found(
        version=settings.VERSION,
        since=started(int(pid)) if here else None,
        seen=min(newest.expires_at - timedelta(seconds=ttl_s), clock.now()),
    )


@check("web")
def _web() -> Found:
    return Found(version=settings.VERSION, since=started(os.getpid()), seen=timezone.now())


@check("database")
def database() -> Found:
    with connection.cursor() as cursor:
        cursor.execute("SELECT sqlite_version()" if connection.vendor == "sqlite" else "SHOW server_version")
        version = cursor.fetchone()[0]
    return Found(detail=connection.vendor, version=str(version), seen=timezone.now())


@check("broker")
def _broker() -> Found:
    import redis  # noqa: PLC0415 -- as above

    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        facts: Any = client.info("server")
    finally:
        client.close()
    now = timezone.now()
    return Found(
        version=str(facts.get("valkey_version") or facts.get("redis_version", "")),
        since=now - timedelta(seconds=int(facts.get("uptime_in_seconds", 0))),
        seen=now,
    )


@check("worker")
def _worker() -> Found:
    return beat("worker/", ttl_s=15.0)


@check("controller")
def _controller() -> Found:
    return beat("controller/", ttl_s=30.0)


@check("mlflow")
def _mlflow() -> Found:
    pid = listener(settings.HOME.mlflow_socket)
    return Found(version=metadata.version("mlflow"), since=started(pid), seen=timezone.now())

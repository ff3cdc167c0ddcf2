"""The time by which hosts judge each other's leases: the database's. Their own clocks may be minutes apart."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

ASK_AGAIN_S = 60.0
_lock = threading.Lock()
_asked: tuple[float, datetime] | None = None  # when by the clock of `_passed`, and what the database said


def now() -> datetime:
    """The database server's time, without asking each time; ours where the database is a file of this machine."""
    if connection.vendor == "sqlite":
        return timezone.now()
    global _asked  # noqa: PLW0603 -- one for the process
    with _lock:
        known = _asked
    if known is None or _passed() - known[0] > ASK_AGAIN_S:
        known = _ask()
        with _lock:
            _asked = known
    return known[1] + timedelta(seconds=_passed() - known[0])


def _passed() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ask() -> tuple[float, datetime]:
    with connection.cursor() as cursor:
        started = _passed()
        cursor.execute("SELECT clock_timestamp()")
        (said,) = cursor.fetchone()
    return (started + _passed()) / 2, said

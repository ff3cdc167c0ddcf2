"""What replicas use, asked of their drivers side by side and never waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue

import structlog

from apps.compute.domain.recipes import driver, handle_of
from apps.compute.drivers.base import Handle, Usage
from apps.compute.models import Replica

log = structlog.get_logger(__name__)

AT_ONCE = 4
_hanging: list[threading.Thread] = []


def usage(replicas: Iterable[Replica], *, deadline_s: float) -> dict[int, Usage]:
    """By primary key, what each replica uses; one that does not run or does not tell in time is missing.

    A driver that hangs keeps its threads, so while any of an earlier call hang nothing new is asked.
    """
    _hanging[:] = [thread for thread in _hanging if thread.is_alive()]
    work: SimpleQueue[tuple[int, str, Handle]] = SimpleQueue()
    found: dict[int, Usage] = {}
    for replica in replicas:
        handle = handle_of(replica)
        if handle is not None:
            work.put((replica.pk, replica.set.driver, handle))
    if work.empty() or _hanging:
        return found
    deadline = time.monotonic() + deadline_s
    threads = [
        threading.Thread(target=_ask, args=(work, found, deadline), daemon=True)
        for _ in range(min(AT_ONCE, work.qsize()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    _hanging.extend(thread for thread in threads if thread.is_alive())
    return dict(found)


def _ask(work: SimpleQueue[tuple[int, str, Handle]], found: dict[int, Usage], deadline: float) -> None:
    while time.monotonic() < deadline:
        try:
            pk, name, handle = work.get_nowait()
        except Empty:
            return
        try:
            seen = driver(name).usage(handle)
        except Exception as error:  # noqa: BLE001 -- one replica's trouble must not hide the others
            log.info("usage.unknown", replica=handle.name, reason=str(error))
            continue
        if seen is not None:
            found[pk] = seen

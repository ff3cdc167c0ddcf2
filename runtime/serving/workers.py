"""Several serving processes behind one address (WORKER_COUNT above 1)."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import traceback
from typing import Any

from .door import bind_unix, open_door
from .failures import EXIT_FAILED_START, Record, StartError
from .log import log
from .settings import Settings

_LOOK_S = 0.2


def share(total: int, workers: int, number: int) -> int:
    """The slots of one worker, so that all together never run more than `total`."""
    return total // workers + (1 if number < total % workers else 0)


def supervise(settings: Settings, record: Record, granian: Any) -> int:
    """Fork the workers, open the door when every init() has succeeded, end all when one ends."""
    listener = bind_unix(settings.socket) if settings.bind is None else None
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    life_r, life_w = os.pipe()  # nobody writes to it: its end means that the parent is gone
    children: list[int] = []
    for number in range(settings.workers):
        pid = os.fork()
        if pid == 0:
            os.close(ready_r)
            os.close(go_w)
            os.close(life_w)
            slots = share(settings.max_concurrency, settings.workers, number)
            _child(settings, record, granian, slots, listener, (ready_w, go_r, life_r))
        children.append(pid)
    os.close(ready_w)
    os.close(go_r)
    os.close(life_r)
    stopping = _forward_signals(children)
    ended = _wait_ready(children, ready_r)
    if stopping:
        record.clear()
    if ended is None:
        if listener is not None:
            open_door(settings.socket)
        record.clear()
        os.write(go_w, b"g" * settings.workers)
        ended = os.waitpid(-1, 0)
    return _end(children, ended, stopping)


def _child(
    settings: Settings,
    record: Record,
    granian: Any,
    slots: int,
    listener: socket.socket | None,
    pipes: tuple[int, int, int],
) -> None:
    """The life of a worker; never returns into the parent's code."""
    from .server import Replica, give_up

    code = EXIT_FAILED_START
    ready, go, life = pipes
    try:
        replica = Replica(settings, record, granian, slots, clears=False)
        model, app = replica.load()
        os.write(ready, b"r")
        if os.read(go, 1):  # nothing: the parent is gone
            code = replica.listen(model, app, listener, life)
    except StartError as exc:
        code = give_up(record, exc)
    except BaseException:  # noqa: BLE001 -- the process ends here whatever it was
        traceback.print_exc()
    finally:
        os._exit(code)


def _forward_signals(children: list[int]) -> list[int]:
    asked: list[int] = []

    def forward(number: int, _frame: object) -> None:
        asked.append(number)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    return asked


def _wait_ready(children: list[int], ready: int) -> tuple[int, int] | None:
    """None when every worker is ready; else the one that ended first."""
    waiting = len(children)
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            return pid, status
        if select.select([ready], [], [], _LOOK_S)[0]:
            waiting -= len(os.read(ready, waiting))
    return None


def _end(children: list[int], ended: tuple[int, int], asked: list[int]) -> int:
    first, status = ended
    if not asked:
        log.error("Worker with pid %d ended; the replica ends with it", first)
        for pid in children:
            if pid != first:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
    for pid in children:
        if pid != first:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and not asked:
        _die_of(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _die_of(number: int) -> None:
    """End by the worker's signal, without a second core file: whoever watches us reads the true reason."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)

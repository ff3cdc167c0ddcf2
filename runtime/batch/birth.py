"""How a forked process becomes a worker, whether the node forked it or the node's template did."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import traceback
from typing import Callable

from . import worker
from .frames import Board
from .settings import Settings

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None).prctl


def adopt_orphans() -> None:
    """What loses its own parent below this process comes to it."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def leave(node: int) -> None:
    """A session of its own, an end with the node, and nothing of the node's ways with signals."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != node:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def become(
    conn: socket.socket, board: Board, ends: list[int], settings: Settings, node: int, close: Callable[[], None]
) -> None:
    """Be a worker that prints into the two `ends`; never returns. `close`: what it has of who forked it."""
    try:
        leave(node)
        # What loses its own parent comes to the worker while that lives, so what comes to the node is to end.
        adopt_orphans()
        silence()
        for number, end in enumerate(ends, 1):
            os.dup2(end, number)
            os.close(end)
        close()
        worker.live(conn, board, settings)
    except BaseException:  # noqa: BLE001 -- this process must not go on as a second parent
        traceback.print_exc()
    finally:
        os._exit(1)


def silence() -> None:
    """Nothing to read."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

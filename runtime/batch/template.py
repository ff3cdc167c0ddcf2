"""The template: a process that has imported what all workers of an MLflow model need, and from which they are forked.

It is a process of its own, so that an import which fails, hangs or crashes costs nothing but time: workers are then
forked from the node, and import for themselves. A worker is forked twice over: when the one between has ended, the
worker is the node's own child, as those are that the node forks.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from contextlib import suppress
from typing import Callable

from . import birth, warm
from .frames import Board, Boards
from .settings import Settings

_READY = b"ready"
_GO = b"g"
_PATIENCE_S = 30.0
"""How long the node waits for a fork, which takes milliseconds; a machine with too much to do may stall it."""
_NUMBER = struct.Struct("<q")


class Template:
    """As the node knows it."""

    def __init__(self) -> None:
        self.pid = 0  # until it is reaped
        self._control: socket.socket | None = None
        self._late_at: float | None = None
        self._ready = False

    @property
    def fd(self) -> int:
        return -1 if self._control is None else self._control.fileno()

    @property
    def waits_s(self) -> float | None:
        """Seconds until it is late; None when nobody waits for its imports."""
        return None if self._late_at is None else max(0.0, self._late_at - time.monotonic())

    @property
    def is_ready(self) -> bool:
        return self._ready

    def start(self, settings: Settings, boards: Boards, close: Callable[[], None]) -> None:
        """Fork it; OSError when that cannot be. `close`: what it has of the node's."""
        node = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                ours.close()
                raise
            if self.pid == 0:
                ours.close()
                _live(theirs, settings, boards, node, close)
        ours.settimeout(_PATIENCE_S)
        self._control, self._late_at = ours, time.monotonic() + settings.warm_s

    def hear(self) -> str | None:
        """Its first word: "" when it is ready, else why no worker can be forked from it; None at its end."""
        assert self._control is not None  # noqa: S101 -- it was waited for
        try:
            said = self._control.recv(1000)
        except OSError:
            return None
        if not said:
            return None
        self._late_at = None
        self._ready = said == _READY
        return "" if self._ready else said.decode("utf-8", "replace")

    def fork(self, conn: socket.socket, board: Board, ends: list[int]) -> int:
        """The number of a new worker; 0 when there is none and will be none; OSError when there is none this time."""
        if self._control is None:
            return 0
        try:
            socket.send_fds(self._control, [_NUMBER.pack(board.number)], [conn.fileno(), *ends])
            said = self._control.recv(_NUMBER.size)
        except socket.timeout:
            self.end()
            with suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)  # two workers must never hear one caller
            raise
        except OSError:
            said = b""
        if len(said) != _NUMBER.size:
            return 0
        pid = int(_NUMBER.unpack(said)[0])
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # a kernel that gives orphans to somebody else; the worker sees it too, and ends
            return 0
        return pid

    def end(self) -> None:
        """Kill it and whatever its imports started; it is reaped with the node's other children."""
        self._ready, self._late_at = False, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if self.pid:
            for send in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    send(self.pid, signal.SIGKILL)  # not yet reaped, so the number is its own


def _live(control: socket.socket, settings: Settings, boards: Boards, node: int, close: Callable[[], None]) -> None:
    """In the template; never returns."""
    try:
        birth.leave(node)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        close()
        birth.silence()
        # A worker that has to import for itself says what is wrong.
        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
        os.close(null)
        assert settings.model.mlflow_model is not None  # noqa: S101 -- else nobody asks for a template
        try:
            warm.load(settings, settings.model.mlflow_model)
        except BaseException as exc:  # noqa: BLE001 -- sys.exit() included
            control.send(f"{type(exc).__name__}: {exc}".encode("utf-8", "replace")[:500])
            os._exit(0)
        control.send(_READY)
        while True:  # until the node is gone
            said, found, _, _ = socket.recv_fds(control, _NUMBER.size, 3)
            if not said:
                break
            _deliver(control, boards.at(_NUMBER.unpack(said)[0]), found, settings, node)
    finally:
        os._exit(0)


def _deliver(control: socket.socket, board: Board, found: list[int], settings: Settings, node: int) -> None:
    """Fork a worker, and let it live once it is the node's child and the node knows."""
    told, tell = os.pipe()
    wait, go = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            _between(control, board, found, settings, node, (told, tell, wait, go))
    except OSError as exc:
        answer = _NUMBER.pack(-(exc.errno or 1))
    else:
        os.close(tell)
        tell = -1
        answer = os.read(told, _NUMBER.size)
        os.waitpid(between, 0)
    control.send(answer)
    if answer:
        os.write(go, _GO)  # the reading end is open here too, so nobody's death breaks the pipe
    for fd in (told, tell, wait, go, *found):
        if fd >= 0:
            os.close(fd)


def _between(
    control: socket.socket, board: Board, found: list[int], settings: Settings, node: int, pipes: tuple[int, ...]
) -> None:
    """In the process between; never returns, nor does the worker that it forks."""
    told, tell, wait, go = pipes
    try:
        try:
            pid = os.fork()
        except OSError as exc:
            pid = -(exc.errno or 1)
        if pid:
            os.write(tell, _NUMBER.pack(pid))
            os._exit(0)
        for fd in (told, tell, go):
            os.close(fd)
        control.close()
        if os.read(wait, 1) != _GO:
            os._exit(1)
        os.close(wait)
        warm.differ()
        conn, *ends = found
        birth.become(socket.socket(fileno=conn), board, ends, settings, node, lambda: None)
    finally:
        os._exit(1)

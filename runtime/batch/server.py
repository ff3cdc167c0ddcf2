"""The parent of a node's workers: it listens, forks a worker for each connection, and ends it with the connection.

It never runs user code and never waits for anything but events, so it can end a worker whatever that one does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Callable

from ..serving.door import BACKLOG, bind_unix, open_door
from ..serving.failures import EXIT_FAILED_START, Record, StartError
from . import birth
from .child import Child
from .frames import Board, Boards
from .output import Lines, Printer
from .settings import Settings, read
from .template import Template

MAX_WORKERS = 256
STOP_S = 5.0
"""How long workers may take to end on SIGTERM."""
LAST_WORDS_S = 2.0
"""How long a slow reader of the output may hold up the end."""
_BURST = 1_000


def main() -> int:
    printer = Printer(sys.stdout.fileno())
    try:
        settings = read(os.environ)
        listener = _listen(settings)
    except StartError as exc:
        Record(Path(os.environ.get("PORTWAY_SOCKET_DIR") or "/run/s")).write(exc.code, str(exc), exc.evidence)
        printer.say(f"{exc.code}: {exc} {exc.evidence}")
        printer.finish(LAST_WORDS_S)
        return EXIT_FAILED_START
    return Node(settings, listener, printer).run()


def _listen(settings: Settings) -> socket.socket:
    where = settings.model
    try:
        if where.bind is None:
            return bind_unix(where.socket)
        family = socket.AF_INET6 if ":" in where.bind[0] else socket.AF_INET
        listener = socket.create_server(where.bind, family=family, backlog=BACKLOG)
    except OSError as exc:
        text = f"The workers' parent could not listen on {where.bind or where.socket}: {exc}."
        raise StartError("BadArgument", text, str(exc)) from exc
    # Accepted connections inherit both: small frames leave at once, and a vanished caller is noticed.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setblocking(False)
    return listener


class Node:
    """The parent's loop."""

    def __init__(self, settings: Settings, listener: socket.socket, printer: Printer) -> None:
        self._settings = settings
        self._listener = listener
        self._printer = printer
        self._children: dict[int, Child] = {}
        self._boards = Boards(MAX_WORKERS)
        self._template = Template()
        self._epoll = select.epoll()
        self._on: dict[int, Callable[[], None]] = {}
        self._paused = False
        self._prints = False  # the output is registered, because it could not take all
        self._kill_at: float | None = None
        self._wake, self._waker = os.pipe()
        self._pid = os.getpid()

    def run(self) -> int:
        """Serve until SIGTERM, end the workers; the exit code."""
        birth.adopt_orphans()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # what counts is the byte in the pipe
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._watch(self._wake, select.EPOLLIN, self._woken)
        self._prepare()
        while self._kill_at is None or (self._left and time.monotonic() < self._kill_at + STOP_S):
            self._turn()
        self._printer.finish(LAST_WORDS_S)
        return 0

    @property
    def _left(self) -> bool:
        return bool(self._children or self._template.pid)

    def _prepare(self) -> None:
        """Have imported what workers need, then let callers in."""
        if self._settings.model.mlflow_model is None or not self._settings.warm_s:
            self._open()
            return
        try:
            self._template.start(self._settings, self._boards, self._leave)
        except OSError as exc:
            self._go_cold(str(exc))
        else:
            self._watch(self._template.fd, select.EPOLLIN, self._prepared)

    def _prepared(self) -> None:
        self._unwatch(self._template.fd)
        said = self._template.hear()
        if said == "":
            self._open()
        elif said:  # else it is about to end, and will be reaped
            self._go_cold(said)

    def _go_cold(self, why: str) -> None:
        """Every worker imports for itself from now on; one that cannot says so."""
        self._printer.say(f"packages are not imported for all workers at once: {why}")
        self._unwatch(self._template.fd)
        self._template.end()
        self._open()

    def _open(self) -> None:
        if self._kill_at is not None or self._listener.fileno() in self._on:
            return
        self._watch(self._listener.fileno(), select.EPOLLIN, self._accept)
        if self._settings.model.bind is None:
            open_door(self._settings.model.socket)

    def _turn(self) -> None:
        timeout = self._template.waits_s
        if timeout == 0:
            self._go_cold(f"it took longer than {self._settings.warm_s:g} s")
        if self._kill_at is not None:
            timeout = max(0.0, self._kill_at - time.monotonic()) or 0.1
            if time.monotonic() >= self._kill_at:
                for child in self._children.values():
                    child.signal(signal.SIGKILL)
        for fd, _ in self._epoll.poll(timeout):
            handler = self._on.get(fd)
            if handler is not None:  # an earlier handler of this turn may have closed it
                handler()
        self._printer.flush()
        self._balance()

    def _watch(self, fd: int, events: int, handler: Callable[[], None]) -> None:
        self._on[fd] = handler
        self._epoll.register(fd, events)

    def _unwatch(self, fd: int) -> None:
        """Always before a close: a worker's copy would keep the registration alive."""
        if self._on.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _woken(self) -> None:
        asked = os.read(self._wake, 4096)
        if (signal.SIGTERM in asked or signal.SIGINT in asked) and self._kill_at is None:
            self._stop()
        self._reap()
        self._end_orphans()

    def _stop(self) -> None:
        self._kill_at = time.monotonic() + STOP_S
        self._unwatch(self._listener.fileno())
        self._listener.close()
        self._unwatch(self._template.fd)
        self._template.end()
        if self._settings.model.bind is None:
            self._settings.model.socket.unlink(missing_ok=True)
        for child in self._children.values():
            child.signal(signal.SIGTERM)

    def _accept(self) -> None:
        try:
            conn, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as exc:
            self._printer.say(f"a connection could not be accepted: {exc}")
            time.sleep(0.05)  # out of descriptors: the connection stays, and the loop must not spin
            return
        conn.setblocking(True)
        try:
            if len(self._children) >= MAX_WORKERS:
                raise OSError(f"there are {MAX_WORKERS} workers already")  # noqa: TRY301
            child = self._fork(conn)
        except OSError as exc:
            self._printer.say(f"no worker could be started: {exc}")
            conn.close()
            return
        self._children[child.pid] = child
        self._watch(conn.fileno(), select.EPOLLRDHUP, functools.partial(self._hung_up, child))
        if not self._paused:
            self._listen_to(child)

    def _fork(self, conn: socket.socket) -> Child:
        board = self._boards.take()
        pipes: list[int] = []
        try:
            for _ in range(2):
                pipes += os.pipe()
            pid = self._born(conn, board, pipes)
        except OSError:
            for fd in pipes:
                os.close(fd)
            self._boards.give(board)
            raise
        out, out_end, err, err_end = pipes
        os.close(out_end)
        os.close(err_end)
        return Child(pid, conn, board, [Lines(out, "o"), Lines(err, "e")])

    def _born(self, conn: socket.socket, board: Board, pipes: list[int]) -> int:
        """The number of the new worker, out of the template if that can."""
        out, out_end, err, err_end = pipes
        if self._template.is_ready:
            pid = self._template.fork(conn, board, [out_end, err_end])
            if pid:
                return pid
            self._go_cold("the process that had them forks no more")
        pid = os.fork()
        if pid == 0:

            def close() -> None:
                os.close(out)
                os.close(err)
                self._leave()

            birth.become(conn, board, [out_end, err_end], self._settings, self._pid, close)
        return pid

    def _leave(self) -> None:
        """In a forked process: close what is the node's."""
        for fd in (self._wake, self._waker):
            os.close(fd)
        self._epoll.close()
        self._listener.close()
        for child in self._children.values():
            child.close()

    def _hung_up(self, child: Child) -> None:
        """The caller is gone: so is the worker, whatever it does."""
        child.signal(signal.SIGKILL)
        self._unwatch(child.conn.fileno())
        child.forget_caller()

    def _reap(self) -> None:
        for _ in range(_BURST):
            try:
                # Not yet taken: until then no other process or group can have its number.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            child = self._children.pop(found.si_pid, None)
            if child is not None:
                child.signal(signal.SIGKILL)  # whom it left behind
            elif found.si_pid == self._template.pid:
                self._template_ended(found)
            _, status = os.waitpid(found.si_pid, 0)
            if child is not None:
                self._bury(child, os.waitstatus_to_exitcode(status))

    def _template_ended(self, found: os.waitid_result) -> None:
        if self._template.fd >= 0:  # else the node ended it
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            self._go_cold(f"the process that had them ended with exit {code}")
        self._template.pid = 0

    def _end_orphans(self) -> None:
        """What left the group of a worker before that died, and so survived it."""
        try:
            with open(f"/proc/self/task/{self._pid}/children", encoding="ascii") as file:
                pids = [int(pid) for pid in file.read().split()]
        except OSError:  # not every kernel lists them; the end of the container is theirs too
            return
        for pid in pids:
            if pid not in self._children and pid != self._template.pid:
                with contextlib.suppress(PermissionError):
                    os.kill(pid, signal.SIGKILL)  # not yet reaped, so the number is its own

    def _bury(self, child: Child, code: int) -> None:
        for lines in child.outputs:
            self._unwatch(lines.fd)
            self._printer.add(lines.drain(child.board.process))
        if child.conn.fileno() >= 0:
            self._unwatch(child.conn.fileno())
            said = child.say_ended(code, str(self._settings.model.mlflow_model or self._settings.model.app_root))
            if said:
                self._printer.say(said)
            child.forget_caller()
        child.close()
        self._boards.give(child.board)

    def _listen_to(self, child: Child) -> None:
        for lines in child.outputs:
            if lines.fd >= 0:
                self._watch(lines.fd, select.EPOLLIN, functools.partial(self._read, child, lines))

    def _read(self, child: Child, lines: Lines) -> None:
        if self._printer.full:
            return
        text = lines.read(child.board.process)
        if text is None:
            self._unwatch(lines.fd)
            lines.close()
        else:
            self._printer.add(text)

    def _balance(self) -> None:
        """Watch the output while it is behind; listen to no worker while too much waits for it."""
        printer = self._printer
        if printer.waits != self._prints:
            self._prints = printer.waits
            if self._prints:
                self._watch(printer.fd, select.EPOLLOUT, printer.flush)
            else:
                self._unwatch(printer.fd)
        if printer.full == self._paused:
            return
        self._paused = printer.full
        for child in self._children.values():
            if self._paused:
                for lines in child.outputs:
                    self._unwatch(lines.fd)
            else:
                self._listen_to(child)

"""One worker as its parent knows it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from .frames import IDLE, Board, pack
from .output import Lines, evidence


class Child:
    def __init__(self, pid: int, conn: socket.socket, board: Board, outputs: list[Lines]) -> None:
        self.pid = pid
        self.conn = conn
        self.board = board
        self.outputs = outputs

    def signal(self, number: int) -> None:
        """To its whole group, and to itself in case it has none yet. It is not yet reaped, so the number is its own."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def forget_caller(self) -> None:
        # Not only ours: a process that left the worker's group may have a copy.
        with contextlib.suppress(OSError):
            self.conn.shutdown(socket.SHUT_RDWR)
        self.conn.close()

    def say_ended(self, code: int, folder: str) -> str:
        """Tell the caller of a sudden end, unless that would fall into a frame; the same as a line, "" for no such end.

        One attempt, without waiting: a caller that reads nothing sees the connection end.
        """
        if self.board.state != IDLE:
            return (
                "" if code == 0 else f"the worker of process {self.board.process} ended in mid-answer with exit {code}"
            )
        tail = [line for lines in self.outputs for line in lines.tail]
        found = {"exit": code, "message": _message(code), "evidence": evidence(tail, folder)}
        with contextlib.suppress(OSError):
            self.conn.send(pack({"ended": found}), socket.MSG_DONTWAIT)
        return f"the worker of process {self.board.process} ended: {found['message']}"

    def close(self) -> None:
        """Close this process's descriptors of it, and nobody else's."""
        self.conn.close()
        for lines in self.outputs:
            lines.close()


def _message(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "It was killed (SIGKILL), as the kernel does when memory is short; use a smaller mini_batch_size, fewer "
            "workers for each instance or a larger one."
        )
    if code == -signal.SIGTERM:
        return "It was stopped (SIGTERM)."
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"It crashed in native code ({name}); read the last lines of its log."
    return f"It ended with the exit code {code} without a Python exception; take out the call that ends the process."

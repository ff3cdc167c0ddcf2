"""Frames between a worker and its caller: a length of four bytes, big-endian, and that much JSON.

A `Board` is a few bytes that a worker shares with the parent, which reads them when the worker is dead.
All are of one memory, made before the template is forked: what it forks later shares it too.
"""

from __future__ import annotations

import json
import mmap
import socket
import struct
from typing import Any

FRAME_LIMIT = 16 * 1024 * 1024
"""Bytes of JSON in one frame."""
_JOIN_LIMIT = 64 * 1024
"""A result up to here is sent in one piece with its frame; copying a longer one would cost more than a second call."""

IDLE, IN_FRAME, DONE = 0, 1, 2
"""What a worker was about: nothing, writing a frame, or ending after its last one."""


_BOARD = 8
"""Bytes of a board."""


class BadFrameError(Exception):
    """The caller sent what is no frame."""


class Boards:
    """Room for the boards of `count` workers."""

    def __init__(self, count: int) -> None:
        self._bytes = mmap.mmap(-1, _BOARD * count)
        self._free = list(range(count))

    def take(self) -> Board:
        """An empty board for a worker to be; never more than `count` at a time."""
        board = self.at(self._free.pop())
        board.clear()
        return board

    def give(self, board: Board) -> None:
        """Back from a worker that is dead."""
        self._free.append(board.number)

    def at(self, number: int) -> Board:
        return Board(self._bytes, number)


class Board:
    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self.number = number
        self._bytes = memory
        self._at = _BOARD * number

    def clear(self) -> None:
        self._bytes[self._at : self._at + _BOARD] = bytes(_BOARD)

    @property
    def state(self) -> int:
        return self._bytes[self._at]

    @state.setter
    def state(self, value: int) -> None:
        self._bytes[self._at] = value

    @property
    def process(self) -> str:
        """The number of the process, `-` before the caller has named it."""
        (number,) = struct.unpack_from("<I", self._bytes, self._at + 4)
        return str(number - 1) if number else "-"

    def name(self, process: int) -> None:
        struct.pack_into("<I", self._bytes, self._at + 4, process + 1)


def pack(document: dict[str, Any]) -> bytes:
    text = json.dumps(document).encode("ascii")
    return struct.pack(">I", len(text)) + text


class Channel:
    """The worker's end of its connection."""

    def __init__(self, conn: socket.socket, board: Board) -> None:
        self._conn = conn
        self.board = board

    def receive(self) -> dict[str, Any] | None:
        """The next frame's object; None when the caller is gone. BadFrameError for anything else."""
        head = self._exactly(4)
        if head is None:
            return None
        (length,) = struct.unpack(">I", head)
        if not 0 < length <= FRAME_LIMIT:
            raise BadFrameError(f"a frame of {length} bytes")
        text = self._exactly(length)
        if text is None:
            return None
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise BadFrameError(f"a frame that is not JSON: {exc}") from None
        if not isinstance(document, dict):
            raise BadFrameError("a frame that is not a JSON object")
        return document

    def _exactly(self, size: int) -> bytes | None:
        data = self._conn.recv(size, socket.MSG_WAITALL)
        if len(data) == size:
            return data
        parts, missing = [data], size - len(data)  # a signal may cut a call short
        while missing:
            part = self._conn.recv(missing, socket.MSG_WAITALL) if parts[-1] else b""
            if not part:
                return None
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def send(self, document: dict[str, Any], body: bytes = b"", *, last: bool = False) -> None:
        frame = pack(document)
        self.board.state = IN_FRAME
        if len(body) <= _JOIN_LIMIT:
            self._conn.sendall(frame + body)
        else:
            self._conn.sendall(frame)
            self._conn.sendall(body)
        self.board.state = DONE if last else IDLE

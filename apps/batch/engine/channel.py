"""The caller's side of the batch worker's protocol: frames over a stream socket. See runtime/batch.

A frame is a big-endian length and JSON; an answer with `size` is followed by so many bytes.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

HEAD = struct.Struct(">I")
LARGEST_FRAME = 16 * 2**20  # of what we send
LARGEST_ANSWER = 2**18  # of what we hear, without the result
LARGEST_RESULT = 2**26
RECEIVE = 1 << 18


class ChannelClosed(Exception):  # noqa: N818 -- a condition, told apart from errors of the protocol
    """The worker closed its side."""


class ProtocolError(Exception):
    """What came is no answer: the worker's code was tampered with."""


def connect(address: str, *, timeout_s: float) -> socket.socket:
    """To `unix:/path` or `host:port`."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        try:
            sock.connect(address.removeprefix("unix:"))
        except OSError:
            sock.close()
            raise
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def pack(message: dict[str, Any]) -> bytes:
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > LARGEST_FRAME:
        raise ValueError(f"a frame of {len(text)} bytes")
    return HEAD.pack(len(text)) + text


class Reader:
    """Turns what arrives on a non-blocking socket into (message, result bytes)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._message: dict[str, Any] | None = None

    def feed(self, data: bytes) -> None:
        self._data += data

    @property
    def buffered(self) -> int:
        """Bytes that have come of an answer that is not whole."""
        return len(self._data)

    @property
    def within(self) -> bool:
        """Whether an answer has begun and is not whole."""
        return bool(self._data) or self._message is not None

    def next(self) -> tuple[dict[str, Any], bytes] | None:
        """The next whole answer, None when more bytes are needed. Raises ProtocolError."""
        if self._message is None:
            self._message = self._head()
            if self._message is None:
                return None
        size = self._message.get("size", 0)
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ProtocolError(f"an answer with a size of {str(size)[:40]}")
        if size > LARGEST_RESULT:
            raise ProtocolError(f"a mini-batch returned more than {LARGEST_RESULT // 2**20} MiB")
        if len(self._data) < size:
            return None
        body = bytes(self._data[:size])
        del self._data[:size]
        message, self._message = self._message, None
        return message, body

    def _head(self) -> dict[str, Any] | None:
        if len(self._data) < HEAD.size:
            return None
        (length,) = HEAD.unpack_from(self._data)
        if length > LARGEST_ANSWER:
            raise ProtocolError(f"a frame of {length} bytes")
        if len(self._data) < HEAD.size + length:
            return None
        text = bytes(self._data[HEAD.size : HEAD.size + length])
        del self._data[: HEAD.size + length]
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("a frame that is not JSON") from error
        if not isinstance(found, dict):
            raise ProtocolError("a frame that is no object")
        return found

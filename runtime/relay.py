"""Passes bytes from a unix socket to a TCP port of this machine, for servers that know no unix sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

HIGH_WATER = 1 << 20


class _Side(asyncio.Protocol):
    """One end of a relayed connection; `other` gets what this one receives, and is slowed down when it lags."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.waiting: list[bytes] = []
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.waiting.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True  # the other direction may still have something to say

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.other is not None:
            self.other.close()


class _Front(_Side):
    """The end that the gateway opened; it opens the other one."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        back = _Side()
        back.other = self
        try:
            await asyncio.wait_for(
                asyncio.get_running_loop().create_connection(lambda: back, "127.0.0.1", self.port), timeout=5
            )
        except (OSError, asyncio.TimeoutError):
            if self.transport is not None:
                self.transport.abort()
            return
        self.other = back
        if back.transport is not None and self.waiting:
            back.transport.write(b"".join(self.waiting))
            self.waiting.clear()
        if self.ended:
            self.eof_received()
        if self.transport is None or self.transport.is_closing():
            back.close()


async def relay(path: Path, port: int) -> asyncio.AbstractServer:
    """Listen on `path` from now on; whoever connects talks to `port`. The socket appears in one step, listening."""
    half = path.with_name(f"{path.name}.binding")
    half.unlink(missing_ok=True)
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Front(port), str(half), backlog=1024)
    half.chmod(0o666)  # who may connect is decided by the folder, which belongs to the driver
    half.replace(path)
    return server

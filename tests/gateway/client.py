"""A client that sends exactly what it is told, odd paths and header names included."""

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass
from typing import Any, Self

from tests.gateway.upstream import read_body

DEADLINE_S = 30


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]

    @property
    def served_by(self) -> str:
        return self.json["from"]


class Session:
    """One kept-alive connection."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.tls = tls
        self.reader: Any = None
        self.writer: Any = None

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname="localhost" if self.tls else None
        )
        return self

    async def __aexit__(self, *_exc) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()

    async def send(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        headers = {"host": "localhost", "content-length": str(len(body)), **(headers or {})}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items() if value is not None),
        ]
        self.writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        await self.writer.drain()

    async def receive(self, method: str = "GET") -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        status = int(first.split(" ")[1])
        if status == 100:
            return await self.receive(method)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if status == 101 or method == "HEAD":
            return Reply(status, headers, b"")
        return Reply(status, headers, await read_body(self.reader, headers))

    async def call(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        await self.send(method, path, headers, body)
        return await asyncio.wait_for(self.receive(method), DEADLINE_S)


async def acall(port, method, path, headers=None, body=b"", tls=None) -> Reply:
    async with Session(port, tls) as session:
        return await session.call(method, path, headers, body)


def call(port, path, *, method="POST", key=None, headers=None, body=b"{}", tls=None) -> Reply:
    headers = dict(headers or {})
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return asyncio.run(acall(port, method, path, headers, body, tls))


def burst(port, path, count, *, key=None, headers=None) -> list[Reply]:
    """`count` requests at the same moment, each on a connection of its own."""

    async def go():
        given = {**({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        return await asyncio.gather(*(acall(port, "POST", path, given, b"{}") for _ in range(count)))

    return asyncio.run(go())


def many(port, path, count, *, key=None, headers=None, connections=8) -> list[Reply]:
    """`count` requests one after another over a few kept-alive connections."""

    async def worker(share):
        given = {**({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        async with Session(port) as session:
            return [await session.call("POST", path, given, b"{}") for _ in range(share)]

    async def go():
        shares = [count // connections + (number < count % connections) for number in range(connections)]
        return [reply for replies in await asyncio.gather(*map(worker, shares)) for reply in replies]

    return asyncio.run(go())

"""Small real servers for Envoy to talk to. What they do is asked for in the query: ?status=500&sleep=0.2."""

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

DEADLINE_S = 10
DECIDED = {"x-portway-user": "ada", "x-mlflow-workspace": "lab", "x-portway-workspaces": "lab,other"}


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Upstream:
    name: str
    seen: list[Seen] = field(default_factory=list)
    active: int = 0
    most_active: int = 0
    ready: bool = True
    authz: str = "allow"
    server: Any = None
    address: str = ""
    writers: set = field(default_factory=set)

    def clear(self) -> None:
        self.seen.clear()
        self.most_active = 0

    @property
    def scored(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.path.startswith("/internal/authz")]

    async def handle(self, reader, writer) -> None:
        self.writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _one(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if ": " in line)}
        if path.endswith("/hasty"):  # refuses before it has read what it was sent
            await self._reply(writer, 404, b"no", {"x-portway-reply": "gateway"})
            return False
        body = await read_body(reader, headers)
        if headers.get("user-agent", "").startswith("Envoy/HC"):
            await self._reply(writer, 200 if self.ready else 503, b"")
            return True
        self.seen.append(Seen(method, path, headers, body))
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._answer(path, headers, body, reader, writer)
        finally:
            self.active -= 1

    async def _answer(self, path, headers, body, reader, writer) -> bool:
        url = urlsplit(path)
        ask = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.startswith("/internal/authz"):
            return await self._authz(writer)
        if "sleep" in ask:
            await asyncio.sleep(float(ask["sleep"]))
        if url.path.endswith("/sse"):
            return await self._sse(writer, int(ask.get("n", "4")))
        if headers.get("upgrade") == "websocket":
            return await self._echo(headers, reader, writer)
        if url.path.endswith("/crash"):
            return False
        answer = json.dumps({"from": self.name, "path": path, "bytes": len(body)}).encode()
        extra = {key[2:]: value for key, value in ask.items() if key.startswith("h-")}
        await self._reply(writer, int(ask.get("status", "200")), answer, extra)
        return True

    async def _authz(self, writer) -> bool:
        match self.authz:
            case "allow":
                await self._reply(writer, 200, b"", DECIDED | {"x-secret": "no"})
            case "redirect":
                await self._reply(writer, 302, b"", {"location": "/accounts/login/?next=/mlflow/"})
            case "hang":
                await asyncio.sleep(DEADLINE_S)
            case _:
                await self._reply(writer, 403, b"{}")
        return True

    async def _reply(self, writer, status, body, extra=None) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "content-type: application/json"]
        lines += [f"{key}: {value}" for key, value in (extra or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    async def _sse(self, writer, events) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(events):
            event = f"data: {number}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.15)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _echo(self, headers, reader, writer) -> bool:
        magic = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        head = "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        head += f"sec-websocket-accept: {accept}\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        return False


async def read_body(reader, headers) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int((await reader.readline()).strip() or b"0", 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    return await reader.readexactly(int(headers.get("content-length", "0")))


class Loop:
    """One thread with one event loop, for every upstream of a test module."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def serve(self, upstream: Upstream, address: str) -> Upstream:
        async def start():
            if address.startswith("unix:"):
                return await asyncio.start_unix_server(upstream.handle, address.removeprefix("unix:"))
            host, _, port = address.rpartition(":")
            return await asyncio.start_server(upstream.handle, host, int(port))

        upstream.address = address
        upstream.server = self.run(start())
        return upstream

    def kill(self, upstream: Upstream) -> None:
        """As kill -9 looks from outside: no listener, and every connection gone."""

        async def stop():
            upstream.server.close()
            for writer in list(upstream.writers):
                writer.transport.abort()

        self.run(stop())

    def close(self) -> None:
        async def cancel():
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE_S)
        self.loop.close()


def wait_for(what, deadline_s: float = DEADLINE_S, pause_s: float = 0.02):
    """The first true answer, or a failure that says what never came."""
    deadline = time.monotonic() + deadline_s
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(pause_s)
    return answer

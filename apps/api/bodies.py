"""Request bodies before Django reads them: it would put a whole one on disk before any view asks who sent it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import CookieError
from io import BytesIO
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from channels.db import database_sync_to_async
from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import BadRequest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse

from apps.api import sas
from apps.api.auth import user_of_bearer
from apps.core import limits
from apps.core.errors import Problem
from apps.gateway.envoy.routes import BLOB_BODY_LIMIT, BLOBS, SITE_BODY_LIMIT, UPLOADS
from apps.registry import blobs

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BLOB = re.compile(BLOBS)
UPLOAD = re.compile("|".join(f"(?:{each.removeprefix('(?i)')})" for each in UPLOADS.values()), re.IGNORECASE)
LINGER_S = 5
AROUND_FILES = 64 * 2**20  # what names, paths and boundaries add to the bytes of the files


class BoundedBodies:
    """ASGI: a body larger than `SITE_BODY_LIMIT` is read at the addresses of uploads only, and only of known callers.

    To a stranger's large upload the view answers as to an empty one: it asks who calls before it looks at the body.
    What turns out larger than it may be, or than it said, is cut off with 413.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most, length = SITE_BODY_LIMIT, _length(scope)
        if UPLOAD.fullmatch(scope["path"]) and (length is None or length > most):
            async with ThreadSensitiveContext():
                most = await database_sync_to_async(_most)(scope)
            if not most:
                await self.app(scope, _nothing_to_read(), send)
                await _linger(receive)
                return
        body = _Body(receive, send, most)
        if length is not None and length > most:
            await body.refuse()
        else:
            await self.app(scope, body.receive, body.send)
        if body.refused:
            await _linger(receive)


class _Body:
    """One request's body, counted while it is read."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self.most = receive, send, most
        self.read, self.refused = 0, False

    async def receive(self) -> Message:
        message = await self._receive()
        self.read += len(message.get("body", b""))
        if self.read <= self.most:
            return message
        await self.refuse()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.refused:
            await self._send(message)

    async def refuse(self) -> None:
        if self.refused:
            return
        self.refused = True
        problem = Problem("upload-too-large", limit=f"{self.most // 2**20} MiB")
        body = json.dumps(problem.as_envelope()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": problem.entry.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _nothing_to_read() -> Receive:
    """An empty body, and then silence: whoever waits for more is cancelled with the answer."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        while not messages:
            await asyncio.Event().wait()
        return messages.pop()

    return receive


async def _linger(receive: Receive) -> None:
    """Throws away what still comes for a moment: a caller cut off while it sends may never see the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive())["type"] != "http.disconnect":
                pass


def _length(scope: Scope) -> int | None:
    """In bytes; None when the request does not say it, or not as a number."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def _most(scope: Scope) -> int:
    """How many bytes this caller may send here; 0 for who is not known."""
    try:
        request = ASGIRequest(scope, BytesIO())
        if BLOB.fullmatch(request.path):
            return BLOB_BODY_LIMIT if _may_write(request) else 0
        return limits.get("upload_bytes") + AROUND_FILES if _signed_in(request) else 0
    except (BadRequest, CookieError, ValueError):  # the view will say so
        return 0


def _may_write(request: ASGIRequest) -> bool:
    name = request.path.split("/")[2]
    container = blobs.container_named(name)
    return container is not None and sas.allows(request.GET, name, container.workspace, writing=True)


def _signed_in(request: ASGIRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return user_of_bearer(token.strip()) is not None
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    return bool(get_user(request).is_authenticated)

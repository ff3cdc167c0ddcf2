"""A log as it grows, on a socket of its own: no request and no worker thread waits for lines.

The page says where it is (`marks`), gets what is new, and asks for more when it has drawn that: a slow page holds up
only itself, and nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.http import QueryDict

from apps.accounts.models import User
from apps.accounts.policy import Permission, can, visible_workspaces
from apps.endpoints import logs
from apps.endpoints.logs import Source
from apps.endpoints.models import OnlineEndpoint
from apps.studio.loglines import choose, marks_of, rows

log = structlog.get_logger(__name__)

POLL_S = 0.5
LOOK_AGAIN_S = 5.0  # for instances that have come or gone
CHECK_S = 30.0  # whether the reader may still read
IDLE_S = 600.0
DRAWN_S = 60.0  # a page that has not drawn what it got by then is gone
MOST_AT_ONCE = 200
BUSY, ENDED, FORBIDDEN = 4429, 4000, 4403
readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="tail")
open_tails: set[LogTail] = set()


class LogTail(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    work: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        self.drawn = asyncio.Event()
        self.names: dict[str, str] = self.scope["url_route"]["kwargs"]
        self.query = QueryDict(self.scope.get("query_string", b"")[:2000])
        if not await self._allowed():
            await self.close(FORBIDDEN)
        elif len(open_tails) >= MOST_AT_ONCE:
            await self.accept()
            await self.close(BUSY)  # pages ask every few seconds instead
        else:
            open_tails.add(self)
            await self.accept()

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 -- channels' signature
        open_tails.discard(self)
        if self.work is not None:
            self.work.cancel()

    async def receive_json(self, content: Any, **_: Any) -> None:
        if self.work is None and self in open_tails:
            marks = marks_of(content.get("marks") if isinstance(content, dict) else None)
            self.work = asyncio.create_task(self._run(marks))
        else:
            self.drawn.set()

    async def _run(self, marks: dict[str, str]) -> None:
        try:
            await self._follow(marks)
        except asyncio.CancelledError:
            raise
        except Exception:  # the page connects anew, or asks every few seconds
            log.exception("tail.failed", **self.names)
            await self.close(ENDED)

    async def _follow(self, marks: dict[str, str]) -> None:
        loop = asyncio.get_running_loop()
        looked = checked = said = time.monotonic()
        sources = await self._sources()
        while (now := time.monotonic()) - said < IDLE_S:
            if now - checked > CHECK_S:
                checked = now
                if not await self._allowed():
                    await self.close(FORBIDDEN)
                    return
            if now - looked > LOOK_AGAIN_S:
                looked, sources = now, await self._sources()
            entries, fresh = await loop.run_in_executor(readers, logs.more, sources, marks)
            marks = {**marks, **fresh}
            if not entries:
                await asyncio.sleep(POLL_S)
                continue
            said = now
            self.drawn.clear()
            await self.send_json({"lines": [each.as_json() for each in rows(entries)], "marks": fresh})
            try:
                await asyncio.wait_for(self.drawn.wait(), DRAWN_S)
            except TimeoutError:
                break
        await self.close(ENDED)

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _sources(self) -> list[Source]:
        found, _more = logs.sources(
            self.names["workspace"], self.names["endpoint"], deployment=self.query.get("deployment", "")
        )
        return [source for source in choose(found, self.query) if source.living is not None]

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _allowed(self) -> bool:
        """Asked of the database each time: accounts are locked, roles taken and sessions ended while a page is open."""
        reader = User.objects.filter(pk=getattr(self.scope.get("user"), "pk", None) or 0, is_active=True).first()
        session = self.scope.get("session")
        if reader is None or (session is not None and not session.exists(session.session_key)):
            return False
        workspace = visible_workspaces(reader).filter(name=self.names["workspace"]).first()
        if workspace is None or not can(reader, Permission.READ, workspace):
            return False
        return OnlineEndpoint.objects.filter(workspace=workspace, name=self.names["endpoint"]).exists()

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

from apps.accounts.policy import Permission, can, visible_workspaces
from apps.core import events
from apps.endpoints import logs
from apps.endpoints.logs import Source
from apps.endpoints.models import OnlineEndpoint
from apps.studio.consumer import reader
from apps.studio.loglines import choose, marks_of, rows

log = structlog.get_logger(__name__)

POLL_S = 0.5
LOOK_AGAIN_S = 5.0  # for instances that have come or gone
CHECK_S = 30.0  # whether the reader may still read
IDLE_S = 600.0
DRAWN_S = 60.0  # a page that has not drawn what it got by then is gone
MOST_AT_ONCE, MOST_EACH = 200, 20
BUSY, ENDED, FORBIDDEN = 4429, 4000, 4403
readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="tail")
open_tails: set[LogTail] = set()


class LogTail(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    work: asyncio.Task[None] | None = None
    group = ""

    async def __call__(self, *arguments: Any) -> None:
        try:
            await super().__call__(*arguments)
        finally:  # also when it ended with an error, of which `disconnect` is not told
            self._leave()

    async def connect(self) -> None:
        self.begun, self.drawn = asyncio.Event(), asyncio.Event()
        self.marks: dict[str, str] = {}
        self.names: dict[str, str] = self.scope["url_route"]["kwargs"]
        self.query = QueryDict(self.scope.get("query_string", b"")[:2000])
        if not await self._allowed():
            await self.close(FORBIDDEN)
            return
        self.group = events.user_group(self.scope["user"].pk)
        await self.channel_layer.group_add(self.group, self.channel_name)
        mine = sum(each.group == self.group for each in open_tails)
        if len(open_tails) >= MOST_AT_ONCE or mine >= MOST_EACH:
            await self.accept()
            await self.close(BUSY)  # pages ask every few seconds instead
            return
        open_tails.add(self)
        await self.accept()
        self.work = asyncio.create_task(self._run())

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 -- channels' signature
        self._leave()
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    def _leave(self) -> None:
        open_tails.discard(self)
        if self.work is not None:
            self.work.cancel()

    async def receive_json(self, content: Any, **_: Any) -> None:
        if self.begun.is_set():
            self.drawn.set()
        else:
            self.marks = marks_of(content.get("marks") if isinstance(content, dict) else None)
            self.begun.set()

    async def ended(self, _event: dict[str, Any]) -> None:
        """The user was deactivated or signed out by an administrator, or is one no more."""
        self._leave()
        await self.close(ENDED if await self._allowed() else FORBIDDEN)

    async def _run(self) -> None:
        """A socket that says nothing has its place no longer than one that does not draw."""
        try:
            await asyncio.wait_for(self.begun.wait(), DRAWN_S)
            await self._follow(self.marks)
        except TimeoutError:
            await self.close(ENDED)
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
        user = reader(self.scope)
        workspace = visible_workspaces(user).filter(name=self.names["workspace"]).first()
        if workspace is None or not can(user, Permission.READ, workspace):
            return False
        return OnlineEndpoint.objects.filter(workspace=workspace, name=self.names["endpoint"]).exists()

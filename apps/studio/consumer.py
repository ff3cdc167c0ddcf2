"""The socket of an open page: it only learns which topics changed, and fetches them through the ordinary views."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from apps.accounts.models import User
from apps.accounts.policy import visible_workspaces
from apps.core import events

log = structlog.get_logger(__name__)

CHECK_S = 60.0  # whether the reader may still see the workspace


def reader(scope: Any) -> User | None:
    """Whose socket it is, asked of the database: accounts are locked and sessions ended while a page is open."""
    user = User.objects.filter(pk=getattr(scope.get("user"), "pk", None) or 0, is_active=True).first()
    session = scope.get("session")
    gone = session is not None and not session.exists(session.session_key)
    return None if gone else user


class Changes(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    group = ""
    watch: asyncio.Task[None] | None = None

    async def __call__(self, *arguments: Any) -> None:
        try:
            await super().__call__(*arguments)
        finally:  # also when it ended with an error, of which `disconnect` is not told
            if self.watch is not None:
                self.watch.cancel()

    async def connect(self) -> None:
        name = self.scope["url_route"]["kwargs"]["workspace"]
        if not await self._visible(name):
            await self.close()
            return
        self.group = events.group(name)
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.channel_layer.group_add(events.user_group(self.scope["user"].pk), self.channel_name)
        await self.accept()
        self.watch = asyncio.create_task(self._watch(name))

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 -- channels' signature
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)
            await self.channel_layer.group_discard(events.user_group(self.scope["user"].pk), self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Pages have nothing to say here."""

    async def changed(self, event: dict[str, Any]) -> None:
        await self.send_json({"changed": event["topics"]})

    async def ended(self, _event: dict[str, Any]) -> None:
        """The user was deactivated or signed out by an administrator."""
        await self.close()

    async def _watch(self, name: str) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                visible = await self._visible(name)
            except Exception as error:  # noqa: BLE001 -- a database that is away for a moment
                log.warning("socket.unchecked", reason=str(error))
                continue
            if not visible:
                await self.close()
                return

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _visible(self, name: str) -> bool:
        return visible_workspaces(reader(self.scope)).filter(name=name).exists()

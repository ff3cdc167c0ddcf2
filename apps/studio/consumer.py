"""The socket of an open page: it only learns which topics changed, and fetches them through the ordinary views."""

from __future__ import annotations

from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from apps.accounts.policy import visible_workspaces
from apps.core import events


class Changes(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    group = ""

    async def connect(self) -> None:
        name = self.scope["url_route"]["kwargs"]["workspace"]
        if not await self._visible(name):
            await self.close()
            return
        self.group = events.group(name)
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.channel_layer.group_add(events.user_group(self.scope["user"].pk), self.channel_name)
        await self.accept()

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

    @database_sync_to_async  # type: ignore[untyped-decorator]
    def _visible(self, name: str) -> bool:
        return visible_workspaces(self.scope.get("user")).filter(name=name).exists()

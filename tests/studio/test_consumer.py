"""The socket: members learn topics, nobody else gets in."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser

from apps.accounts import people as people_verbs
from apps.accounts.models import Membership
from apps.core import events
from apps.studio import consumer
from apps.studio.routing import websocket_urlpatterns
from tests.factories import make_administrator

pytestmark = pytest.mark.django_db(transaction=True)


class Socket(ApplicationCommunicator):
    """A browser's end. (channels.testing would need daphne.)"""

    def __init__(self, user, workspace):
        scope = {
            "type": "websocket",
            "path": f"/ws/{workspace}",
            "query_string": b"",
            "headers": [],
            "subprotocols": [],
            "user": user,
        }
        super().__init__(URLRouter(websocket_urlpatterns), scope)

    async def connect(self):
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output())["type"] == "websocket.accept"

    async def json(self):
        return json.loads((await self.receive_output())["text"])

    async def leave(self):
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait()


def test_members_learn_what_changed(people, workspace):
    async def scenario():
        socket = Socket(people["rita"], "lab")
        assert await socket.connect()
        await get_channel_layer().group_send(events.group("lab"), {"type": "changed", "topics": ["operation:1"]})
        assert await socket.json() == {"changed": ["operation:1"]}
        await socket.send_input({"type": "websocket.receive", "text": "{}"})
        assert await socket.receive_nothing()
        await socket.leave()

    async_to_sync(scenario)()


@pytest.mark.parametrize("who", ["charlie", "anonymous"])
def test_others_stay_outside(who, people, workspace):
    async def scenario():
        user = AnonymousUser() if who == "anonymous" else people[who]
        assert not await Socket(user, "lab").connect()

    async_to_sync(scenario)()


def test_a_change_in_the_domain_reaches_the_socket(people, workspace):
    async def scenario():
        socket = Socket(people["rita"], "lab")
        await socket.connect()
        await sync_to_async(events.changed)("lab", "online-endpoint/iris")
        assert await socket.json() == {"changed": ["online-endpoint/iris"]}
        await socket.leave()

    async_to_sync(scenario)()


def test_who_loses_administration_loses_the_socket_at_once(workspace):
    ada, eve = make_administrator(), make_administrator("eve")

    async def scenario():
        socket = Socket(eve, "lab")
        assert await socket.connect()
        await sync_to_async(people_verbs.set_administrator)(user=eve, administrator=False, actor=ada)
        assert (await socket.receive_output())["type"] == "websocket.close"
        await socket.leave()
        assert not await Socket(eve, "lab").connect()

    async_to_sync(scenario)()


def test_who_loses_the_role_loses_the_socket_after_a_while(people, workspace, monkeypatch):
    monkeypatch.setattr(consumer, "CHECK_S", 0.05)

    async def scenario():
        socket = Socket(people["rita"], "lab")
        assert await socket.connect()
        assert await socket.receive_nothing(0.3)
        await sync_to_async(Membership.objects.filter(user=people["rita"]).delete)()
        assert (await socket.receive_output(5))["type"] == "websocket.close"
        await socket.leave()

    async_to_sync(scenario)()

"""The socket of a growing log: members get lines, at their own pace, for as long as they may."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser

from apps.accounts import people as people_verbs
from apps.accounts.models import Membership
from apps.compute import domain as compute
from apps.compute.models import Replica, ReplicaSet
from apps.studio import tail
from apps.studio.routing import websocket_urlpatterns
from tests.compute.test_history import up
from tests.factories import make_administrator, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


class Socket(ApplicationCommunicator):
    def __init__(self, user, query=b"", endpoint="iris", workspace="lab"):
        scope = {"type": "websocket", "path": f"/ws/{workspace}/logs/{endpoint}", "query_string": query}
        super().__init__(URLRouter(websocket_urlpatterns), scope | {"headers": [], "subprotocols": [], "user": user})

    async def connect(self, marks=None):
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(5)
        if answer["type"] == "websocket.accept":
            await self.send({"marks": marks or {}})
        return answer

    async def send(self, value):
        await self.send_input({"type": "websocket.receive", "text": json.dumps(value)})

    async def batch(self):
        return json.loads((await self.receive_output(5))["text"])

    async def leave(self):
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tail, "POLL_S", 0.02)
    tail.open_tails.clear()


@pytest.fixture
def say(workspace):
    make_endpoint(workspace, "iris")
    compute.driver.cache_clear()
    driver = compute.driver("fake")
    up()

    def speak(text):
        driver.replicas[Replica.objects.values_list("name", flat=True).get(index=0)].log(text)

    yield sync_to_async(speak)
    for handle in driver.list(owner=compute.OWNER):
        driver.forget(handle)


def texts(batch):
    return [line["text"] for line in batch["lines"]]


def test_lines_come_as_they_are_said_and_only_when_asked_for(say, people):
    async def scenario():
        socket = Socket(people["rita"])
        assert (await socket.connect())["type"] == "websocket.accept"
        first = await socket.batch()
        assert "listening" in texts(first)
        await say("one")
        await say("two")
        assert await socket.receive_nothing(0.3)  # it has not drawn what it got
        await socket.send({})
        second = await socket.batch()
        assert texts(second) == ["one", "two"]
        await socket.leave()
        await say("three")
        again = Socket(people["rita"])
        await again.connect(second["marks"])
        assert texts(await again.batch()) == ["three"]
        await again.leave()
        assert tail.open_tails == set()

    async_to_sync(scenario)()


def test_an_instance_that_comes_later_is_followed_too(say, people, monkeypatch):
    monkeypatch.setattr(tail, "LOOK_AGAIN_S", 0.05)

    def more():
        only = ReplicaSet.objects.get()
        compute.scale(only, 2)
        compute.settle(only, tick=lambda: None, timeout_s=10)

    async def scenario():
        socket = Socket(people["rita"], b"deployment=blue")
        await socket.connect()
        await socket.batch()
        await socket.send({})
        await sync_to_async(more)()
        batch = await socket.batch()
        assert "blue #1" in {line["who"] for line in batch["lines"]}
        await socket.leave()

    async_to_sync(scenario)()


@pytest.mark.parametrize("who", ["charlie", "anonymous"])
def test_others_stay_outside(who, say, people):
    async def scenario():
        user = AnonymousUser() if who == "anonymous" else people[who]
        assert await Socket(user).connect() == {"type": "websocket.close", "code": tail.FORBIDDEN}

    async_to_sync(scenario)()


def test_an_endpoint_of_another_workspace_is_not_there(say, people):
    async def scenario():
        assert (await Socket(people["charlie"], workspace="other").connect())["type"] == "websocket.close"

    async_to_sync(scenario)()


def test_who_loses_the_role_loses_the_log(say, people, monkeypatch):
    monkeypatch.setattr(tail, "CHECK_S", 0.05)

    async def scenario():
        socket = Socket(people["rita"])
        await socket.connect()
        await socket.batch()
        await socket.send({})
        await sync_to_async(Membership.objects.filter(user=people["rita"]).delete)()
        assert await socket.receive_output(5) == {"type": "websocket.close", "code": tail.FORBIDDEN}
        await socket.leave()

    async_to_sync(scenario)()


@pytest.mark.parametrize("why", ["idle", "slow"])
def test_silent_logs_and_pages_that_do_not_draw_end(why, say, people, monkeypatch):
    monkeypatch.setattr(tail, "IDLE_S" if why == "idle" else "DRAWN_S", 0.2)

    async def scenario():
        socket = Socket(people["rita"])
        await socket.connect()
        await socket.batch()
        if why == "idle":
            await socket.send({})
        assert await socket.receive_output(5) == {"type": "websocket.close", "code": tail.ENDED}
        await socket.leave()

    async_to_sync(scenario)()


def test_a_hundred_open_tails_need_four_threads_and_no_more_are_taken(say, people, monkeypatch):
    monkeypatch.setattr(tail, "MOST_AT_ONCE", 100)
    monkeypatch.setattr(tail, "MOST_EACH", 100)
    monkeypatch.setattr(tail, "POLL_S", 0.2)

    async def scenario():
        sockets = [Socket(people["rita"]) for _ in range(100)]
        for socket in sockets:
            await socket.connect()
        first = await asyncio.gather(*(socket.batch() for socket in sockets))
        assert all("listening" in texts(each) for each in first)
        for socket in sockets:
            await socket.send({})
        await say("to all")
        assert [texts(each) for each in await asyncio.gather(*(socket.batch() for socket in sockets))] == [
            ["to all"]
        ] * 100
        late = Socket(people["rita"])
        await late.connect()
        assert await late.receive_output(5) == {"type": "websocket.close", "code": tail.BUSY}
        assert len(tail.readers._threads) <= 4
        for socket in sockets:
            await socket.leave()

    async_to_sync(scenario)()


@pytest.mark.parametrize("nonsense", ["[]", "null", "7", '{"marks": [1]}', '{"marks": {"a": {}}}'])
def test_nonsense_from_a_page_is_harmless(nonsense, say, people):
    async def scenario():
        socket = Socket(people["rita"])
        await socket.send_input({"type": "websocket.connect"})
        await socket.receive_output(5)
        await socket.send_input({"type": "websocket.receive", "text": nonsense})
        assert "listening" in texts(await socket.batch())
        await socket.leave()

    async_to_sync(scenario)()


def silent(user):
    socket = Socket(user)

    async def connect():
        await socket.send_input({"type": "websocket.connect"})
        assert (await socket.receive_output(5))["type"] == "websocket.accept"
        return socket

    return connect()


def test_a_socket_that_never_says_anything_ends(say, people, monkeypatch):
    monkeypatch.setattr(tail, "DRAWN_S", 0.2)

    async def scenario():
        socket = await silent(people["rita"])
        assert await socket.receive_output(5) == {"type": "websocket.close", "code": tail.ENDED}
        await socket.leave()
        assert tail.open_tails == set()

    async_to_sync(scenario)()


@pytest.mark.parametrize("kind", ["silent", "reading"])
def test_deactivation_ends_it_at_once(kind, say, people):
    ada = make_administrator()

    async def scenario():
        if kind == "silent":
            socket = await silent(people["rita"])
        else:
            socket = Socket(people["rita"])
            await socket.connect()
            await socket.batch()
        await sync_to_async(people_verbs.deactivate_user)(user=people["rita"], actor=ada)
        assert await socket.receive_output(5) == {"type": "websocket.close", "code": tail.FORBIDDEN}
        assert tail.open_tails == set()
        await socket.leave()

    async_to_sync(scenario)()


def test_one_user_does_not_take_every_place(say, people, monkeypatch):
    monkeypatch.setattr(tail, "MOST_EACH", 2)

    async def scenario():
        held = [await silent(people["rita"]) for _ in range(2)]
        late = Socket(people["rita"])
        await late.connect()
        assert await late.receive_output(5) == {"type": "websocket.close", "code": tail.BUSY}
        other = Socket(people["olga"])
        await other.connect()
        assert "listening" in texts(await other.batch())
        for socket in (*held, other):
            await socket.leave()
        assert tail.open_tails == set()

    async_to_sync(scenario)()


def test_what_no_page_would_send_gives_the_place_back(say, people):
    async def scenario():
        socket = await silent(people["rita"])
        assert len(tail.open_tails) == 1
        await socket.send_input({"type": "websocket.receive", "text": "{"})
        with pytest.raises(ValueError, match="Expecting"):
            await socket.wait(5)
        assert tail.open_tails == set()

    async_to_sync(scenario)()

"""Whoever is locked out or taken out of a workspace learns of nothing any more, on pages that are open too."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from apps.accounts import domain, people
from tests.factories import make_administrator
from tests.studio.test_consumer import Socket

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("verb", ["deactivate", "remove", "sign out"])
def test_open_pages_lose_their_socket(verb, people_of_lab, workspace):
    rita, ada = people_of_lab["rita"], make_administrator()
    lock_out = {
        "deactivate": lambda: people.deactivate_user(user=rita, actor=ada),
        "remove": lambda: domain.remove_member(workspace=workspace, user=rita, actor=ada),
        "sign out": lambda: people.sign_out(user=rita, actor=ada),
    }[verb]

    async def scenario():
        hers, others = Socket(rita, "lab"), Socket(people_of_lab["dan"], "lab")
        assert await hers.connect()
        assert await others.connect()
        await sync_to_async(lock_out)()
        assert (await hers.receive_output())["type"] == "websocket.close"
        assert await others.receive_nothing()
        await others.leave()

    async_to_sync(scenario)()


@pytest.fixture
def people_of_lab(people):
    return people

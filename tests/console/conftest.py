"""One of everything a page of the console can be about, and a signed-in browser for each person."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.factories import make_console_world


@pytest.fixture
def world(workspace, people):
    return make_console_world(workspace, people)


@pytest.fixture
def browser(people):
    def sign_in(name):
        client = Client(raise_request_exception=False)
        if name != "anonymous":
            client.force_login(people[name])
        return client

    return sign_in


@pytest.fixture
def it(world, browser):
    """The administrator's browser."""
    return browser("ada")

"""A workspace with one of everything, and a signed-in browser for each person."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.factories import make_world


@pytest.fixture
def world(workspace, people):
    return {"workspace": workspace, **make_world(workspace, people["olga"])}


@pytest.fixture
def browser(people):
    def sign_in(name):
        client = Client(raise_request_exception=False)
        if name != "anonymous":
            client.force_login(people[name])
        return client

    return sign_in

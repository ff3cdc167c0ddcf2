"""The studio on a test server."""

from __future__ import annotations

import os

import pytest

from tests.factories import make_pipeline_deployment, make_world


@pytest.fixture
def site(settings, live_server, workspace, people, monkeypatch):
    """The address of a server with one of everything in the workspace `lab`."""
    settings.SESSION_COOKIE_SECURE = False
    settings.CSRF_COOKIE_SECURE = False
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs a loop in this thread
    make_world(workspace, people["olga"])
    make_pipeline_deployment(workspace)
    return live_server.url

"""The studio on a test server, and a browser that notes everything the page complains about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.factories import make_world

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture
def site(settings, live_server, workspace, people, monkeypatch):
    """The address of a server with one of everything in the workspace `lab`."""
    settings.SESSION_COOKIE_SECURE = False
    settings.CSRF_COOKIE_SECURE = False
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs a loop in this thread
    make_world(workspace, people["olga"])
    return live_server.url


@pytest.fixture
def chromium(site):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, site, settings):
    """A page of a person who is signed in, or of nobody; closed with the test."""
    contexts = []

    def opened(who="olga", *, theme="light", width=1280):
        context = chromium.new_context(viewport={"width": width, "height": 800})
        contexts.append(context)
        context.add_cookies([{"name": "theme", "value": theme, "url": site}])
        if who:
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session_of(who), "url": site}])
        page = context.new_page()
        page.add_init_script(WATCH)
        page.route_web_socket("**/ws/**", lambda _socket: None)  # the test server speaks no WebSocket
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()


def session_of(name):
    from django.test import Client

    from apps.accounts.models import User

    client = Client()
    client.force_login(User.objects.get(username=name))
    return client.cookies["portway_session"].value


def clean(page):
    """Nothing that the policy forbids, no error in the console."""
    assert page.evaluate("window.violations") == []
    assert page.complaints == []

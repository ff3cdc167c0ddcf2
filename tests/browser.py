"""A browser that notes everything a page complains about. The test package says which `site` it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        address = getattr(site, "url", site)
        context.add_cookies([{"name": "theme", "value": theme, "url": address}])
        if who:
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session_of(who), "url": address}])
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

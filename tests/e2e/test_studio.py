"""The studio in a real browser: sign in, move traffic by keyboard, see the operation; nothing the policy forbids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.factories import make_world

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]
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


def open_page(browser, site, theme):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": "theme", "value": theme, "url": site}])
    page = context.new_page()
    page.add_init_script(WATCH)
    page.route_web_socket("**/ws/**", lambda _socket: None)  # the test server speaks no WebSocket
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page, complaints


def clean(page, complaints):
    assert page.evaluate("window.violations") == []
    assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_traffic_by_keyboard(theme, chromium, site):
    page, complaints = open_page(chromium, site, theme)
    page.goto(site)
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    clean(page, complaints)
    page.keyboard.press("Enter")

    page.get_by_role("link", name="flowers").click()
    page.wait_for_url("**/endpoints/flowers")
    assert page.evaluate("document.documentElement.className") == theme
    clean(page, complaints)
    page.get_by_role("link", name="Traffic", exact=True).click()

    page.get_by_role("slider", name="Traffic to blue").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert page.get_by_role("spinbutton", name="Traffic to green in percent").input_value() == "30"
    assert page.locator("[data-difference]").inner_text() == "blue 90 → 70, green 10 → 30"
    clean(page, complaints)
    apply = page.get_by_role("button", name="Apply")
    apply.focus()
    page.keyboard.press("Enter")

    page.wait_for_url("**/operations/*")
    assert page.get_by_role("heading", name="Update endpoint").is_visible()
    assert "online-endpoint/flowers" in page.inner_text("main")
    clean(page, complaints)
    from apps.endpoints.models import OnlineEndpoint

    assert OnlineEndpoint.objects.get(name="flowers").traffic == {"blue": 70, "green": 30}


def test_a_key_is_shown_only_when_asked(chromium, site):
    from apps.gateway.domain import keys_of

    page, complaints = open_page(chromium, site, "light")
    page.goto(f"{site}/w/lab/endpoints/flowers/keys")
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="flowers").wait_for()
    secret = keys_of("flowers")["primary"]
    assert secret not in page.content()
    page.get_by_role("button", name="Show").first.click()
    page.get_by_text(secret).wait_for()
    page.get_by_role("button", name="Show").first.click()
    assert secret not in page.content()
    clean(page, complaints)


def test_the_page_follows_changes_and_keeps_what_is_typed(chromium, site):
    """A fragment that is drawn again must not lose the reader's place."""
    from apps.core.models import Operation, OperationState

    page, complaints = open_page(chromium, site, "light")
    operation = Operation.objects.get()
    Operation.objects.update(state=OperationState.RUNNING)
    page.goto(f"{site}/w/lab/operations/{operation.pk}")
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url("**/operations/*")
    page.locator("summary", has_text="Route traffic").click()
    Operation.objects.update(state=OperationState.SUCCEEDED)
    page.evaluate(f"document.body.dispatchEvent(new CustomEvent('changed:operation-{operation.pk}'))")
    page.get_by_text("Succeeded").wait_for(timeout=5000)
    assert page.get_by_text("published").is_visible()
    clean(page, complaints)

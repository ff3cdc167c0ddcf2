"""The console in a real browser: an administrator's day, and every page against axe and the content security policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, clean
from tests.console.test_access import EXPECTED, PATTERNS, address
from tests.factories import make_console_world, make_operation

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]
AXE = Path(__file__).parent.parent / "vendor" / "axe" / "axe.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = sorted(name for name in PATTERNS if name in EXPECTED and EXPECTED[name][0] == 200)


@pytest.fixture
def site(settings, live_server, workspace, people, monkeypatch):
    settings.SESSION_COOKIE_SECURE = False
    settings.CSRF_COOKIE_SECURE = False
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright runs a loop in this thread
    live_server.world = make_console_world(workspace, people)
    return live_server


def sign_in(page, site):
    page.goto(f"{site.url}/console/")
    page.get_by_label("User name or e-mail").fill("ada")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()


def axe(page):
    """What axe finds, one line for each element."""
    return page.evaluate(
        "rules => axe.run(document, {runOnly: rules}).then(found => found.violations.flatMap("
        "each => each.nodes.map(node => `${each.id}: ${node.target} ${node.failureSummary}`)))",
        RULES,
    )


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_and_breaks_no_policy(theme, open_page, site):
    page = open_page("", theme=theme)
    page.context.add_init_script(path=str(AXE))
    make_operation(
        site.world["endpoint"],
        state="failed",
        lock="x",
        error={"message": "the disk is full", "fault": "capacity", "code": "disk-full", "next": "Free some."},
        steps=[("route", "failed", "no room")],
    )
    sign_in(page, site)
    found = {}
    for name in PAGES:
        page.goto(f"{site.url}{address(name, site.world)}")
        assert page.evaluate("document.documentElement.className") == theme
        wrong = axe(page)
        wrong += page.evaluate("window.violations")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wrong.append("overflows")
        if wrong:
            found[name] = wrong
    assert found == {}
    clean(page)


@pytest.mark.slow
def test_every_page_fits_a_phone(open_page, site):
    page = open_page("", theme="light")
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site)
    wide = []
    for name in PAGES:
        page.goto(f"{site.url}{address(name, site.world)}")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(name)
    assert wide == []
    page.get_by_label("Menu").click()
    page.get_by_role("link", name="Audit").click()
    page.get_by_role("heading", name="Audit").wait_for()
    clean(page)


def test_a_day_of_an_administrator(open_page, site):
    """Sign in, add a user, give a role, restart an instance, and find it all in the audit trail."""
    from apps.accounts.models import Membership, User
    from apps.core.models import Operation

    page = open_page("", theme="light")
    sign_in(page, site)
    page.get_by_role("link", name="Users", exact=True).first.click()
    page.get_by_role("link", name="Add user").click()
    page.get_by_label("User name").fill("eve")
    page.get_by_label("Password").fill("a very long password")
    page.get_by_role("button", name="Add user").click()
    page.get_by_text("eve can sign in now.").wait_for()
    assert User.objects.get(username="eve").check_password("a very long password")

    page.get_by_role("link", name="Memberships").click()
    page.get_by_role("link", name="Give role").click()
    page.get_by_label("User", exact=True).select_option(label="eve")
    page.get_by_label("Workspace").select_option(label="lab")
    page.get_by_label("Role").select_option(label="Reader")
    page.get_by_role("button", name="Give role").click()
    page.get_by_text("eve is Reader of lab.").wait_for()
    assert Membership.objects.get(user__username="eve").role == "reader"

    page.get_by_role("link", name="Instances", exact=True).first.click()
    page.get_by_role("heading", name="Instances").wait_for()
    page.wait_for_load_state("networkidle")
    page.keyboard.press("/")
    page.keyboard.type("flowers/blue")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=flowers*")
    page.locator("#result_list tbody th a").first.click()
    page.get_by_role("link", name="Restart").click()
    assert "No other instance of this deployment is ready" in page.inner_text("main")
    page.get_by_label("Reason").fill("it leaks")
    page.get_by_role("button", name="Restart").click()
    page.get_by_role("heading", name="Restart instance").wait_for()
    assert page.get_by_text("Drain old instances").is_visible()
    operation = Operation.objects.get(kind="replica.restart")
    assert operation.actor.username == "ada"

    page.get_by_role("link", name="Audit", exact=True).first.click()
    page.get_by_label("Who").fill("ada")
    page.get_by_label("Action").fill("replica")
    page.get_by_role("button", name="Search").click()
    row = page.locator("#result_list tbody tr")
    assert row.count() == 1
    assert "online-deployment/flowers/blue" in row.inner_text()
    assert "reason: it leaks" in row.inner_text()
    clean(page)


def test_strangers_meet_the_studios_pages(open_page, site):
    page = open_page("", theme="dark")
    page.goto(f"{site.url}/console/core/auditrecord/?action=replica")
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Not allowed").wait_for()
    assert page.url.endswith("/console/core/auditrecord/?action=replica")
    page.get_by_role("link", name="To the start page").click()
    page.get_by_role("link", name="flowers").wait_for()
    page.complaints[:] = [each for each in page.complaints if "403" not in each]
    clean(page)

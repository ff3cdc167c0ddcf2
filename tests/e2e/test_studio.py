"""The studio in a real browser: sign in, move traffic by keyboard, see the operation; nothing the policy forbids."""

from __future__ import annotations

import pytest

from tests.browser import CHROMIUM, clean

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_traffic_by_keyboard(theme, open_page, site):
    page = open_page("", theme=theme)
    page.goto(site)
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    clean(page)
    page.keyboard.press("Enter")

    page.get_by_role("link", name="flowers").click()
    page.wait_for_url("**/endpoints/flowers")
    assert page.evaluate("document.documentElement.className") == theme
    clean(page)
    page.get_by_role("link", name="Traffic", exact=True).click()

    page.get_by_role("slider", name="Traffic to blue").focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    assert page.get_by_role("spinbutton", name="Traffic to green in percent").input_value() == "30"
    assert page.locator("[data-difference]").inner_text() == "blue 90 → 70, green 10 → 30"
    clean(page)
    apply = page.get_by_role("button", name="Apply")
    apply.focus()
    page.keyboard.press("Enter")

    page.wait_for_url("**/traffic?applied=*")
    assert page.get_by_role("link", name="Update endpoint").is_visible()
    clean(page)
    from apps.endpoints.models import OnlineEndpoint

    assert OnlineEndpoint.objects.get(name="flowers").traffic == {"blue": 70, "green": 30}


def test_a_key_is_shown_only_when_asked(open_page, site):
    from apps.gateway.domain import keys_of

    page = open_page("")
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
    clean(page)


def test_the_page_follows_changes_and_keeps_what_is_typed(open_page, site):
    """A fragment that is drawn again must not lose the reader's place."""
    from apps.core.models import Operation, OperationState

    page = open_page("")
    operation = Operation.objects.get()
    Operation.objects.update(state=OperationState.RUNNING)
    page.goto(f"{site}/w/lab/operations/{operation.pk}")
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url("**/operations/*")
    page.locator("summary", has_text="Route").click()
    Operation.objects.update(state=OperationState.SUCCEEDED)
    page.evaluate(f"document.body.dispatchEvent(new CustomEvent('changed:operation-{operation.pk}'))")
    page.get_by_text("Succeeded").wait_for(timeout=5000)
    assert page.get_by_text("published").is_visible()
    clean(page)

"""Forms in a real browser: nothing typed is lost, errors are found, the focus stays where people work."""

from __future__ import annotations

import time

import pytest

from tests.browser import CHROMIUM, clean

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]
DEPLOY = "/w/lab/create/deployment"
EDIT = "/w/lab/endpoints/flowers/edit"
TEST = "/w/lab/endpoints/flowers/test"


def until(page, what, seconds=8):
    """Playwright's own waiting evaluates a string in the page, which the policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(what):
        assert time.monotonic() < deadline, what
        page.wait_for_timeout(50)


def expected(page, *statuses):
    """Chromium itself complains about answers that say no."""
    page.complaints[:] = [each for each in page.complaints if not any(f"status of {code}" in each for code in statuses)]


def test_a_refused_form_keeps_its_editor(open_page, site):
    page = open_page()
    page.goto(f"{site}/w/lab/create/environment")
    editor = page.locator("code-editor .cm-content")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")  # nothing at all is refused by the server, not silently held back by the browser
    page.get_by_label("Name").fill("sklearn")
    page.get_by_label("Version").fill("1")
    page.locator("#form button[type=submit]").click()
    page.locator("[data-invalid] .error").wait_for()
    until(page, "document.activeElement.closest('code-editor') !== null")
    assert editor.get_attribute("aria-invalid") == "true"

    page.keyboard.type("one: 1")
    assert page.locator("textarea[name=conda_file]").input_value() == "one: 1"
    page.locator("#form button[type=submit]").click()
    page.get_by_text("Versions are immutable").wait_for()
    assert page.locator("[data-invalid] code-editor").count() == 0
    assert editor.inner_text().strip() == "one: 1"
    assert editor.get_attribute("aria-invalid") == "false"
    expected(page, 400, 409)
    clean(page)


def test_a_refused_form_keeps_its_picker(open_page, site):
    page = open_page()
    page.goto(f"{site}{DEPLOY}")
    model = page.get_by_role("combobox", name="Model")
    model.fill("nobody:7")
    page.get_by_label("Tags").evaluate("area => { area.value = 'no pair'; }")
    page.locator("#form button[type=submit]").click()
    page.get_by_text("There is no nobody:7").wait_for()
    until(page, "document.activeElement.name === 'model'")
    assert model.input_value() == "nobody:7"
    assert model.get_attribute("aria-invalid") == "true"
    assert page.locator("details:has(#id_tags)").evaluate("fold => fold.open")
    page.locator("[name=new_name]").fill("flowers")  # taken: a problem at another field
    model.fill("iri")
    page.get_by_role("option", name="iris:1").click()
    assert model.input_value() == "iris:1"
    page.get_by_text("An MLflow model: it brings").wait_for()
    page.locator("#id_tags").fill("a=b")
    page.locator("#form button[type=submit]").click()
    until(page, "document.activeElement.name === 'new_name'")
    page.get_by_text("An MLflow model: it brings").wait_for()
    model.fill("ir")
    page.get_by_role("option", name="iris:1").wait_for()
    expected(page, 400, 409)
    clean(page)


def test_a_draft_holds_only_what_was_changed(open_page, site):
    from apps.endpoints.models import OnlineEndpoint

    page = open_page()
    page.goto(f"{site}{EDIT}")
    page.get_by_label("Description").fill("typed")
    OnlineEndpoint.objects.update(tags={"made": "meanwhile"})
    page.goto(f"{site}{EDIT}")
    page.get_by_text("What you typed here before is back").wait_for()
    assert page.get_by_label("Description").input_value() == "typed"
    assert page.get_by_label("Tags").input_value() == "made=meanwhile"
    page.get_by_role("button", name="Start over").click()
    page.get_by_text("What you typed here before is back").wait_for(state="detached")
    assert page.get_by_label("Description").input_value() == ""

    page.get_by_label("Description").fill("typed again")
    OnlineEndpoint.objects.update(description="by somebody else")
    page.goto(f"{site}{EDIT}")
    assert page.get_by_label("Description").input_value() == "by somebody else"
    clean(page)


def test_a_draft_is_not_shown_to_anyone_else(open_page, site, settings):
    from tests.browser import session_of

    page = open_page()
    page.goto(f"{site}{EDIT}")
    page.get_by_label("Description").fill("of Olga")
    olga = page.context.cookies()
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session_of("carl"), "url": site}])
    page.goto(f"{site}{EDIT}")
    assert page.get_by_label("Description").input_value() == ""
    page.context.add_cookies(olga)
    page.goto(f"{site}{EDIT}")
    assert page.get_by_label("Description").input_value() == "of Olga"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_load_state()
    assert page.evaluate("Object.keys(sessionStorage).filter(name => name.startsWith('draft:'))") == []


def test_environment_variables_are_never_kept(open_page, site):
    page = open_page()
    page.goto(f"{site}{DEPLOY}?model=iris:1")
    page.locator("[data-script]").evaluate("fold => { fold.open = true; }")
    page.locator("[name=environment_variables]").fill("TOKEN=hidden")
    page.locator("[name=new_name]").fill("kept-name")
    kept = page.evaluate("JSON.stringify(sessionStorage)")
    assert "kept-name" in kept
    assert "hidden" not in kept


def test_what_was_typed_stays_when_its_object_is_gone(open_page, site):
    from apps.endpoints.models import OnlineEndpoint

    page = open_page()
    page.goto(f"{site}{EDIT}")
    page.get_by_label("Description").fill("typed")
    OnlineEndpoint.objects.update(name="renamed")
    page.locator("#form button[type=submit]").click()
    page.get_by_text("There is no endpoint flowers").wait_for()
    assert page.get_by_label("Description").input_value() == "typed"
    until(page, "document.activeElement.matches('#problems .problem')")
    OnlineEndpoint.objects.update(name="flowers")
    page.locator("#form button[type=submit]").click()
    page.wait_for_url("**/operations/*")
    expected(page, 404)
    clean(page)


def test_the_test_console_says_when_its_endpoint_is_gone(open_page, site):
    from apps.endpoints.models import OnlineEndpoint

    page = open_page()
    page.goto(f"{site}{TEST}")
    page.locator(".cm-content").wait_for()
    OnlineEndpoint.objects.update(name="renamed")
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator("#problems").get_by_text("There is no endpoint flowers").wait_for()
    assert page.locator("#answer main").count() == 0
    assert page.locator(".cm-content").is_visible()
    expected(page, 404)
    clean(page)


@pytest.mark.parametrize("how", ["500", "away"])
def test_an_error_of_the_server_is_said(how, open_page, site):
    page = open_page()
    page.goto(f"{site}{EDIT}")
    page.get_by_label("Description").fill("typed")
    page.route(
        f"**{EDIT}",
        lambda route: route.abort() if how == "away" else route.fulfill(status=500, body="<!doctype html><h1>no</h1>"),
    )
    page.locator("#form button[type=submit]").click()
    page.locator(".toast").wait_for()
    text = page.locator(".toast").inner_text()
    assert ("could not be reached" if how == "away" else "500") in text
    assert page.get_by_label("Description").input_value() == "typed"


def test_send_keeps_the_focus_and_says_the_answer_in_one_sentence(open_page, site, monkeypatch):
    from apps.studio import invoke

    answer = invoke.Answer(200, "OK", 0.042, [], "[1]", False, "blue", "id")
    monkeypatch.setattr(invoke, "_send", lambda *_args, **_kwargs: answer)
    page = open_page()
    page.goto(f"{site}{TEST}")
    page.locator(".cm-content").wait_for()
    send = page.get_by_role("button", name="Send", exact=True)
    send.focus()
    page.keyboard.press("Enter")
    until(page, "document.getElementById('announce').textContent === '200, 42 ms, blue'")
    until(page, "document.activeElement.textContent.trim() === 'Send'")
    clean(page)


def test_the_share_follows_the_endpoint_until_it_is_edited(open_page, site):
    page = open_page()
    page.goto(f"{site}{DEPLOY}?model=iris:1")
    share = page.locator("[name=share]")
    page.get_by_text("An MLflow model: it brings").wait_for()
    assert share.input_value() == "100"
    page.locator("input[name=target][value=existing]").check()
    endpoint = page.get_by_role("combobox", name="Endpoint")
    endpoint.fill("flowers")  # typed, not picked
    until(page, "document.querySelector('[name=share]').value === '0'")
    page.locator("input[name=target][value=new]").check()
    until(page, "document.querySelector('[name=share]').value === '100'")
    share.fill("30")
    page.locator("input[name=target][value=existing]").check()
    page.wait_for_timeout(600)
    assert share.input_value() == "30"

    page.get_by_role("combobox", name="Model").fill("iris:9")
    page.get_by_text("An MLflow model: it brings").wait_for(state="hidden")
    page.get_by_role("combobox", name="Model").fill("iris")
    page.get_by_text("An MLflow model: it brings").wait_for()
    clean(page)


def test_a_key_is_regenerated_in_two_steps(open_page, site):
    page = open_page()
    page.goto(f"{site}/w/lab/endpoints/flowers/keys")
    page.locator("summary", has_text="Regenerate").first.click()
    page.get_by_text("The primary key of flowers stops working at once").wait_for()
    assert page.url.endswith("/keys")
    page.get_by_role("button", name="Regenerate the primary key").click()
    page.wait_for_url("**/operations/*")
    clean(page)


def test_single_keys_can_be_switched_off(open_page, site):
    page = open_page()
    page.goto(f"{site}/w/lab/endpoints")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement === document.body")  # it scrolls
    page.keyboard.press("?")
    page.get_by_label("Shortcuts of a single key").uncheck()
    page.keyboard.press("Escape")
    page.locator("#shortcuts").wait_for(state="hidden")
    page.keyboard.press("c")
    page.keyboard.press("?")
    assert page.locator("#shortcuts").is_hidden()
    page.keyboard.press("Control+k")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Shortcuts of a single key").check()
    page.keyboard.press("Escape")
    page.locator("#shortcuts").wait_for(state="hidden")
    page.keyboard.press("c")
    page.wait_for_url("**/create/**")
    clean(page)


def test_the_form_of_a_job_has_the_fields_of_what_is_chosen(open_page, site):
    page = open_page("dan")
    page.goto(f"{site}/w/lab/create/job?endpoint=forests")
    page.get_by_label("Mini-batch size").wait_for()
    page.get_by_label("Deployment").select_option(label="rivers/flow · rivers_flow:1")
    page.get_by_label("count", exact=True).fill("x")
    page.get_by_role("combobox", name="images").fill("azureml:tiles@latest")
    page.get_by_role("tab", name="curl").click()
    page.locator("#as-code").get_by_text('"Uri": "azureml:tiles@latest"').wait_for()
    page.get_by_role("button", name="Create job").click()
    page.get_by_text("'x' is no integer").wait_for()
    assert page.get_by_label("count", exact=True).input_value() == "x"
    until(page, "document.activeElement.name === 'input.count'")
    expected(page, 400)
    clean(page)


def test_more_inputs_of_a_schedule_and_its_code(open_page, site):
    page = open_page("dan")
    page.goto(f"{site}/w/lab/create/schedule")
    page.get_by_text("More inputs").click()
    page.get_by_label("Input", exact=True).nth(0).fill("data")
    page.get_by_role("combobox", name="Address of the data, or the value").nth(0).fill("azureml:tiles@latest")
    page.get_by_label("Input optional").nth(0).fill("rate")
    page.locator("[name=input_1_type]").select_option("Literal")
    page.locator("[name=input_1_value]").fill("0.5")
    page.get_by_role("tab", name="YAML").click()
    page.locator("#as-code").get_by_text("Value: '0.5'").wait_for()
    page.get_by_label("Name", exact=True).fill("weekly")
    page.get_by_label("When").fill("0 6 * * 1")
    page.get_by_role("button", name="Create schedule").click()
    page.wait_for_url("**/w/lab/schedules")
    page.get_by_role("link", name="weekly").wait_for()
    clean(page)


def test_credentials_of_a_datastore_are_asked_for_when_they_are_replaced(open_page, site):
    page = open_page("dan")
    page.goto(f"{site}/w/lab/datastores/bay/edit")
    secret = page.get_by_label("Secret key")
    assert not secret.is_visible()
    page.get_by_label("Replace them").check()
    secret.wait_for()
    page.get_by_label("Description").fill("of the bay")
    page.get_by_label("Keep those it has").check()
    assert not secret.is_visible()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/w/lab/datastores/bay")
    page.complaints.clear()  # nobody is at the made-up place


def test_a_component_is_taken_from_a_file_and_deployed(open_page, site, tmp_path):
    page = open_page()
    page.goto(f"{site}/w/lab/components/rivers_flow")
    written = page.locator("pre", has_text="name: rivers_flow").inner_text()
    file = tmp_path / "flow.yml"
    file.write_text(written.replace("name: rivers_flow", "name: a: b").replace("version: '1'\n", ""))
    page.goto(f"{site}/w/lab/create/component")
    editor = page.locator("code-editor .cm-content")
    editor.wait_for()
    page.get_by_label("Take it from a file").set_input_files(file)
    until(page, "document.querySelector('textarea[name=text]').value.includes('a: b')")
    assert "name: a: b" in editor.inner_text()
    page.locator("#form button[type=submit]").click()
    page.locator("[data-invalid] .error", has_text="Line 2").wait_for()
    file.write_text(written.replace("name: rivers_flow", "name: lake_flow").replace("version: '1'\n", ""))
    page.get_by_label("Take it from a file").set_input_files(file)  # the same name: it is read again
    until(page, "document.querySelector('textarea[name=text]').value.includes('lake_flow')")
    page.locator("#form button[type=submit]").click()
    page.wait_for_url("**/components/lake_flow")
    page.get_by_text("Deploy", exact=True).click()
    page.get_by_role("link", name="forests").click()
    picker = page.get_by_role("combobox", name="Pipeline component")
    assert picker.input_value() == "lake_flow:1"
    picker.fill("rivers")
    page.get_by_role("option", name="rivers_flow:1").click()
    page.get_by_label("Default compute").select_option("")
    page.locator("#form button[type=submit]").click()
    page.get_by_text("Step main names none").wait_for()
    assert picker.input_value() == "rivers_flow:1"
    page.get_by_label("Default compute").select_option(label="cpu")
    page.locator("#form button[type=submit]").click()
    page.wait_for_url("**/operations/**")
    expected(page, 400)
    clean(page)

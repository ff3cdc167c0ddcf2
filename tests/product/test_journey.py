"""A data scientist's way through the studio of a running product, in a cold browser, by mouse and by keyboard."""

from __future__ import annotations

import contextlib
import json
import socket
import time
import zipfile

import pytest

from bench.product import Product
from tests.browser import ARGUMENTS, CHROMIUM, WATCH

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
]
PASSWORD = "a long password"
MOST_CLICKS, MOST_SECONDS = 8, 60


@pytest.fixture(scope="module")
def running(folder):
    """With the demo: its models are what is registered again here."""
    made = Product(folder / "j", PORTWAY_ADMIN_PASSWORD=PASSWORD)
    try:
        made.up()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def archive(running, folder):
    """The demo's MLflow model as somebody would have it on their disk."""
    model = next((running.home / "artifacts" / "trees").glob("*/*/model/MLmodel")).parent
    target = folder / "risk.zip"
    with zipfile.ZipFile(target, "w") as zipped:
        for path in sorted(model.rglob("*")):
            if path.is_file():
                zipped.write(path, f"model/{path.relative_to(model)}")
    return target


@pytest.fixture
def page(running):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.add_init_script(WATCH)
        page.complaints = []
        page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.set_default_timeout(30_000)
        page.base = f"https://localhost:{running.tls}"
        yield page
        browser.close()


class Counted:
    """Clicks as a person counts them."""

    def __init__(self, page):
        self.page = page
        self.clicks = 0

    def click(self, role, name, **options):
        self.clicks += 1
        self.page.get_by_role(role, name=name, **options).first.click()

    def choose(self, label, file):
        self.clicks += 1
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_text(label).click()
        chooser.value.set_files(str(file))


def typed_in(page):
    page.goto(page.base)
    page.get_by_label("User name or e-mail").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)


def quiet(page):
    assert page.evaluate("window.violations") == []
    assert page.complaints == []


def test_from_a_model_on_disk_to_a_tested_endpoint(page, archive):
    started = time.monotonic()
    typed_in(page)
    hand = Counted(page)
    hand.click("button", "Sign in")
    hand.click("link", "Register a model")
    hand.choose("Choose files or a zip", archive)
    hand.click("button", "Register model")
    page.wait_for_url("**/models/risk")
    hand.click("link", "Deploy", exact=True)
    hand.click("button", "Deploy", exact=True)
    page.wait_for_url("**/operations/*")
    quiet(page)
    hand.click("link", "Test", exact=True)
    hand.click("button", "Send", exact=True)
    page.get_by_text("Answered by").wait_for()
    seconds = time.monotonic() - started
    assert page.locator(".answer .state").first.inner_text() == "200"
    assert isinstance(json.loads(page.locator(".answer pre code").inner_text()), list | dict)
    assert page.locator(".answer .mono").first.inner_text() == "blue"
    quiet(page)
    print(f"\n{hand.clicks} clicks, {seconds:.1f} s")
    assert hand.clicks <= MOST_CLICKS
    assert seconds <= MOST_SECONDS


def test_split_watch_read_and_delete(page, running):
    """The second half of the day: another deployment, half the traffic, its logs, and everything away again."""
    typed_in(page)
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{page.base}/w/default/create/deployment?model=risk:1&endpoint=risk")
    assert page.get_by_label("Deployment name").input_value() == "green"
    page.get_by_role("button", name="Deploy", exact=True).click()
    page.wait_for_url("**/operations/*")
    page.get_by_role("link", name="Test", exact=True).wait_for(timeout=60_000)

    page.goto(f"{page.base}/w/default/endpoints/risk/traffic")
    page.get_by_role("spinbutton", name="Traffic to green in percent").fill("50")
    page.keyboard.press("Tab")
    assert page.locator("[data-difference]").inner_text() == "blue 100 → 50, green 0 → 50"
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/traffic?applied=*")
    page.get_by_role("link", name="Update endpoint").get_by_text("Succeeded").wait_for()
    assert running.rest("GET", "onlineEndpoints/risk")["properties"]["traffic"] == {"blue": 50, "green": 50}

    page.goto(f"{page.base}/w/default/endpoints/risk/test")
    page.get_by_label("Deployment", exact=True).select_option("blue")
    page.get_by_label("Compare with").select_option("green")
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator(".answer").nth(1).wait_for()
    assert [each.inner_text() for each in page.locator(".answer .state").all()] == ["200", "200"]
    assert {each.inner_text() for each in page.locator(".answer dd .mono").all()} == {"blue", "green"}

    page.goto(f"{page.base}/w/default/endpoints/risk/logs?deployment=blue")
    page.get_by_text("Worker with pid").first.wait_for()
    quiet(page)

    page.goto(f"{page.base}/w/default/endpoints/risk/delete")
    page.get_by_label("Type risk to confirm").fill("risk")
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/operations/*")
    page.get_by_text("Succeeded").first.wait_for()
    page.goto(f"{page.base}/w/default/endpoints")
    assert page.get_by_role("link", name="diabetes").is_visible()
    assert page.get_by_role("link", name="risk", exact=True).count() == 0
    quiet(page)


def focus_on(page, role, name, most=80):
    """Tab until that element has the focus, as somebody without a mouse would."""
    wanted = page.get_by_role(role, name=name, exact=True).first
    wanted.wait_for()
    for _ in range(most):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {role} {name}")


def test_everything_by_keyboard_alone(page):  # noqa: PLR0915 -- one journey
    """Sign in, deploy, move traffic, test, read logs, delete: no mouse, and the focus is always somewhere sensible."""
    page.goto(page.base)
    page.keyboard.type("admin")  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/w/default/")

    page.keyboard.press("Control+k")
    page.keyboard.type("deploy a mod")
    page.get_by_role("option", name="Deploy a model").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/create/deployment")
    focus_on(page, "combobox", "Model")
    page.keyboard.type("diabetes-g")
    page.get_by_role("option", name="diabetes-green:1").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    focus_on(page, "textbox", "Name of the new endpoint")
    page.keyboard.type("keys-only")
    page.keyboard.press("Enter")
    page.wait_for_url("**/operations/*")
    page.get_by_role("link", name="Test", exact=True).wait_for(timeout=60_000)

    page.keyboard.press("t")
    page.wait_for_url("**/endpoints/keys-only/test**")
    page.locator("code-editor .editor-host").wait_for()
    focus_on(page, "button", "Send")
    page.keyboard.press("Enter")
    page.get_by_text("Answered by").wait_for()
    assert page.locator(".answer .state").first.inner_text() == "200"

    page.keyboard.press("g")
    page.keyboard.press("e")
    page.wait_for_url("**/endpoints")
    page.keyboard.press("/")
    page.keyboard.type("keys")
    page.keyboard.press("Enter")
    page.wait_for_url("**/endpoints?**")
    focus_on(page, "link", "keys-only")
    page.keyboard.press("Enter")
    page.wait_for_url("**/endpoints/keys-only")
    focus_on(page, "link", "Traffic")
    page.keyboard.press("Enter")
    page.wait_for_url("**/traffic")
    focus_on(page, "slider", "Traffic to blue")
    page.keyboard.press("Home")
    assert page.locator("[data-difference]").inner_text() == "blue 100 → 0"
    focus_on(page, "button", "Apply")
    page.keyboard.press("Enter")
    page.wait_for_url("**/traffic?applied=*")
    page.get_by_role("link", name="Update endpoint").get_by_text("Succeeded").wait_for()
    focus_on(page, "link", "Logs")
    page.keyboard.press("Enter")
    page.wait_for_url("**/logs")
    focus_on(page, "link", "Delete")
    page.keyboard.press("Enter")
    page.wait_for_url("**/delete")
    focus_on(page, "textbox", "Type keys-only to confirm")
    page.keyboard.type("keys-only")
    page.keyboard.press("Enter")
    page.wait_for_url("**/operations/*")
    page.get_by_text("Succeeded").first.wait_for()
    quiet(page)


def test_an_environment_is_built_from_the_command_line(product):
    product.register("environments", "small", "1", requirements="six==1.17.0")
    product.register("environments", "broken", "1", requirements="there-is-no-such-package-here==1")
    done = product.command("build", "small:1", timeout_s=180)
    assert done.returncode == 0, done.stderr
    assert "resolving 1 requirements" in done.stdout
    failed = product.command("build", "broken:1", timeout_s=180)
    assert failed.returncode == 1
    assert "there-is-no-such-package-here" in failed.stderr
    assert "Check the spelling" in failed.stderr
    for wrong, said in (("nobody:1", "There is no environment nobody:1"), ("small", "no NAME:VERSION")):
        refused = product.command("build", wrong)
        assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr


@pytest.mark.parametrize(
    ("path", "status"), [("accounts/login/", b"413"), ("api/v1/workspaces/default/uploads", b"401")]
)
def test_a_strangers_endless_body_ends_soon(running, path, status):
    """Answered and cut off while it is sent, from the gateway on, instead of filling a disk."""
    piece = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
    head = f"POST /{path} HTTP/1.1\r\nHost: localhost:{running.http}\r\nTransfer-Encoding: chunked\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", running.http), timeout=30) as line:
        line.sendall(f"{head}Content-Type: multipart/form-data; boundary=edge\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while sent < 200:
                line.sendall(piece)
                sent += 1
        assert line.recv(12) == b"HTTP/1.1 " + status
    assert sent < 200


def test_a_form_says_what_it_is_as_code_and_does_nothing_yet(page, running):
    """Through the gateway, which takes headers off: the question must not arrive as an order."""
    typed_in(page)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/w/default/")
    page.goto(f"{page.base}/w/default/create/endpoint")
    page.get_by_label("Name", exact=True).fill("typed-only")
    page.locator("#as-code", has_text="typed-only").wait_for(state="attached")
    quiet(page)
    names = [each["name"] for each in running.rest("GET", "onlineEndpoints")["value"]]
    assert "typed-only" not in names


def test_large_files_reach_the_studio(page, folder):
    """The gateway ends other bodies at 10 MiB."""
    file = folder / "large.csv"
    file.write_text("a,b\n" + "1,2\n" * 4_000_000)
    typed_in(page)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/w/default/")
    page.goto(f"{page.base}/w/default/create/data")
    page.get_by_label("Name", exact=True).fill("large")
    page.get_by_label("Files from here").check()
    page.get_by_label("Files", exact=True).set_input_files(file)
    page.get_by_role("button", name="Register data").click()
    page.wait_for_url("**/data/large*", timeout=60_000)
    page.get_by_text("large.csv").first.wait_for()
    quiet(page)

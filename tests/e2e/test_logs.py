"""Logs in a real browser: lines that come, pausing, searching, hostile text; nothing the policy forbids."""

from __future__ import annotations

import json

import pytest

from apps.compute import domain as compute
from apps.compute.models import Replica
from tests.browser import CHROMIUM, clean
from tests.compute.test_history import up
from tests.factories import make_endpoint

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
LOGS = "/w/lab/endpoints/iris/logs"


@pytest.fixture
def say(site, workspace):
    make_endpoint(workspace, "iris")
    compute.driver.cache_clear()
    driver = compute.driver("fake")
    up()
    name = Replica.objects.get(set__owner_key="iris/blue").name
    yield driver.replicas[name].log
    for handle in driver.list(owner=compute.OWNER):
        driver.forget(handle)


def sign_in(page, site, path):
    page.goto(site + path)
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="iris").wait_for()
    page.wait_for_load_state("load")  # the keys work from here on


def a_line(text, **more):
    given = {"at": "2026-03-01T10:00:00+00:00", "day": "03-01", "time": "10:00:00.000", "who": "blue #0", "hue": 0}
    return given | {"stderr": False, "level": "", "text": text, "rest": ""} | more


class Door:
    """The server's end of the page's socket."""

    def __init__(self, page):
        self.said = []
        self.socket = None
        page.route_web_socket("**/ws/lab/logs/**", self.open)

    def open(self, socket):
        self.socket = socket
        socket.on_message(lambda text: self.said.append(json.loads(text)))

    def send(self, *lines):
        self.socket.send(json.dumps({"lines": list(lines), "marks": {"x": "m"}}))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_live_tail_pause_and_hostile_lines(theme, open_page, site, say):
    page = open_page("", theme=theme)
    door = Door(page)
    sign_in(page, site, LOGS)
    page.get_by_text("Live", exact=True).wait_for()
    rows = page.locator(".log-row")
    before = rows.count()
    assert list(door.said[0]["marks"]) == [Replica.objects.get(set__owner_key="iris/blue").name]

    door.send(a_line(HOSTILE, level="error", stderr=True), a_line("y" * 600, rest="the rest"))
    page.get_by_text(HOSTILE).wait_for()
    assert rows.count() == before + 2
    assert door.said[-1] == {}  # drawn, more may come
    page.get_by_text("Show all").last.click()
    assert page.get_by_text("the rest").is_visible()

    page.get_by_role("button", name="Pause").click()
    assert page.get_by_text("Paused", exact=True).is_visible()
    door.send(a_line("while paused"), a_line("also paused"))
    news = page.get_by_role("button", name="2 new lines")
    news.wait_for()
    assert rows.count() == before + 2
    news.click()
    page.get_by_text("also paused").wait_for()
    assert page.get_by_text("Live", exact=True).is_visible()

    door.send(*(a_line(f"many {number}") for number in range(5200)))
    page.get_by_text("many 5199").wait_for()
    assert rows.count() == 5000  # a bounded ring
    page.locator(".log-rows").evaluate("list => { list.scrollTop = 0; }")
    page.get_by_text("Paused", exact=True).wait_for()  # who scrolls up reads
    door.send(a_line("unseen"))
    page.get_by_role("button", name="1 new lines").wait_for()
    clean(page)


def test_without_a_socket_the_page_asks_every_few_seconds(open_page, site, say):
    page = open_page("", theme="light")
    page.route_web_socket("**/ws/lab/logs/**", lambda socket: socket.close(code=4429))
    sign_in(page, site, LOGS)
    page.get_by_text("Every 5 s", exact=True).wait_for()
    say("polled line")
    page.get_by_text("polled line").wait_for(timeout=9000)
    clean(page)


def test_a_page_that_asks_finds_back_to_its_socket_and_is_quiet_while_hidden(open_page, site, say):
    page = open_page("", theme="light")
    page.clock.install()
    sockets, busy, asked = [], [True], []
    page.route_web_socket(
        "**/ws/lab/logs/**", lambda socket: socket.close(code=4429) if busy[0] else sockets.append(socket)
    )
    page.on("request", lambda request: asked.append(request.url) if "marks=" in request.url else None)
    sign_in(page, site, LOGS)
    page.get_by_text("Every 5 s", exact=True).wait_for()

    def hide(hidden):
        page.evaluate(
            """hidden => {
                Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    hide(True)
    page.clock.run_for(6000)
    page.wait_for_timeout(300)
    before = len(asked)
    for _ in range(3):
        page.clock.run_for(6000)
        page.wait_for_timeout(100)
    assert len(asked) == before
    hide(False)
    page.get_by_text("Every 5 s", exact=True).wait_for()
    busy[0] = False
    for _ in range(20):
        page.clock.run_for(5000)
        page.wait_for_timeout(100)
    page.get_by_text("Live", exact=True).wait_for()
    for number in range(2, 7):  # closed because nobody said anything: no failure, however often
        page.clock.run_for(10_000)
        sockets[-1].close(code=4000)
        page.wait_for_timeout(100)
        page.clock.run_for(600)
        page.wait_for_timeout(100)
        assert len(sockets) == number
    page.get_by_text("Live", exact=True).wait_for()
    clean(page)


def test_search_highlights_and_counts(open_page, site, say):
    page = open_page("", theme="dark")
    Door(page)
    say(f"needle {HOSTILE}")
    say("another Needle")
    sign_in(page, site, LOGS)
    page.keyboard.press("/")
    page.keyboard.type("needle")
    page.keyboard.press("Enter")
    page.get_by_text("2 of 2 matches").wait_for()
    assert page.locator("mark").all_inner_texts() == ["needle", "Needle"]
    page.get_by_role("link", name="Clear search").click()
    page.get_by_text("Live", exact=True).wait_for()
    page.get_by_label("Instance").select_option(
        label=f"blue #0 · r2 · {Replica.objects.get(set__owner_key='iris/blue').get_state_display()}"
    )
    page.wait_for_url(f"**/logs?*instance={Replica.objects.get(set__owner_key='iris/blue').name}*")
    page.get_by_role("link", name="What happened to my request?").click()
    page.get_by_role("heading", name="Find one request").wait_for()
    page.get_by_label("Request id").fill("nobody-knows")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="No request with this id").wait_for()
    clean(page)

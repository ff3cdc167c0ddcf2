"""The charts in a real browser: they draw, share a crosshair, can be used by keyboard, and break no rule."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apps.gateway import counters
from apps.gateway.counters import Live
from apps.monitoring.models import Sample, Tick
from tests.browser import CHROMIUM, clean

AXE = Path(__file__).parent.parent / "vendor" / "axe" / "axe.js"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium"),
    pytest.mark.django_db(transaction=True),
]
FINDINGS = """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}))
    .violations.map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" ")}`)"""
PAINTED = """(name) => {
    const canvas = document.querySelector(`live-chart[data-chart=${name}] canvas`);
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] > 250) seen.add(data.slice(at, at + 3).join());
    }
    return [...seen];
}"""
NAMES = ("requests", "statuses", "latency", "replicas", "cpu", "memory")


@pytest.fixture
def measured(site):
    """Ten minutes of traffic on both deployments of `flowers`."""
    from apps.core.models import Operation
    from apps.endpoints.models import OnlineEndpoint

    endpoint = OnlineEndpoint.objects.get(name="flowers")
    now = int(time.time()) * 1000
    values = {"ready": 1, "desired": 1, "cpu_ms": 2_500, "cpu_limit_ms": 10_000, "mem_bytes": 2**28, "mem_limit": 2**29}
    Sample.objects.bulk_create(
        Sample(
            endpoint=endpoint.pk,
            deployment=name,
            resolution=10,
            end=now - n * 10_000,
            span=10_000,
            requests=many + n,
            status_2xx=many + n,
            latency=[180 + n, many],
            **values,
        )
        for name, many in (("blue", 50), ("green", 10))
        for n in range(60)
    )
    Tick.objects.create(pk=1, at=now)
    Operation.objects.update(kind="online-deployment.create", target="online-deployment/flowers/blue")
    return site


def until(page, what, seconds=8):
    """Playwright's own waiting evaluates a string in the page, which the policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(what):
        assert time.monotonic() < deadline, what
        page.wait_for_timeout(50)


def enter(page, address):
    page.goto(address)
    page.get_by_label("User name or e-mail").fill("olga")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url(address)


def ready(page):
    until(page, "document.querySelectorAll('live-chart canvas').length === 6")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_draw_and_share_one_crosshair(theme, open_page, measured):
    page = open_page("", theme=theme)
    enter(page, f"{measured}/w/lab/endpoints/flowers/metrics?range=15m")
    ready(page)
    for name in NAMES:
        assert len(page.evaluate(PAINTED, name)) >= 2, name
    assert page.locator(".no-data:visible").count() == 0

    before = page.locator("live-chart[data-chart=cpu] tbody tr").first.inner_text()
    over = page.locator("live-chart[data-chart=requests] .u-over")
    box = over.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 40)
    until(page, "document.querySelector('live-chart[data-chart=latency] [data-moment]').textContent !== ''")
    moments = {page.locator(f"live-chart[data-chart={name}] [data-moment]").first.inner_text() for name in NAMES}
    assert len(moments) == 1
    assert page.locator("live-chart[data-chart=memory] tbody td").first.inner_text() == "256 MiB"
    page.mouse.move(box["x"], box["y"] - 200)
    until(page, "document.querySelector('live-chart[data-chart=latency] [data-moment]').textContent === ''")
    assert page.locator("live-chart[data-chart=cpu] tbody tr").first.inner_text() == before

    clean(page)
    page.evaluate(AXE.read_text())  # it sets styles of its own: not before the page was found clean
    assert page.evaluate(FINDINGS) == []


def test_lines_are_hidden_by_keyboard_and_markers_read(open_page, measured):
    page = open_page("", theme="light")
    enter(page, f"{measured}/w/lab/endpoints/flowers/metrics?range=15m")
    ready(page)
    both = page.evaluate(PAINTED, "requests")
    button = page.locator("live-chart[data-chart=requests]").get_by_role("button", name="green")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    page.wait_for_timeout(100)
    assert len(page.evaluate(PAINTED, "requests")) < len(both)
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"

    flag = page.locator("live-chart[data-chart=requests] .marker")
    assert flag.count() == 1
    assert "Create deployment blue" in flag.get_attribute("aria-label")
    flag.focus()
    assert flag.evaluate("node => getComputedStyle(node, '::after').visibility") == "visible"
    page.locator("live-chart[data-chart=latency] summary").focus()
    page.keyboard.press("Enter")
    table = page.get_by_role("region", name="Latency, as text")
    table.wait_for(timeout=8000)
    assert table.locator("tbody tr").count() in {22, 23, 24}
    clean(page)


def test_the_page_follows_time_and_theme(open_page, measured):
    page = open_page("", theme="light")
    enter(page, f"{measured}/w/lab/endpoints/flowers/metrics?range=15m")
    ready(page)
    light = page.evaluate(PAINTED, "requests")
    canvas = page.locator("live-chart[data-chart=requests] canvas").element_handle()
    Sample.objects.filter(deployment="blue").update(requests=1000)
    page.evaluate("document.querySelector('metrics-feed').ask()")
    until(page, "document.querySelector('[data-fact=requests] dd').textContent.startsWith('6')")
    assert canvas.evaluate("node => node.isConnected")  # the same canvas: nothing flickered
    page.locator("theme-switch input[value=dark]").check(force=True)
    page.wait_for_timeout(200)
    assert set(page.evaluate(PAINTED, "requests")) != set(light)
    clean(page)


def test_no_data_is_said(open_page, site):
    page = open_page("", theme="dark")
    enter(page, f"{site}/w/lab/endpoints/flowers/metrics?range=7d")
    ready(page)
    assert page.locator(".no-data:visible").count() == 6
    clean(page)
    page.evaluate(AXE.read_text())  # it sets styles of its own: not before the page was found clean
    assert page.evaluate(FINDINGS) == []


def test_a_narrow_window_is_wide_enough(open_page, measured):
    page = open_page("", theme="light")
    page.set_viewport_size({"width": 360, "height": 800})
    enter(page, f"{measured}/w/lab/endpoints/flowers/metrics?range=15m")
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("live-chart canvas").first.bounding_box()["width"] > 250
    clean(page)


def test_live_rates_count_stop_when_hidden_and_back_off(open_page, site, monkeypatch):
    asked = []

    def live(endpoint, *, mirrored):
        asked.append(time.monotonic())
        if len(asked) == 5:
            raise counters.Problem("unavailable", what="The gateway")
        passed = asked[-1] - asked[0]
        return {"blue": Live(round(1000 + passed * 50), round(passed * 5), 3), "green": Live(7, 0, 0)}

    monkeypatch.setattr(counters, "live", live)
    page = open_page("", theme="light")
    enter(page, f"{site}/w/lab/endpoints/flowers/traffic")
    until(page, "Math.abs(Number(document.querySelector('[data-rate=blue]').textContent) - 50) < 8")
    assert page.locator("[data-rate=green]").inner_text() == "0.0"
    assert page.locator("[data-active=blue]").inner_text() == "3"
    until(page, "document.querySelector('[data-rate=blue]').textContent === '–'")  # noqa: RUF001
    until(page, "document.querySelector('[data-active=blue]').textContent === '3'")
    assert asked[5] - asked[4] > 1.8  # it waited longer after the error
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", {value: true, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.wait_for_timeout(300)
    still = len(asked)
    page.wait_for_timeout(2200)
    assert len(asked) == still
    assert page.evaluate("window.violations") == []

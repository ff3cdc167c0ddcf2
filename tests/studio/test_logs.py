"""The pages of logs: pickers, search, download, polling, and what strangers' text can do (nothing)."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.compute import domain as compute
from apps.compute.models import Replica, ReplicaSet
from apps.core import leases
from apps.monitoring import logs as kept
from apps.monitoring.text import clean, level
from apps.studio import loglines
from tests.compute.test_history import up
from tests.factories import make_endpoint
from tests.monitoring.test_logs import Source as Said
from tests.monitoring.test_logs import life

pytestmark = pytest.mark.django_db(transaction=True)
HOSTILE = "\x1b[31m<script>alert(1)</script>\x1b[0m \u202eevil\x00\x9b1m"


@pytest.fixture(autouse=True)
def home(settings, tmp_path):
    settings.HOME = dataclasses.replace(settings.HOME, root=tmp_path)
    settings.HOME.logs.mkdir()


@pytest.fixture
def iris(workspace):
    return make_endpoint(workspace, "iris")


@pytest.fixture
def running(iris):
    """Two instances of blue that run; returns a way to make one say something."""
    compute.driver.cache_clear()
    driver = compute.driver("fake")
    up(desired=2)

    def say(text, index=0, stream="stdout"):
        driver.replicas[Replica.objects.get(index=index).name].log(text, stream)

    yield say
    for handle in driver.list(owner=compute.OWNER):
        driver.forget(handle)


def gone(*texts, minutes=60, **values):
    started = timezone.now() - timedelta(minutes=minutes)
    source = Said(*texts)
    source.lines = [kept.Line(started + timedelta(seconds=at), line.text) for at, line in enumerate(source.lines)]
    given = {"started_at": started, "ended_at": started + timedelta(minutes=1), "replica": f"old-{minutes}"}
    return kept.keep(life(**(given | values)), source.read)


def get(browser, who="dan", path="", **query):
    return browser(who).get(f"/w/lab/endpoints/iris/logs{path}", query)


def text(response):
    return response.content.decode()


def test_the_living_first_then_the_gone_with_when_and_why(running, browser, iris):
    row = gone("last words", oom=True, exit_code=-9)
    page = text(get(browser))
    assert page.index("blue #0 · r2 · Ready") < page.index("blue #1 · r2 · Ready") < page.index(f'value="log-{row.pk}"')
    assert "Ended by itself · out of memory" in page
    assert "listening" in page
    assert "last words" not in page
    shown = text(get(browser, instance=f"log-{row.pk}"))
    assert "last words" in shown
    assert "exit code 3" in shown  # the reason
    assert "data-live" not in shown.split("<log-view")[1].split(">")[0].split()
    assert get(browser, instance="nobody").status_code == 404


def test_without_a_living_instance_the_last_words_are_shown(iris, browser):
    gone("older", minutes=90)
    gone("newer", minutes=30)
    page = text(get(browser))
    assert page.index("older") < page.index("newer")
    assert "What is kept of instances that are gone" in page


def test_search_is_over_everything_kept_and_counts(running, browser):
    gone("needle one", "hay", "a NEEDLE and a needle")
    running("hay")
    running("Needle three")
    page = text(get(browser, q="needle"))
    assert "3 of 3 matches" in page
    assert page.count("<mark>") == 4
    assert "<mark>NEEDLE</mark> and a <mark>needle</mark>" in page
    assert page.index("</mark> one") < page.index("</mark> three")
    assert "No line has this text" in text(get(browser, q="nothing like it"))
    assert "1 of 1 matches" in text(get(browser, q="needle", since="15m"))
    assert "1 of 1 matches" in text(get(browser, q="needle", instance=Replica.objects.get(index=0).name))


def test_search_says_when_it_stopped(running, browser, monkeypatch):
    gone(*(f"line {number}" for number in range(1200)))
    monkeypatch.setattr("apps.endpoints.logs.SEARCH_S", -1.0)
    assert "older lines were not searched" in text(get(browser, q="line"))


def test_many_matches_show_the_newest(running, browser, monkeypatch):
    monkeypatch.setattr("apps.studio.pages.logs.SHOWN", 3)
    for number in range(9):
        running(f"needle {number}")
    page = text(get(browser, q="needle"))
    assert "3 of 9 matches" in page
    assert "</mark> 5" not in page
    assert "</mark> 8" in page


def test_a_restarted_instance_is_searched_once(running, browser):
    running("needle before")
    driver = compute.driver("fake")
    driver.replicas[Replica.objects.get(index=0).name].end(1)
    compute.settle(ReplicaSet.objects.get(), tick=lambda: None, timeout_s=10)
    running("needle after")
    assert "2 of 2 matches" in text(get(browser, q="needle"))


def test_polling_gives_what_is_new_and_only_that(running, browser):
    first = json.loads(text(get(browser, path="/lines")))
    assert [line["text"] for line in first["lines"]].count("listening") == 2
    running(HOSTILE, stream="stderr")
    second = json.loads(text(get(browser, path="/lines", marks=json.dumps(first["marks"]))))
    [line] = second["lines"]
    assert line["text"] == "<script>alert(1)</script> \\u202eevil\\u0000"
    assert (line["who"], line["stderr"], line["level"], line["rest"]) == ("blue #0", True, "", "")
    assert json.loads(text(get(browser, path="/lines", marks=json.dumps(second["marks"]))))["lines"] == []
    for marks in ("[]", "{", '{"a": 1}', "[" * 5000, json.dumps({"x" * 500: "y"})):
        assert get(browser, path="/lines", marks=marks).status_code == 200


def test_of_too_many_marks_only_the_surplus_is_lost(running, browser):
    marks = {f"old-{number}": "0" for number in range(loglines.MOST_MARKS + 100)} | {"now": "7", "bad": 1}
    found = loglines.marks_of(marks)
    assert len(found) == loglines.MOST_MARKS
    assert found["now"] == "7"
    first = json.loads(text(get(browser, path="/lines")))
    many = {f"o{number}": "0" for number in range(loglines.MOST_MARKS)} | first["marks"]
    assert json.loads(text(get(browser, path="/lines", marks=json.dumps(many))))["lines"] == []


def test_a_page_with_many_marks_asks_for_some_instances_each_time(running, browser):
    first = json.loads(text(get(browser, path="/lines")))["marks"]
    running("from one", index=0)
    running("from the other", index=1)
    seen = []
    for key, mark in first.items():
        answer = json.loads(text(get(browser, path="/lines", marks=json.dumps({key: mark}), only="1")))
        assert list(answer["marks"]) == [key]
        seen += [line["text"] for line in answer["lines"]]
    assert sorted(seen) == ["from one", "from the other"]


@pytest.mark.parametrize("path", ["page", "api"])
def test_one_search_for_requests_at_a_time(path, iris, browser, people):
    url = "/w/lab/requests?id=abc-1"
    if path == "api":
        url = f"{iris.workspace.arm_id}/requests/abc-1?api-version=2024-10-01"
    found = {"page": 200, "api": 404}[path]
    client = browser("rita")
    assert client.get(url).status_code == found
    with leases.one_search_of(people["rita"]):
        busy = client.get(url)
        assert busy.status_code == 429
        assert "Another search of yours is still running." in text(busy)
        assert browser("dan").get(url).status_code == found
    assert client.get(url).status_code == found


def test_hostile_text_is_inert(running, browser):
    running(HOSTILE)
    running("y" * 100_000 + "end")
    page = text(get(browser))
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\u202eevil\\u0000" in page
    assert "Show all" in page
    assert "<mark>&lt;script&gt;</mark>alert(1)" in text(get(browser, q="<SCRIPT>"))


def test_download_streams_everything_in_order(running, browser, people):
    gone("first", "second")
    running("third\x1b[1m")
    response = get(browser, path="/download", deployment="blue")
    body = b"".join(response.streaming_content).decode()
    assert response.headers["Content-Disposition"] == 'attachment; filename="iris-blue.log"'
    assert body.index("blue#0 stdout first") < body.index("blue#0 stdout second") < body.index("blue#0 stdout third\n")

    async def scenario():
        client = AsyncClient()
        await client.aforce_login(people["dan"])
        answer = await client.get("/w/lab/endpoints/iris/logs/download?deployment=blue")
        return b"".join([chunk async for chunk in answer.streaming_content]).decode()

    assert async_to_sync(scenario)() == body


def test_another_workspace_with_the_same_name_sees_nothing(running, browser, iris, people):
    row = gone("secret words", workspace="other", replica="x")
    assert "secret words" not in text(get(browser, q="secret"))
    assert get(browser, instance=f"log-{row.pk}").status_code == 404
    assert "secret words" not in b"".join(get(browser, path="/download").streaming_content).decode()


def test_the_page_asks_as_often_for_many_instances_as_for_one(running, browser):
    client = browser("dan")

    def count():
        with CaptureQueriesContext(connection) as queries:
            client.get("/w/lab/endpoints/iris/logs")
        return len(queries)

    gone("x")
    count()
    single = count()
    for minutes in range(10, 20):
        gone("x", minutes=minutes)
    assert count() == single <= 13


def test_without_javascript_the_page_can_be_refreshed(running, browser):
    assert "Refresh" not in get(browser).headers
    assert get(browser, refresh="5").headers["Refresh"] == "5"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("bell\x07 nul\x00 c1\x85", "bell\\u0007 nul\\u0000 c1\\u0085"),
        ("tab\tstays 中文 é", "tab\tstays 中文 é"),
        ("\x1b", ""),
    ],
)
def test_clean(raw, shown):
    assert clean(raw) == shown


def test_cleaning_is_quick_whatever_comes():
    import time

    for text_ in ("\x1b]" * 500_000, "\x1b[" * 500_000, "\u202e" * 500_000, "\x1b[0" * 300_000):
        began = time.monotonic()
        clean(text_)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("2026-11-22 10:00:00,123 E [7] portway - x", "error"),
        ("2026-11-22 10:00:00,123 I [7] portway - ERROR in name", "info"),
        ("WARNING: low", "warning"),
        ("Traceback (most recent call last):", "error"),
        ("information", ""),
        ("x" * 300 + " ERROR", ""),
    ],
)
def test_level(line, wanted):
    assert level(line) == wanted


def test_split():
    assert loglines.split("aXbxc", "x") == [("a", False), ("X", True), ("b", False), ("x", True), ("c", False)]
    assert loglines.split("a.c", ".") == [("a", False), (".", True), ("c", False)]


def test_the_request_page_explains(browser, iris, settings):
    line = {
        "ts": timezone.now().isoformat(),
        "request_id": "abc-1",
        "workspace": "lab",
        "endpoint": "iris",
        "code": 429,
        "flags": "UO",
        "ms": 3,
        "user_agent": "<script>alert(1)</script>",
        "cluster": "dep__iris__blue",
    }
    (settings.HOME.logs / "access.jsonl").write_text(json.dumps(line) + "\n")
    page = text(browser("rita").get("/w/lab/requests?id=abc-1"))
    assert "Refused: too many requests at once" in page
    assert "not enough capacity" in page
    assert "the queue of the deployment was full" in page
    assert "reached no instance" in page
    assert "<script>alert" not in page
    unknown = text(browser("rita").get("/w/lab/requests?id=abc-2"))
    assert "No request with this id" in unknown
    assert "Searched back to" in unknown
    assert "x-request-id" in unknown
    assert "No request with this id" in text(browser("charlie").get("/w/other/requests?id=abc-1"))

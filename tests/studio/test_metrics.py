"""The metrics page, its data, and the live counters of the traffic page."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import audit
from apps.core.models import AuditRecord, Operation
from apps.gateway import counters
from apps.gateway.counters import Live
from apps.monitoring.models import Sample, Tick
from apps.studio import charts
from apps.studio.pages import metrics
from tests.factories import make_deployment, make_endpoint

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = "/w/lab/endpoints/flowers/metrics"


@pytest.fixture(autouse=True)
def nothing_kept():
    metrics._kept.clear()


def text(response):
    return " ".join(response.content.decode().split())


def fill(endpoint, name, requests, *, hours=1, **values):
    """A sample every ten seconds up to now."""
    end = int(NOW.timestamp() * 1000)
    given = {"ready": 1, "desired": 1, "cpu_ms": 2_500, "cpu_limit_ms": 10_000, "mem_bytes": 2**28, "mem_limit": 2**29}
    given |= {"requests": requests, "status_2xx": requests, "latency": [180, requests] if requests else []} | values
    Sample.objects.bulk_create(
        Sample(endpoint=endpoint.pk, deployment=name, resolution=10, end=end - n * 10_000, span=10_000, **given)
        for n in range(hours * 360)
    )
    Tick.objects.update_or_create(pk=1, defaults={"at": end})


@pytest.fixture
def flowers(workspace, people):
    with time_machine.travel(NOW - timedelta(days=2), tick=False):
        endpoint = make_endpoint(workspace, "flowers", traffic={"blue": 100})
        make_deployment(endpoint, "blue")
    with time_machine.travel(NOW, tick=False):
        yield endpoint


def lines(data, name):
    card = next(each for each in data["charts"] if each["name"] == name)
    return {line["label"]: line["values"] for line in card["lines"]}


def test_the_page_tells_the_range_in_numbers(flowers, browser):
    fill(flowers, "blue", 20, hours=1, status_2xx=15, status_4xx=3, model_errors=2, throttled=1, status_5xx=2)
    fill(flowers, "", 1, hours=1, status_2xx=0, status_4xx=1, latency=[])
    page = text(browser("rita").get(URL))
    assert "<dt>Requests</dt> <dd> 7,200 </dd>" in page
    assert "360 more refused by the gateway" in page
    assert "<dd> 25.0 % </dd>" in page
    assert "<dt>Latency p95</dt> <dd> 1.09 ms </dd>" in page
    assert "<dd> 1 / 1 </dd>" in page
    assert '<a href="?range=1h" title="1 hour" aria-current="true">1h</a>' in page
    data = browser("rita").get(f"{URL}/data").json()
    assert data["step"] == 10
    assert len(data["times"]) == 360
    assert lines(data, "requests") == {"blue": [2.0] * 360, "refused by the gateway": [0.1] * 360}
    statuses = lines(data, "statuses")
    assert {label: values[0] for label, values in statuses.items()} == {
        "2xx": 1.5,
        "424 model error": 0.2,
        "429 throttled": 0.1,
        "other 4xx": 0.1,
        "5xx": 0.2,
    }
    assert lines(data, "cpu") == {"blue": [0.25] * 360}
    memory = next(each for each in data["charts"] if each["name"] == "memory")["lines"][0]
    assert memory["cells"] == ["256 MiB", "256 MiB", "256 MiB", "50.0 %"]


def test_the_range_before_is_told_beside_it(flowers, browser):
    fill(flowers, "blue", 20, hours=1)
    Sample.objects.filter(end__lte=int(NOW.timestamp() - 900) * 1000).update(requests=10, latency=[200, 10])
    data = browser("rita").get(f"{URL}/data?range=15m").json()
    facts = {fact["name"]: (fact["value"], fact["note"]) for fact in data["facts"]}
    assert facts["requests"] == ("1,800", "900 in the range before")
    assert facts["p95"] == ("1.09 ms", "3.10 ms in the range before")
    assert facts["errors"] == ("0 %", "0 % in the range before")


@pytest.mark.parametrize(
    ("name", "points", "step"), [(each.name, each.seconds // each.step, each.step) for each in charts.RANGES.values()]
)
def test_each_range_has_at_most_400_points(name, points, step, flowers, browser):
    data = browser("rita").get(f"{URL}/data?range={name}").json()
    assert (len(data["times"]), data["step"]) == (points, step)
    assert points <= 400
    assert data["times"][-1] == int(NOW.timestamp()) - step


def test_one_deployment_alone(flowers, browser):
    make_deployment(flowers, "green")
    fill(flowers, "blue", 20)
    fill(flowers, "green", 5)
    data = browser("rita").get(f"{URL}/data?deployment=green").json()
    assert list(lines(data, "requests")) == ["green"]
    assert data["facts"][0]["value"] == "1,800"
    assert data["names"] == ["blue", "green"]
    page = text(browser("rita").get(f"{URL}?range=6h&deployment=green"))
    assert 'href="?range=24h&amp;deployment=green"' in page


@pytest.mark.parametrize("asked", ["?range=nonsense", "?deployment=nobody", "?range=%3Cscript%3E"])
def test_nonsense_in_the_address_is_the_default_or_empty(asked, flowers, browser):
    fill(flowers, "blue", 20)
    for path in (URL, f"{URL}/data"):
        assert browser("rita").get(path + asked).status_code == 200


def test_changes_are_markers(flowers, browser, people, workspace):
    def operation(kind, target, minutes, **values):
        row = Operation.objects.create(
            kind=kind, workspace=workspace.name, target=target, lock=f"{kind}{minutes}", actor=people["dan"], **values
        )
        Operation.objects.filter(pk=row.pk).update(created_at=NOW - timedelta(minutes=minutes))
        return row

    made = operation("online-deployment.create", "online-deployment/flowers/blue", 50, state="succeeded")
    operation("online-deployment.update", "online-deployment/flowers/blue", 90, state="succeeded")
    operation("online-endpoint.regenerate-key", "online-endpoint/flowers", 20)
    detail = {"before": {"blue": 100}, "after": {"blue": 90, "green": 10}, "mirror": {"red": 5}}
    audit.record(people["dan"], "online-endpoint.traffic", workspace="lab", target=flowers.topic, **detail)
    AuditRecord.objects.update(at=NOW - timedelta(minutes=10))
    data = browser("rita").get(f"{URL}/data").json()
    assert [(each["text"], each["who"]) for each in data["markers"]] == [
        ("Create deployment blue", "dan"),
        ("Traffic: blue 100 → 90, green 0 → 10, mirror red 5", "dan"),
    ]
    assert data["markers"][0]["time"] == int((NOW - timedelta(minutes=50)).timestamp())
    page = text(browser("rita").get(URL))
    assert f'href="/w/lab/operations/{made.pk}">Create deployment blue</a>' in page


def test_the_page_asks_as_often_for_three_deployments_as_for_one(flowers, browser):
    client = browser("rita")
    for path in (URL, f"{URL}/data"):
        client.get(path)
    fill(flowers, "blue", 20)

    def asked(path):
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    one = [asked(path) for path in (URL, f"{URL}/data")]
    for name in ("green", "red"):
        make_deployment(flowers, name)
        fill(flowers, name, 5)
    assert [asked(path) for path in (URL, f"{URL}/data")] == one
    assert one[0] <= 16


def test_an_endpoint_without_samples_has_holes_and_no_errors(flowers, browser):
    data = browser("rita").get(f"{URL}/data").json()
    assert lines(data, "requests") == {"blue": [None] * 360}
    assert [fact["value"] for fact in data["facts"]] == ["0", "–", "–", "1 / 1"]  # noqa: RUF001
    assert "Nothing was deployed" in text(browser("rita").get(URL))


def test_the_past_of_another_endpoint_of_this_name_is_not_shown(flowers, browser, workspace):
    fill(flowers, "blue", 20)
    Operation.objects.create(
        kind="online-deployment.create", workspace="lab", target="online-deployment/flowers/blue", lock="x"
    )
    Operation.objects.update(created_at=NOW - timedelta(minutes=30))
    flowers.deployments.all().delete()
    flowers.delete()
    make_endpoint(workspace, "flowers")
    data = browser("rita").get(f"{URL}/data").json()
    assert [card["lines"] for card in data["charts"] if card["name"] in {"requests", "cpu", "replicas"}] == [[], [], []]
    assert data["markers"] == []


def test_live_counters_are_this_endpoints(flowers, browser, monkeypatch):
    asked = []

    def live(endpoint, *, mirrored):
        asked.append((endpoint, mirrored))
        return {"blue": Live(120, 3, 2), "gone": Live(9, 9, 9)}

    monkeypatch.setattr(counters, "live", live)
    make_deployment(flowers, "green")
    type(flowers).objects.update(mirror_traffic={"green": 10})
    answer = browser("rita").get("/w/lab/endpoints/flowers/counters")
    body = answer.json()
    assert body["deployments"] == {
        "blue": {"requests": 120, "errors": 3, "active": 2},
        "green": {"requests": 0, "errors": 0, "active": 0},
    }
    assert body["at"] > 0
    assert asked == [("flowers", ["green"])]
    assert answer.headers["Cache-Control"] == "no-store"
    assert browser("olga").get("/w/lab/endpoints/flowers/counters").json() == body
    assert len(asked) == 1
    monkeypatch.setattr(metrics, "KEPT_S", 0.0)
    assert browser("olga").get("/w/lab/endpoints/flowers/counters").json()["at"] >= body["at"]
    assert len(asked) == 2


def test_many_pages_at_once_cost_the_gateway_one_call(flowers, monkeypatch):
    asked = []

    def live(endpoint, *, mirrored):
        asked.append(endpoint)
        time.sleep(0.1)
        return {}

    monkeypatch.setattr(counters, "live", live)
    threads = [threading.Thread(target=metrics.kept_live, args=(flowers,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["flowers"]


def test_live_counters_without_a_gateway_say_so(flowers, browser, monkeypatch, tmp_path, settings):
    monkeypatch.setattr(type(settings.HOME), "envoy_admin_socket", tmp_path / "nobody.sock")
    answer = browser("rita").get("/w/lab/endpoints/flowers/counters", headers={"accept": "application/json"})
    assert answer.json() == {"at": 0, "deployments": None}


def test_the_traffic_page_shows_rates(flowers, browser):
    page = text(browser("rita").get("/w/lab/endpoints/flowers/traffic"))
    assert '<live-rates data-src="/w/lab/endpoints/flowers/counters">' in page
    assert 'data-rate="blue"' in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0 B"), (1023, "1,023 B"), (2**20 * 1.5, "1.50 MiB"), (2**40, "1,024 GiB")],  # noqa: RUF001
)
def test_sizes_read_well(value, shown):
    assert charts.size(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.50 ms"), (99.94, "99.9 ms"), (250, "250 ms"), (5020, "5.02 s")])
def test_times_read_well(value, shown):
    assert charts.milliseconds(value) == shown

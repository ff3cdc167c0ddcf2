"""What the gateway counts, read from a real Envoy; and the parser on texts of its making."""

import time

import pytest

from apps.core.errors import Problem
from apps.gateway import counters
from apps.gateway.counters import Counted
from apps.monitoring.latency import bounds, percentile
from tests.gateway.client import call
from tests.gateway.upstream import wait_for
from tests.gateway.world import KEY

HISTOGRAMS_S = 7  # Envoy adds its histograms up every five seconds


@pytest.fixture
def socket(world, settings, monkeypatch):
    monkeypatch.setattr(type(settings.HOME), "envoy_admin_socket", world.front.admin_socket)


def count(mirrored=()):
    found = counters.scrape(list(mirrored))
    assert found is not None
    return found


def codes(scrape, endpoint, deployment):
    return scrape.counted.get((endpoint, deployment), Counted()).codes


def added(before, after, endpoint, deployment):
    old, new = codes(before, endpoint, deployment), codes(after, endpoint, deployment)
    return {code: value - old.get(code, 0) for code, value in new.items() if value != old.get(code, 0)}


pytestmark = pytest.mark.envoy
GREEN = {"azureml-model-deployment": "green"}


def test_each_status_is_counted_as_the_caller_met_it(world, socket):
    before = count()
    for status in (200, 200, 302, 404, 500):
        call(world.port, f"/e/main/score?status={status}", key=KEY, headers=GREEN)
    call(world.port, "/e/slow/score?sleep=1")
    call(world.port, "/e/gone/score")
    after = wait_for(lambda: count() if added(before, count(), "gone", "b") else None)
    assert added(before, after, "main", "green") == {200: 2, 302: 1, 424: 2}
    assert added(before, after, "slow", "b") == {408: 1}
    assert added(before, after, "gone", "b") == {503: 1}
    assert before.epoch == after.epoch
    assert 0 < after.at - after.since < 120


def test_both_doors_count_into_one_number(world, socket):
    before = count()
    call(world.port, "/e/main/score", key=KEY, headers=GREEN)
    call(world.tls_port, "/e/main/score", key=KEY, headers=GREEN, tls=world.tls())
    assert added(before, count(), "main", "green") == {200: 2}


def test_what_the_gateway_refuses_is_the_endpoints_and_no_deployments(world, socket):
    before = count()
    call(world.port, "/e/main/score", key="wrong")
    call(world.port, "/e/main/score", key=KEY, headers={"azureml-model-deployment": "nobody"})
    call(world.port, "/e/main/score", key=KEY, body=b"x" * 200_000)
    call(world.port, "/e/idle/score", key=KEY)
    for _ in range(9):
        call(world.port, "/e/rated/score")
    after = count()
    assert added(before, after, "main", "") == {401: 1, 404: 1, 413: 1}
    assert added(before, after, "idle", "") == {404: 1}
    assert added(before, after, "main", "blue") == added(before, after, "main", "green") == {}
    limited = added(before, after, "rated", "")[429]
    assert limited + added(before, after, "rated", "blue")[200] == 9


def test_a_caller_who_leaves_is_counted(world, socket):
    import http.client

    before = count()
    link = http.client.HTTPConnection("127.0.0.1", world.port)
    link.request("POST", "/e/pub/score?sleep=5", "{}")
    wait_for(lambda: count().counted.get(("pub", "blue"), Counted()).active == 1)
    link.close()
    wait_for(lambda: added(before, count(), "pub", "blue") == {0: 1})


def test_latency_is_in_bins_of_a_tenth_at_most(world, socket):
    before = count()
    for pause in ("0.05", "0.05", "0.2"):
        call(world.port, f"/e/kcors/score?sleep={pause}", key=KEY)
    call(world.port, "/e/kcors/score", key="wrong")

    def bins():
        old, new = (each.counted.get(("kcors", "blue"), Counted()).latency for each in (before, count()))
        grown = {index: value - old.get(index, 0) for index, value in new.items() if value > old.get(index, 0)}
        return grown if sum(grown.values()) == 3 else None

    found = wait_for(bins, HISTOGRAMS_S)
    assert 50 <= percentile(found, 0.5) < 90
    assert 200 <= percentile(found, 0.99) < 290
    assert all((end - start) / start <= 0.1 + 1e-9 for start, end in map(bounds, range(500)))


def test_mirrored_copies_are_counted_where_asked_for(world, socket):
    key = ("main", "shadow")
    before = count([key])
    for _ in range(60):
        call(world.port, "/e/main/score?status=500", key=KEY)
    after = wait_for(lambda: c if (c := count([key])).counted.get(key, Counted()).copies.get(424, 0) > 5 else None)
    old = before.counted.get(key, Counted()).copies
    grown = after.counted[key].copies[424] - old.get(424, 0)
    assert 5 < grown < 40
    assert added(before, after, *key) == {}
    assert codes(after, *key) == {}


def test_one_endpoints_live_numbers(world, socket):
    before = counters.live("main", mirrored=["shadow"])
    call(world.port, "/e/main/score", key=KEY, headers=GREEN)
    call(world.port, "/e/main/score?status=500", key=KEY, headers=GREEN)
    after = counters.live("main", mirrored=["shadow"])
    assert after["green"].requests - before["green"].requests == 2
    assert after["green"].errors - before["green"].errors == 1
    assert set(after) == {"blue", "green", "shadow", "none"}


def test_no_gateway_is_a_gap_and_no_zero(settings, monkeypatch, tmp_path):
    monkeypatch.setattr(type(settings.HOME), "envoy_admin_socket", tmp_path / "nobody.sock")
    assert counters.scrape([]) is None
    with pytest.raises(Problem) as caught:
        counters.live("main", mirrored=[])
    assert caught.value.code == "unavailable"


def test_a_gateway_that_starts_again_is_another_epoch(world, socket):
    first = count()
    world.stop()
    assert counters.scrape([]) is None
    time.sleep(0.05)
    world.start()
    world.healthy("dep__main__blue", 2)
    call(world.port, "/e/main/score", key=KEY, headers=GREEN)
    second = count()
    assert second.epoch != first.epoch
    assert second.since > first.at
    assert codes(second, "main", "green") == {200: 1}


def test_the_parser_leaves_alone_what_it_does_not_know():
    text = """
server.uptime: 5
portway.requests.endpoint..cluster.web.code.200.flags.-: 9
portway.requests.endpoint.iris.cluster.dep__iris__blue.code.429.flags.UO: 3
portway.requests.endpoint.iris.cluster.dep__iris__blue.code.429.flags.RL: 4
portway.requests.endpoint.iris.cluster..code.404.flags.-: 5
cluster.web.upstream_rq_active: 7
cluster.dep__iris__blue.upstream_rq_active: 2
cluster.dep__iris__blue.upstream_rq_503: 6
cluster.dep__iris__blue.upstream_rq_time:
  totals=0,0:9, 1,0.1:2, 250,10:1
  intervals=0,0:9
portway.took.cluster.dep__iris__blue:
  totals=89,1:1, 110.00000000000001,10:3
  summary=P0(0,0)
portway.took.cluster.:
  totals=220,10:1
"""
    found = counters.parse(text)
    assert set(found) == {("iris", "blue"), ("iris", "")}
    blue = found["iris", "blue"]
    assert (blue.codes, blue.active, blue.copies) == ({429: 3}, 2, {424: 6})
    assert blue.latency == {79: 1, 91: 3}
    assert [round(bounds(index)[0]) for index in sorted(blue.copy_latency)] == [10, 1000, 250_000]
    assert found["iris", ""].codes == {429: 4, 404: 5}

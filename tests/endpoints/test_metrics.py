"""Sampling with real parts: a real Envoy, replicas that answer, and the numbers that come out."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica, ReplicaSet
from apps.endpoints import metrics
from apps.endpoints.models import OnlineEndpoint
from apps.gateway import counters
from apps.monitoring import queries
from apps.monitoring.models import Baseline, Sample, Tick

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("state", list(ReplicaState))
def test_only_what_runs_has_limits_and_may_be_unknown(state):
    replica = Replica(
        set=ReplicaSet(spec={"cpu_milli": 1000, "mem_bytes": 500}), state=state, handle={"name": "x"}, pk=1
    )
    gauges = metrics._gauges(0, 1, [replica], {})
    runs = state in {"starting", "ready", "unready", "draining"}
    limits = (gauges.cpu_limit_milli, gauges.mem_limit, gauges.mem_bytes, gauges.mem_max)
    assert limits == ((1000, 500, None, None) if runs else (0, 0, 0, 0))


def total(endpoint, name):
    now = int(time.time()) + 1
    found = queries.totals(endpoint=endpoint.pk, start=now - 3600, end=now).get(name)
    return found.counts if found else None


@pytest.fixture
def iris(world):
    endpoint = world.endpoint()
    for name in ("blue", "green"):
        world.deploy(endpoint, name)
    world.traffic(endpoint, blue=100)
    metrics.sample()
    return endpoint


def test_requests_are_counted_once_whatever_happens_between(world, iris, monkeypatch):
    for deployment in ("blue", "blue", "green"):
        assert world.score(azureml_model_deployment=deployment)[0] == 200
    assert world.score(key="wrong")[0] == 401
    metrics.sample()
    assert total(iris, "blue")["status_2xx"] == 2
    assert total(iris, "green")["requests"] == 1
    assert total(iris, "")["status_4xx"] == 1

    world.score()
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "record", _die)  # looked, and died before it wrote
        with pytest.raises(KeyboardInterrupt):
            metrics.sample()
    world.score()
    metrics.sample()
    metrics.sample()
    assert total(iris, "blue")["requests"] == 4


def _die(*_args):
    raise KeyboardInterrupt


def test_a_sample_tells_the_replicas_and_what_they_use(world, iris):
    world.score()
    metrics.sample()
    made = Sample.objects.filter(deployment="blue").latest("end")
    spec = Replica.objects.filter(set__owner_key="iris/blue").get().set.spec
    assert (made.ready, made.desired, made.mem_limit) == (1, 1, spec["mem_bytes"])
    assert (made.mem_bytes, made.mem_max) == (spec["mem_bytes"] // 4, spec["mem_bytes"] // 4)
    assert made.cpu_limit_ms == spec["cpu_milli"] * made.span // 1000
    assert made.cpu_ms == pytest.approx(made.span * 0.01, abs=made.span * 0.004 + 2)


def test_a_mirror_target_shows_its_copies(world, iris):
    world.traffic(iris, blue=100, mirror={"green": 50})
    metrics.sample()
    for _ in range(40):
        world.score()
    deadline = time.monotonic() + 5
    while not (total(iris, "green") or {}).get("requests") and time.monotonic() < deadline:
        metrics.sample()
        time.sleep(0.1)
    metrics.sample()
    assert 5 < total(iris, "green")["requests"] < 36
    assert total(iris, "blue")["requests"] == 40


def test_no_gateway_no_sample(world, iris, monkeypatch):
    before = Tick.objects.get().at
    monkeypatch.setattr(counters, "scrape", lambda mirrored: None)
    assert metrics.sample() == 0
    assert Tick.objects.get().at == before


def test_a_driver_that_hangs_does_not_hold_the_tick_up(world, iris, monkeypatch):
    monkeypatch.setattr(metrics, "USAGE_S", 0.2)
    driver = compute.driver("fake")
    monkeypatch.setattr(driver, "usage", lambda handle: time.sleep(1.5), raising=False)
    world.score()
    began = time.monotonic()
    metrics.sample()
    assert time.monotonic() - began < 1
    assert Sample.objects.filter(deployment="blue").latest("end").mem_bytes is None
    world.score()
    began = time.monotonic()
    metrics.sample()  # while the first call hangs nothing new is asked
    assert time.monotonic() - began < 0.19


def test_a_new_endpoint_of_the_same_name_begins_at_nothing(world, iris):
    for _ in range(3):
        world.score()
    metrics.sample()
    from apps.endpoints import domain

    world.run(domain.delete_endpoint(endpoint=world.fresh(iris), actor=world.actor))
    again = world.endpoint()
    world.deploy(again)
    world.traffic(again, blue=100)
    metrics.sample()
    world.score()
    metrics.sample()
    assert total(again, "blue")["requests"] == 1
    assert total(iris, "blue")["requests"] == 3


def test_a_tick_asks_as_often_for_three_deployments_as_for_one(world, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    endpoint = world.endpoint()
    world.deploy(endpoint)
    metrics.sample()
    world.score(azureml_model_deployment="blue")
    with CaptureQueriesContext(connection) as single:
        metrics.sample()
    for name in ("green", "red"):
        world.deploy(endpoint, name)
    metrics.sample()
    for name in ("blue", "green", "red"):
        world.score(azureml_model_deployment=name)
    with django_assert_num_queries(len(single)):
        metrics.sample()


# ---- the API


@pytest.fixture
def told(db, people, workspace):
    """An hour of samples of `blue` and `green`, 60 and 6 requests a minute, and somebody who may read them."""
    from rest_framework.test import APIClient

    from apps.accounts.domain import create_token

    endpoint = OnlineEndpoint.objects.create(workspace=workspace, name="flowers", state="Succeeded")
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    end = int(now.timestamp() * 1000)
    values = {"ready": 1, "desired": 2, "cpu_ms": 5_000, "cpu_limit_ms": 20_000, "mem_bytes": 30, "mem_limit": 40}
    Sample.objects.bulk_create(
        Sample(
            endpoint=endpoint.pk,
            deployment=name,
            resolution=10,
            end=end - back * 10_000,
            span=10_000,
            requests=many,
            status_2xx=many,
            latency=[180 + 40, many],
            **values,
        )
        for name, many in (("blue", 10), ("green", 1))
        for back in range(360)
    )
    Tick.objects.create(pk=1, at=end)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(user=people['rita'], name='t')[1]}")
    with time_machine.travel(now, tick=False):
        yield client


URL = "/api/v1/workspaces/lab/onlineEndpoints/flowers/metrics"


def test_the_api_answers_as_azure_monitor_does(told):
    answer = told.get(URL, {"metricnames": "requestsperminute,RequestLatency_P95"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["timespan"] == "2026-03-01T11:00:00Z/2026-03-01T12:00:00Z"
    assert (body["interval"], body["cost"]) == ("PT1M", 0)
    requests, latency = body["value"]
    assert requests["name"]["value"] == "RequestsPerMinute"
    assert requests["unit"] == "Count"
    assert requests["id"].endswith("/onlineEndpoints/flowers/providers/Microsoft.Insights/metrics/RequestsPerMinute")
    (series,) = requests["timeseries"]
    assert series["metadatavalues"] == []
    assert len(series["data"]) == 60
    assert series["data"][0] == {"timeStamp": "2026-03-01T11:00:00Z", "average": 66.0}
    assert latency["timeseries"][0]["data"][59]["average"] == pytest.approx(5.095)


def test_the_api_splits_by_deployment_and_tells_of_instances(told):
    asked = {"metricnames": "RequestsPerMinute,CpuUtilizationPercentage,DeploymentCapacity", "interval": "PT30M"}
    requests, cpu, capacity = told.get(URL, {**asked, "$filter": "deployment eq '*'"}).json()["value"]

    def shown(metric):
        return {
            tuple(each["value"] for each in series["metadatavalues"]): series["data"][0]["average"]
            for series in metric["timeseries"]
        }

    assert shown(requests) == {("blue",): 60.0, ("green",): 6.0}
    assert shown(cpu) == {("blue",): 25.0, ("green",): 25.0}
    assert shown(capacity) == {(name, s): 1 for name in ("blue", "green") for s in ("Ready", "NotReady")}
    only = told.get(URL, {**asked, "$filter": "deployment eq 'green'"}).json()["value"][0]
    assert shown(only) == {("green",): 6.0}


def test_times_without_samples_have_no_value(told):
    span = "2026-03-01T10:59:00Z/2026-03-01T11:01:00+00:00"
    (metric,) = told.get(URL, {"metricnames": "RequestLatency_P50", "timespan": span}).json()["value"]
    first, second = metric["timeseries"][0]["data"]
    assert first == {"timeStamp": "2026-03-01T10:59:00Z"}
    assert second["average"] == pytest.approx(5.05)


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ({"metricnames": "RequestsPerMinute,Nonsense"}, "metricnames"),
        ({"timespan": "yesterday"}, "timespan"),
        ({"timespan": "2026-03-01T12:00:00Z/2026-03-01T11:00:00Z"}, "timespan"),
        ({"timespan": "0001-01-01T00:00:00+23:59/9999-12-31T23:59:59-23:59"}, "timespan"),
        ({"timespan": "2026-02-30T12:00:00Z/2026-03-01T11:00:00Z"}, "timespan"),
        ({"interval": "PT1S"}, "interval"),
        ({"interval": "fast"}, "interval"),
        ({"aggregation": "total"}, "aggregation"),
        ({"$filter": "code eq '200'"}, "$filter"),
    ],
)
def test_the_api_says_what_it_does_not_understand(told, asked, target):
    answer = told.get(URL, asked)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["target"]) == ("BadArgument", target)
    if target == "metricnames":
        assert "CpuMemoryUtilizationPercentage, DeploymentCapacity" in error["message"]


def test_both_prefixes_answer_the_same(told, workspace):
    assert told.get(f"{workspace.arm_id}/onlineEndpoints/flowers/metrics").json() == told.get(URL).json()


def test_what_another_workspace_did_under_this_name_is_not_shown(told):
    endpoint = OnlineEndpoint.objects.get(name="flowers")
    Baseline.objects.all().delete()
    workspace, endpoint_pk = endpoint.workspace, endpoint.pk
    endpoint.delete()
    again = OnlineEndpoint.objects.create(workspace=workspace, name="flowers", state="Succeeded")
    assert again.pk != endpoint_pk
    for metric in told.get(URL, {"interval": "PT30M"}).json()["value"]:
        assert all("average" not in point for series in metric["timeseries"] for point in series["data"])


def test_a_day_later_the_hour_is_still_there_in_five_minutes(told):
    from apps.monitoring import rollup

    later = datetime(2026, 3, 2, 14, tzinfo=UTC)
    while rollup.roll_up(int(later.timestamp() * 1000)):
        pass
    rollup.expire(int(later.timestamp() * 1000))
    assert not Sample.objects.filter(resolution=10).exists()
    Tick.objects.update(at=int((later - timedelta(seconds=5)).timestamp() * 1000))
    span = "2026-03-01T11:00:00Z/2026-03-01T12:00:00Z"
    (metric,) = told.get(URL, {"metricnames": "RequestsPerMinute", "timespan": span, "interval": "PT1M"}).json()[
        "value"
    ]
    assert {point["average"] for point in metric["timeseries"][0]["data"]} == {66.0}

"""Five-minute rows, what is deleted when, and the numbers of lists."""

from __future__ import annotations

import random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.monitoring import queries, rollup
from apps.monitoring.latency import percentile, unpack
from apps.monitoring.models import Baseline, Recent, Sample, Tick

pytestmark = pytest.mark.django_db
T = 1_800_000_000  # a multiple of 300
FIRST = T * 1000


def fine(second, requests=10, *, endpoint=7, deployment="blue", span=10, **values):
    given = {"status_2xx": requests, "latency": [40, requests] if requests else [], "ready": 1, "desired": 1}
    given |= {"mem_bytes": 100, "mem_max": 100, "cpu_ms": 500, "cpu_limit_ms": 10_000}
    end = FIRST + second * 1000
    return Sample(
        endpoint=endpoint,
        deployment=deployment,
        resolution=10,
        end=end,
        span=span * 1000,
        requests=requests,
        **given | values,
    )


def minutes(count, **values):
    Sample.objects.bulk_create([fine(second, **values) for second in range(10, count * 60 + 1, 10)])
    Tick.objects.update_or_create(pk=1, defaults={"at": FIRST + count * 60_000, "rolled": 0})


def coarse():
    return Sample.objects.filter(resolution=300).order_by("end")


def test_five_minutes_become_one_row():
    minutes(11)
    Sample.objects.filter(end=FIRST + 300_000).update(ready=0, active=9, mem_bytes=None, latency=[40, 4, 900, 6])
    assert rollup.roll_up(FIRST + 660_000) == 2
    one, two = coarse()
    assert (one.end - FIRST, one.span, one.requests, one.status_2xx) == (300_000, 300_000, 300, 300)
    assert (one.ready, one.active, one.mem_bytes, one.cpu_ms, one.cpu_limit_ms) == (0, 9, 100, 15_000, 300_000)
    assert one.latency == [40, 294, 900, 6]
    assert (two.end - FIRST, two.requests) == (600_000, 300)


def test_a_bucket_is_left_alone_while_a_late_sample_may_come():
    minutes(5)
    assert rollup.roll_up(FIRST + 359_000) == 0
    assert rollup.roll_up(FIRST + 360_000) == 1


def test_twice_is_once_and_killed_between_changes_nothing(monkeypatch):
    minutes(5)

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sample.objects, "bulk_create", die)
        with pytest.raises(KeyboardInterrupt):
            rollup.roll_up(FIRST + 400_000)
    assert Tick.objects.get().rolled == 0
    assert [rollup.roll_up(FIRST + 400_000) for _ in range(2)] == [1, 0]
    Tick.objects.update(rolled=0)  # as a controller that was overtaken would see it
    assert rollup.roll_up(FIRST + 400_000) == 1
    assert coarse().count() == 1


def test_empty_hours_are_passed_over_and_a_long_absence_is_caught_up_in_pieces():
    Sample.objects.bulk_create([fine(10), fine(86_410)])
    Tick.objects.create(pk=1, at=FIRST + 86_420_000)
    assert rollup.roll_up(FIRST + 90_000_000) == 2
    Sample.objects.bulk_create([fine(90_000 + n * 300) for n in range(1, 40)])
    assert rollup.roll_up(FIRST + 200_000_000) == 24
    assert rollup.roll_up(FIRST + 200_000_000) == 15


def test_percentiles_of_the_rows_are_those_of_the_samples():
    chance = random.Random(3)
    bins = [(chance.randrange(600), chance.randrange(1, 9)) for _ in range(30)]
    Sample.objects.bulk_create(fine(10 + n * 10, latency=[index, count]) for n, (index, count) in enumerate(bins))
    Tick.objects.create(pk=1, at=FIRST + 300_000)
    whole: dict = {}
    for index, count in bins:
        whole[index] = whole.get(index, 0) + count
    rollup.roll_up(FIRST + 400_000)
    assert percentile(unpack(coarse().get().latency), 0.95) == percentile(whole, 0.95)


def test_old_rows_go_and_young_ones_stay():
    day = 86_400
    Sample.objects.bulk_create([fine(0), fine(2 * day)])
    Sample.objects.bulk_create([_coarse(10), _coarse(2 * day)])
    assert rollup.expire(FIRST + 26 * 3_600_000) == 1
    assert rollup.expire(FIRST + 31 * day * 1000) == 2
    assert [(each.resolution, each.end) for each in Sample.objects.all()] == [(300, FIRST + 2 * day * 1000)]


def _coarse(second):
    made = fine(second, span=300)
    made.resolution = 300
    return made


def test_deleting_is_bounded(monkeypatch):
    monkeypatch.setattr(rollup, "DELETE_AT_ONCE", 10)
    monkeypatch.setattr(rollup, "DELETE_ROUNDS", 2)
    minutes(5)
    assert [rollup.expire(FIRST + 90 * 86_400_000) for _ in range(3)] == [20, 10, 0]


def test_the_summary_of_many_endpoints_is_one_query(django_assert_num_queries):
    now = FIRST + 300_000
    Sample.objects.bulk_create(
        [
            fine(250, 90, latency=[40, 90]),
            fine(260, 10, deployment="green", status_5xx=4, status_4xx=1, latency=[400, 10]),
            fine(270, 50, deployment="", latency=[]),
            fine(280, 30, endpoint=8),
            fine(-100, 1000, endpoint=9),
        ]
    )
    Tick.objects.create(pk=1, at=now)
    rollup.maintain(now)
    with django_assert_num_queries(1):
        found = queries.summary([7, 8, 9])
    assert (found[7].requests, found[7].errors, found[7].per_minute, found[7].error_percent) == (100, 5, 20.0, 5.0)
    assert found[7].p50 == pytest.approx(0.0506, abs=0.0001)
    assert found[7].p95 == pytest.approx(505.0, abs=0.5)
    assert found[8].requests == 30
    assert (found[9].requests, found[9].p95) == (0, None)
    rollup.refresh(now + 300_000, 300)
    assert Recent.objects.filter(window=300).count() == 0
    with pytest.raises(ValueError):
        queries.summary([7], window=60)


def test_the_longer_windows_come_from_the_rolled_up_rows():
    minutes(10)
    rollup.maintain(FIRST + 700_000)
    assert queries.summary([7], 3600)[7].requests == 600
    assert queries.summary([7], 86_400)[7].per_minute == pytest.approx(600 / 1440)


# ---- series


def rates(found, name="blue"):
    return [step.rate("requests") for step in found.deployments[name]]


def test_samples_are_spread_over_the_steps_they_touch():
    Sample.objects.bulk_create([fine(15, 30, span=10), fine(35, 40, span=20)])
    Tick.objects.create(pk=1, at=FIRST + 35_000)
    found = queries.series(endpoint=7, start=T, end=T + 40, step=10)
    assert found.times == [T, T + 10, T + 20, T + 30]
    assert rates(found) == [3.0, 2.5, 2.0, 2.0]
    assert [step.seconds for step in found.deployments["blue"]] == [5.0, 10.0, 10.0, 5.0]
    assert sum(step.counts["requests"] for step in found.deployments["blue"]) == 70


def test_time_without_samples_is_a_hole():
    Sample.objects.bulk_create([fine(10), fine(40)])
    Tick.objects.create(pk=1, at=FIRST + 40_000)
    assert rates(queries.series(endpoint=7, start=T, end=T + 40, step=10)) == [1.0, None, None, 1.0]


def test_an_idle_deployment_is_drawn_up_to_the_last_tick_and_a_lost_one_is_not():
    Sample.objects.bulk_create([fine(10), fine(-90, deployment="green")])
    Tick.objects.create(pk=1, at=FIRST + 40_000)
    found = queries.series(endpoint=7, start=T - 100, end=T + 50, step=10)
    assert rates(found)[10:] == [1.0, 0.0, 0.0, 0.0, None]
    assert rates(found, "green") == [1.0] + [None] * 14
    assert [step.gauges["ready"] for step in found.deployments["blue"]][10:] == [1, 1, 1, 1, None]
    assert found.deployments["blue"][12].cores == 0.0


def test_long_steps_use_rolled_up_rows_and_the_tail_of_fine_ones():
    minutes(12)
    rollup.roll_up(FIRST + 665_000)  # ten minutes of it
    Sample.objects.filter(resolution=10, end__lte=FIRST + 600_000).delete()
    found = queries.series(endpoint=7, start=T, end=T + 900, step=300)
    assert [step.counts["requests"] for step in found.deployments["blue"]] == [300, 300, 120]


def test_another_endpoints_samples_are_not_in_it():
    Sample.objects.bulk_create([fine(10), fine(10, endpoint=8)])
    assert (
        sum(
            step.counts["requests"]
            for step in queries.series(endpoint=8, start=T, end=T + 10, step=10).together(["blue"])
        )
        == 10
    )


def test_a_range_is_few_queries_whatever_is_in_it():
    Tick.objects.create(pk=1, at=FIRST + 300_000)

    def asked():
        with CaptureQueriesContext(connection) as captured:
            queries.series(endpoint=7, start=T, end=T + 3600, step=10)
        return len(captured)

    minutes(5)
    one = asked()
    for name in ("green", "red"):
        minutes(5, deployment=name)
    assert one == asked() == 2


def test_counters_that_still_stand_are_remembered_however_long_they_are_silent():
    old, now = FIRST - rollup.KEEP_COARSE_MS - 1, FIRST
    for name, epoch, at in (("a/", "run-1", old), ("b/", "run-2", old), ("c/blue", "run-2", now)):
        Baseline.objects.create(name=name, endpoint=7, epoch=epoch, at=at, present=name == "c/blue", values={})
    rollup.expire(now)
    assert sorted(Baseline.objects.values_list("name", flat=True)) == ["b/", "c/blue"]

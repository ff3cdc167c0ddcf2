"""From counters to samples: exact, once, and never somebody else's."""

from __future__ import annotations

import pytest
from django.db import transaction

from apps.monitoring import queries
from apps.monitoring.models import Baseline, Sample, Tick
from apps.monitoring.sampling import Gauges, Moment, Seen, record

pytestmark = pytest.mark.django_db
T = 1_800_000_000_000
RUN = "run-1"


def moment(seconds, run=RUN, since=-1000):
    return Moment(at=T + seconds * 1000, epoch=run, since=T + since * 1000)


def blue(codes=None, latency=None, **values):
    gauges = Gauges(ready=1, desired=1, cpu_limit_milli=1000, mem_bytes=100, mem_limit=1000)
    given = {"endpoint": 7, "name": "iris/blue", "deployment": "blue", "gauges": gauges, "restarts": {"r": 0}}
    return Seen(**(given | {"codes": codes or {}, "latency": latency or {}} | values))


def rows():
    """(seconds from, seconds to, requests) of each sample."""
    return [((s.end - s.span - T) // 1000, (s.end - T) // 1000, s.requests) for s in Sample.objects.order_by("end")]


def test_the_first_look_counts_nothing_and_the_second_what_was_added():
    assert record(moment(0), [blue({200: 500})]) == 0
    assert record(moment(10), [blue({200: 507, 408: 1, 424: 2, 429: 3, 503: 4, 0: 1}, {50: 9})]) == 1
    made = Sample.objects.get()
    assert (made.span, made.requests, made.status_2xx, made.status_4xx, made.status_5xx) == (10_000, 18, 7, 7, 4)
    assert (made.timeouts, made.model_errors, made.throttled) == (1, 2, 3)
    assert made.latency == [50, 9]


def test_a_counter_that_appears_while_we_look_counts_from_nothing():
    record(moment(0), [])
    record(moment(10), [blue({200: 3}, {5: 3})])
    assert rows() == [(0, 10, 3)]


def test_a_counter_that_appeared_while_nobody_looked_may_be_old():
    record(moment(0), [])
    record(moment(100), [blue({200: 3})])
    record(moment(110), [blue({200: 5})])
    assert rows() == [(100, 110, 2)]


def test_the_same_moment_twice_counts_once():
    record(moment(0), [blue({200: 1})])
    for _ in range(2):
        record(moment(10), [blue({200: 5})])
    assert record(moment(9), [blue({200: 5})]) == 0
    assert rows() == [(0, 10, 4)]


@pytest.mark.parametrize("broken", [Sample, Baseline, Tick])
def test_killed_before_the_end_loses_nothing_and_counts_nothing_twice(broken, monkeypatch):
    record(moment(0), [blue({200: 1}, {3: 1})])

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(broken.objects, "filter" if broken is Tick else "bulk_create", die)
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            record(moment(10), [blue({200: 5}, {3: 5})])
    assert rows() == []
    record(moment(20), [blue({200: 9}, {3: 9})])
    assert rows() == [(0, 20, 8)]
    assert Sample.objects.get().latency == [3, 8]


def test_a_gateway_that_started_again_leaves_a_gap_and_no_negative_numbers():
    record(moment(0), [blue({200: 100})])
    record(moment(10), [blue({200: 110}, cpu_s={"r": 5.0})])
    record(moment(40, run="run-2", since=33), [blue({200: 4}, cpu_s={"r": 6.0})])
    record(moment(50, run="run-2", since=33), [blue({200: 200})])
    assert rows() == [(0, 10, 10), (33, 40, 4), (40, 50, 196)]


def test_a_gateway_that_started_again_with_more_than_before_is_still_another_one():
    record(moment(0), [blue({200: 5})])
    record(moment(10, run="run-2", since=1), [blue({200: 8})])
    assert rows() == [(1, 10, 8)]


def test_a_counter_that_fell_began_again():
    record(moment(0), [blue({200: 50}, {1: 50})])
    record(moment(10), [blue({200: 3}, {1: 3})])
    assert rows() == [(0, 10, 3)]
    assert Sample.objects.get().latency == [1, 3]


def test_an_idle_deployment_writes_once_a_minute_and_charts_show_zeros():
    for second in range(0, 190, 10):
        record(moment(second), [blue({200: 1}, cpu_s={"r": second * 0.005})])
    assert rows() == [(0, 60, 0), (60, 120, 0), (120, 180, 0)]
    assert [each.cpu_ms for each in Sample.objects.order_by("end")] == [300, 300, 300]
    record(moment(190), [blue({200: 1}, cpu_s={"r": 0.9})])
    start = T // 1000
    found = queries.series(endpoint=7, start=start, end=start + 200, step=10)
    assert [step.rate("requests") for step in found.deployments["blue"]] == [0.0] * 19 + [None]


def test_what_ends_the_idleness_is_not_spread_over_it():
    for second in (0, 10, 20, 30):
        record(moment(second), [blue({200: 1})])
    record(moment(40), [blue({200: 21})])
    assert rows() == [(0, 30, 0), (30, 40, 20)]


def test_a_change_of_replicas_is_written_at_once_with_the_state_before_it():
    two = Gauges(ready=2, desired=2, cpu_limit_milli=2000, mem_bytes=200, mem_limit=2000)
    record(moment(0), [blue()])
    record(moment(10), [blue()])
    record(moment(20), [blue(gauges=two)])
    assert [(s.ready, s.mem_bytes) for s in Sample.objects.order_by("end")] == [(1, 100), (2, 200)]


def test_processor_time_follows_replicas_that_restart_come_and_are_silent():
    record(moment(0), [blue({200: 0}, cpu_s={"r": 100.0, "s": 50.0}, restarts={"r": 0, "s": 0})])
    record(moment(10), [blue({200: 1}, cpu_s={"r": 2.0, "new": 3.0}, restarts={"r": 1, "s": 0, "new": 0})])
    record(moment(20), [blue({200: 2}, cpu_s={"r": 2.5, "s": 51.0}, restarts={"r": 1, "s": 0})])
    made = Sample.objects.order_by("end")
    assert [(each.cpu_ms, each.restarts) for each in made] == [(5000, 1), (1500, 0)]


def test_unknown_memory_is_unknown_and_not_nothing():
    silent = Gauges(ready=1, desired=1, mem_bytes=None, mem_max=None)
    record(moment(0), [blue(gauges=silent)])
    record(moment(10), [blue({200: 1}, gauges=silent)])
    made = Sample.objects.get()
    assert (made.mem_bytes, made.mem_max, made.cpu_ms) == (None, None, None)


def test_a_new_endpoint_of_an_old_name_gets_none_of_the_old_counts():
    record(moment(0), [blue({200: 100})])
    record(moment(10), [blue({200: 110})])
    record(moment(20), [blue({200: 115}, endpoint=0, present=False)])  # deleted: nobody's
    record(moment(30), [blue({200: 115}, endpoint=8)])
    record(moment(40), [blue({200: 118}, endpoint=8)])
    assert list(Sample.objects.order_by("end").values_list("endpoint", "requests")) == [(7, 10), (8, 3)]


def test_a_deployment_that_is_gone_for_a_while_leaves_a_hole():
    record(moment(0), [blue({200: 1})])
    record(moment(10), [blue({200: 2})])
    for second in range(20, 100, 10):
        record(moment(second), [blue({200: 2}, present=False)])
    record(moment(100), [blue({200: 2})])
    record(moment(110), [blue({200: 4})])
    assert rows() == [(0, 10, 1), (90, 100, 0), (100, 110, 2)]


def test_what_the_gateway_answered_itself_is_written_only_when_there_is_something():
    own = {"name": "iris/", "deployment": "", "present": False, "gauges": Gauges(), "restarts": {}}
    for second in (0, 10, 20, 30):
        record(moment(second), [blue({401: 5}, **own)])
    record(moment(40), [blue({401: 7}, **own)])
    assert rows() == [(30, 40, 2)]
    assert Sample.objects.get().status_4xx == 2


def test_copies_and_requests_do_not_continue_each_other():
    record(moment(0), [blue({200: 1000})])
    record(moment(10), [blue({200: 9000}, source="copies")])
    record(moment(20), [blue({200: 9005}, source="copies")])
    assert rows() == [(10, 20, 5)]


def test_a_thousand_deployments_take_few_queries(django_assert_max_num_queries):
    many = [blue({200: 1}, name=f"e{n}/blue", endpoint=n + 1) for n in range(1000)]
    record(moment(0), many)
    busy = [blue({200: 2}, name=each.name, endpoint=each.endpoint) for each in many]
    with django_assert_max_num_queries(40):  # a statement of SQLite takes 45 rows
        assert record(moment(10), busy) == 1000


def nobodys(name, count):
    own = {"endpoint": 0, "present": False, "gauges": Gauges(), "restarts": {}}
    return blue({200: count}, name=f"{name}/blue", **own)


def test_two_names_that_nobody_owns_do_not_stop_the_sampling_of_others():
    for second in (0, 10, 20):
        record(moment(second), [nobodys("a", second), nobodys("b", second), blue({200: second})])
    assert list(Sample.objects.values_list("endpoint", flat=True)) == [7, 7]
    assert Baseline.objects.get(name="a/blue").values["codes"] == {"200": 20}


def test_a_clock_that_was_ahead_and_is_set_back_silences_nothing():
    year = 365 * 86_400
    for second in (0, 10, year, year + 10):
        record(moment(second), [blue({200: second})])
    Tick.objects.update(rolled=T + year * 1000)
    record(moment(20), [blue({200: year + 20})])
    assert record(moment(30), [blue({200: year + 23})]) == 1
    assert rows() == [(0, 10, 10), (20, 30, 3)]
    assert Tick.objects.get().rolled <= T + 30_000


def test_a_clock_that_is_set_back_a_little_is_waited_for():
    record(moment(0), [blue({200: 1})])
    record(moment(50), [blue({200: 2})])
    assert record(moment(10), [blue({200: 3})]) == 0
    assert record(moment(60), [blue({200: 5})]) == 1
    assert rows() == [(0, 50, 1), (50, 60, 3)]

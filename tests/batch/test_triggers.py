"""When schedules are due: recurrences, starts and ends, time zones by Windows' names."""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from apps.batch import domain
from apps.batch.domain import triggers
from apps.core.errors import Problem

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)  # a Wednesday


def due(frequency, interval=1, zone="UTC", count=3, after=NOW, start=None, end=None, **pattern):
    recurrence = {"frequency": frequency, "interval": interval, "schedule": pattern}
    cron = triggers.cron_of(recurrence, start, zone)
    spec = domain.ScheduleSpec(None, cron, zone, recurrence=recurrence, starts_at=start, ends_at=end)
    return [f"{each.astimezone(UTC):%m-%d %H:%M}" for each in islice(triggers.times(spec, after), count)]


START = datetime(2026, 3, 3, 10, 20, tzinfo=UTC)
LATER = datetime(2026, 4, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"frequency": "Minute", "interval": 15}, ["03-04 05:15", "03-04 05:30", "03-04 05:45"]),
        ({"frequency": "Minute", "interval": 7, "start": START}, ["03-04 05:07", "03-04 05:14", "03-04 05:21"]),
        ({"frequency": "Hour", "interval": 5, "start": START}, ["03-04 06:20", "03-04 11:20", "03-04 16:20"]),
        ({"frequency": "Day"}, ["03-05 00:00", "03-06 00:00", "03-07 00:00"]),
        ({"frequency": "Day", "interval": 2, "start": START}, ["03-05 10:20", "03-07 10:20", "03-09 10:20"]),
        ({"frequency": "Day", "hours": [7, 5], "minutes": [30]}, ["03-04 05:30", "03-04 07:30", "03-05 05:30"]),
        ({"frequency": "Day", "hours": [7]}, ["03-04 07:00", "03-05 07:00", "03-06 07:00"]),
        ({"frequency": "Week"}, ["03-09 00:00", "03-16 00:00", "03-23 00:00"]),
        ({"frequency": "Week", "interval": 2, "start": START}, ["03-17 10:20", "03-31 10:20", "04-14 10:20"]),
        (
            {"frequency": "Week", "interval": 2, "start": START, "weekDays": ["Friday", "Sunday"], "hours": [8]},
            ["03-06 08:00", "03-08 08:00", "03-20 08:00"],
        ),
        ({"frequency": "Month", "interval": 2, "start": START}, ["05-03 10:20", "07-03 10:20", "09-03 10:20"]),
        ({"frequency": "Month", "monthDays": [1, 31]}, ["03-31 00:00", "04-01 00:00", "05-01 00:00"]),
        ({"frequency": "Day", "zone": "Pacific Standard Time"}, ["03-04 08:00", "03-05 08:00", "03-06 08:00"]),
        (
            {"frequency": "Day", "start": LATER},
            ["04-01 09:00", "04-02 09:00", "04-03 09:00"],
        ),
        ({"frequency": "Day", "end": datetime(2026, 3, 6, tzinfo=UTC)}, ["03-05 00:00", "03-06 00:00"]),
    ],
)
def test_recurrences(asked, expected):
    assert due(**asked) == expected


@pytest.mark.parametrize(("frequency", "second"), [("Day", "12-03"), ("Week", "12-15"), ("Month", "02-01")])
def test_seconds_of_a_start_do_not_skip_the_first_run(frequency, second):
    start = triggers.moment("2026-12-01T00:00:30.5", triggers.zone_of("UTC"), "startTime")
    assert due(frequency, 2, start=start, count=2) == ["12-01 00:00", f"{second} 00:00"]


def test_an_end_is_to_the_second():
    end = triggers.moment("2026-12-01T23:59:59.5", triggers.zone_of("UTC"), "endTime")
    assert end == datetime(2026, 12, 1, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("frequency", "pattern", "cron"),
    [
        ("Day", {"hours": [1], "minutes": list(range(60))}, "* 1 * * *"),
        ("Day", {"hours": list(range(24)), "minutes": [0, 1]}, "0,1 * * * *"),
        ("Day", {"hours": [1, 2, 3, 5, 7, 8], "minutes": list(range(1, 60))}, "1-59 1-3,5,7,8 * * *"),
        ("Week", {"weekDays": list(triggers.DAYS), "hours": [3]}, "0 3 * * *"),
        ("Month", {"monthDays": list(range(1, 32)), "hours": [3]}, "0 3 * * *"),
    ],
)
def test_numbers_in_a_row_are_short_as_cron(frequency, pattern, cron):
    recurrence = {"frequency": frequency, "interval": 1, "schedule": pattern}
    assert triggers.cron_of(recurrence, None, "UTC") == cron
    assert due(frequency, **pattern)


def test_more_times_than_an_expression_can_name_are_refused():
    odd = {name: list(range(1, most, 2)) for name, most in (("hours", 24), ("minutes", 60), ("monthDays", 32))}
    with pytest.raises(Problem, match="too many times") as refused:
        due("Month", **odd)
    assert (refused.value.code, refused.value.target) == ("bad-field", "properties.trigger.schedule")


def test_intervals_of_days_are_those_of_the_calendar_when_the_clock_is_changed():
    start = datetime(2026, 3, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert due("Day", 2, "Europe/Berlin", after=start, start=start) == ["03-29 01:00", "03-31 00:30", "04-02 00:30"]


@pytest.mark.parametrize(
    ("asked", "code", "target"),
    [
        ({"frequency": "Day", "interval": 0}, "bad-field", "properties.trigger.interval"),
        ({"frequency": "Day", "interval": 10**6}, "bad-field", "properties.trigger.interval"),
        ({"frequency": "Day", "hours": [24]}, "bad-field", "properties.trigger.schedule.hours"),
        ({"frequency": "Month", "monthDays": [0]}, "bad-field", "properties.trigger.schedule.monthDays"),
        ({"frequency": "Hour", "minutes": [5]}, "unsupported", "properties.trigger.schedule.minutes"),
        ({"frequency": "Day", "weekDays": ["Monday"]}, "unsupported", "properties.trigger.schedule.weekDays"),
    ],
)
def test_recurrences_that_are_none_are_refused(asked, code, target):
    with pytest.raises(Problem) as refused:
        due(**asked)
    assert (refused.value.code, refused.value.target) == (code, target)


def test_whole_periods_are_jumped_over():
    always = {"hours": list(range(24)), "minutes": list(range(60))}
    recurrence = {"frequency": "Day", "interval": 1000, "schedule": always}
    spec = domain.ScheduleSpec(None, "* * * * *", recurrence=recurrence)
    first, second = islice(triggers.times(spec, datetime(2024, 1, 1, 23, 58, 30, tzinfo=UTC)), 2)
    assert (first, second) == (datetime(2024, 1, 1, 23, 59, tzinfo=UTC), datetime(2026, 9, 27, tzinfo=UTC))


def on_the_31st(interval, month):
    recurrence = {"frequency": "Month", "interval": interval, "schedule": {"monthDays": [31]}}
    start = datetime(2026, month, 1, tzinfo=UTC)
    return domain.ScheduleSpec(None, "0 6 31 * *", recurrence=recurrence, starts_at=start)


@pytest.mark.parametrize("interval", [12, 996])
def test_a_day_that_no_counting_month_has_is_never_due(interval):
    with pytest.raises(Problem, match="never due"):
        triggers.next_time(on_the_31st(interval, month=2), NOW)


@pytest.mark.parametrize(("interval", "year"), [(2, 2026), (1000, 2109)])
def test_months_without_the_day_are_jumped_over(interval, year):
    expected = datetime(year, 8, 31, 6, tzinfo=UTC)
    assert triggers.next_time(on_the_31st(interval, month=4), NOW) == expected


@pytest.mark.parametrize("text", ["9999-12-31T00:00:00", "0001-01-01T00:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_nobody_will_see_is_refused(text):
    with pytest.raises(Problem):
        triggers.moment(text, triggers.zone_of("Europe/Berlin"), "startTime")

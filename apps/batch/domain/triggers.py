"""When a schedule is due: a cron expression in a time zone, recurrences as one, from a time on and until one.

A recurrence is a cron expression of which only every n-th minute, hour, day, week or month counts, from its start on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from itertools import count
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from tzlocal.windows_tz import win_tz

from apps.registry.pipelines.fields import bad, unsupported

FIELDS = 5  # minute, hour, day of the month, month, day of the week
LONGEST = 120
MOST_INTERVAL = 1000
MOST_PERIODS = 100  # without a time of the expression in them, such as February for the 31st
FIRST_YEAR, LAST_YEAR = 1970, 3000  # an interval more can be counted from there
FIRST = datetime(2024, 1, 1)  # noqa: DTZ001 -- a Monday, on any clock: what recurrences without a start count from
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
STEPS = {"Minute": timedelta(minutes=1), "Hour": timedelta(hours=1)}
RANGES = {"minutes": (0, 59), "hours": (0, 23), "monthDays": (1, 31), "weekDays": (0, 6)}


class Trigger(Protocol):
    """A schedule's row or its spec. `recurrence`: {"frequency", "interval", "schedule"} as on the wire, or None."""

    @property
    def cron(self) -> str: ...
    @property
    def time_zone(self) -> str: ...
    @property
    def recurrence(self) -> dict[str, Any] | None: ...
    @property
    def starts_at(self) -> datetime | None: ...
    @property
    def ends_at(self) -> datetime | None: ...


def zone_of(name: str) -> ZoneInfo:
    """Of an IANA name, or of Windows', which Azure ML uses. Raises Problem "bad-field"."""
    try:
        return ZoneInfo(win_tz.get(name, name))
    except (KeyError, ValueError, OSError):  # OSError: a name that is a folder of the zones' data
        raise bad("timeZone", f"{name[:60]!r} is no time zone; write it as Europe/Berlin") from None


def moment(text: str | None, zone: ZoneInfo, field: str) -> datetime | None:
    """A time of ISO 8601, of the zone's clock unless it says otherwise, to the second. Raises Problem "bad-field"."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.astimezone(zone) if found.tzinfo else found.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        raise bad(field, f"{text[:60]!r} is no time; write it as 2026-01-31T10:00:00") from None
    if not FIRST_YEAR <= found.year < LAST_YEAR:
        raise bad(field, f"must lie between {FIRST_YEAR} and {LAST_YEAR}")
    return found.replace(microsecond=0)


def times(trigger: Trigger, after: datetime) -> Iterator[datetime]:
    """When it is due after a time, in order. Raises Problem "bad-field" for what is no expression or no zone."""
    zone = zone_of(trigger.time_zone)
    if len(trigger.cron.split()) != FIELDS or len(trigger.cron) > LONGEST:
        raise bad("cron", "needs five fields: minute, hour, day of the month, month, day of the week")
    if trigger.starts_at is not None:
        after = max(after, _minute(trigger.starts_at) - timedelta(seconds=1))
    after = after.astimezone(zone)
    found: Iterator[datetime] = _simulated(trigger.cron, after)
    if trigger.recurrence and trigger.recurrence["interval"] > 1:
        start = _start(trigger.starts_at, zone)
        found = _recurring(trigger.cron, after, start, trigger.recurrence)
    return _until(found, trigger.ends_at)


def _simulated(cron: str, after: datetime) -> CronSim:
    try:
        return CronSim(cron.upper(), after)
    except CronSimError as error:
        raise bad("cron", f"is no cron expression: {error}") from None


def _recurring(cron: str, after: datetime, start: datetime, recurrence: Mapping[str, Any]) -> Iterator[datetime]:
    """Of the times those that count; whole periods without one are jumped over, not walked through."""
    frequency, interval = recurrence["frequency"], recurrence["interval"]
    if frequency in STEPS:  # of time that passes, whatever the clock says
        step = (STEPS[frequency] * interval).total_seconds()
        number = max(0, int((after.timestamp() - start.timestamp()) // step) + 1)
        for each in count(number):
            yield datetime.fromtimestamp(start.timestamp() + each * step, start.tzinfo)
    found, missed = _simulated(cron, after), 0
    while missed < MOST_PERIODS and (due := next(found, None)) is not None and due.year < LAST_YEAR:
        period = _period(due, start, frequency, interval)
        if period <= due.date():
            missed = 0
            yield due
        else:
            missed += 1
            midnight = datetime.combine(period, time(), due.tzinfo)
            found = _simulated(cron, midnight - timedelta(seconds=1))


def _until(found: Iterator[datetime], end: datetime | None) -> Iterator[datetime]:
    for each in found:
        if end is not None and each > end:
            return
        yield each


def next_time(trigger: Trigger, after: datetime) -> datetime:
    """When it is due next. Raises Problem "bad-field" for what is no expression, no zone, or never due."""
    found = next(times(trigger, after), None)
    if found is not None:
        return found
    if trigger.ends_at is not None:
        raise bad("endTime", "comes before it is due once more")
    raise bad("cron", "is never due")


def _start(starts_at: datetime | None, zone: ZoneInfo) -> datetime:
    return _minute(starts_at).astimezone(zone) if starts_at is not None else FIRST.replace(tzinfo=zone)


def _minute(starts_at: datetime) -> datetime:
    """Cron has no seconds: a first run in the minute of the start would come before it, and be left out."""
    return starts_at.replace(second=0, microsecond=0)


def _period(due: datetime, start: datetime, frequency: str, interval: int) -> date:
    """The first day of the counting period that a time is in, or of the next one that counts."""
    if frequency == "Month":
        passed = (due.year - start.year) * 12 + due.month - start.month
        months = due.year * 12 + due.month - 1 + -passed % interval
        return date(months // 12, months % 12 + 1, 1)
    length = 7 if frequency == "Week" else 1
    first, begun = (_monday(due), _monday(start)) if frequency == "Week" else (due.date(), start.date())
    return first + timedelta(days=-((first - begun).days // length) % interval * length)


def _monday(each: datetime) -> date:
    return each.date() - timedelta(days=each.weekday())


def cron_of(recurrence: Mapping[str, Any], start: datetime | None, time_zone: str) -> str:
    """The times of a recurrence whose interval is one; what it leaves open is as at its start.

    Raises:
        Problem: "bad-field" for a value out of its range and for more times than an expression can name,
            "unsupported" for what its frequency has no use for.
    """
    interval, frequency = recurrence["interval"], recurrence["frequency"]
    if not 1 <= interval <= MOST_INTERVAL:
        raise bad("properties.trigger.interval", f"must be a whole number from 1 to {MOST_INTERVAL}")
    at = _start(start, zone_of(time_zone))
    pattern = _pattern(recurrence)
    if frequency == "Minute":
        return "* * * * *"
    if frequency == "Hour":
        return f"{at.minute} * * * *"
    numbers = {
        "minutes": pattern["minutes"] or [0 if pattern["hours"] else at.minute],
        "hours": pattern["hours"] or [at.hour],
        "monthDays": (pattern["monthDays"] or [at.day]) if frequency == "Month" else [],
        "weekDays": (pattern["weekDays"] or [(at.weekday() + 1) % 7]) if frequency == "Week" else [],
    }
    minutes, hours, days, week = (_row(values, *RANGES[name]) for name, values in numbers.items())
    cron = f"{minutes} {hours} {days} * {week}"
    if len(cron) > LONGEST:
        reason = f"names too many times: as a cron expression it has {len(cron)} characters, of at most {LONGEST}"
        raise bad("properties.trigger.schedule", reason)
    return cron


def _pattern(recurrence: Mapping[str, Any]) -> dict[str, list[int]]:
    """The pattern's numbers; days of the week as cron counts them."""
    given = recurrence.get("schedule") or {}
    frequency = recurrence["frequency"]
    useful = {"Minute": (), "Hour": (), "Week": ("weekDays",), "Month": ("monthDays",)}.get(frequency, ())
    made = {}
    for name in ("hours", "minutes", "weekDays", "monthDays"):
        field = f"properties.trigger.schedule.{name}"
        values = given.get(name) or []
        if values and name not in useful and (frequency in STEPS or name.endswith("Days")):
            raise unsupported(field, f"a recurrence by the {frequency.lower()} has none")
        if name == "weekDays":
            values = [(DAYS.index(each) + 1) % 7 for each in values]
        elif not all(RANGES[name][0] <= each <= RANGES[name][1] for each in values):
            raise bad(field, f"must be whole numbers from {RANGES[name][0]} to {RANGES[name][1]}")
        made[name] = values
    return made


def _row(values: list[int], least: int, most: int) -> str:
    """The numbers as cron has them, those in a row as `a-b`; `*` for all there are, or none."""
    rows: list[list[int]] = []
    for each in sorted(set(values)):
        if rows and each == rows[-1][-1] + 1:
            rows[-1].append(each)
        else:
            rows.append([each])
    if not rows or rows == [[*range(least, most + 1)]]:
        return "*"
    return ",".join(f"{row[0]}-{row[-1]}" if len(row) > 2 else ",".join(map(str, row)) for row in rows)  # noqa: PLR2004

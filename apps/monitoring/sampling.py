"""From counters that only grow to samples: what happened since the last time somebody looked.

The samples, the counters they were taken from, and the time of it are written in one transaction. Killed before it, the
next tick sees the old counters and counts it all; killed after it, the next tick counts from the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import structlog
from django.db import transaction

from apps.monitoring.latency import Bins, pack, unpack
from apps.monitoring.models import Baseline, Sample, Tick
from apps.monitoring.models.metrics import COARSE, FINE

log = structlog.get_logger(__name__)

HEARTBEAT_MS = 60_000  # an idle deployment gets a sample this often
LONGEST_MS = 86_400_000  # after weeks without sampling, or a clock that jumped: told of the last day
AHEAD_MS = 60_000  # the last tick was later than this from now: the clock was wrong then
AWAY_MS = 60_000  # nobody sampled for longer: counters never seen before may be old ones
IDLE_CPU = 0.01  # of a core
SAME_MEMORY = 0.02
REDIRECT, CLIENT, SERVER = 300, 400, 500
TIMEOUT, MODEL_ERROR, THROTTLED = 408, 424, 429


@dataclass(frozen=True)
class Gauges:
    """What is true at one moment; null: not known."""

    active: int = 0
    ready: int = 0
    desired: int = 0
    cpu_limit_milli: int = 0
    mem_bytes: int | None = 0
    mem_max: int | None = 0
    mem_limit: int = 0

    def like(self, other: Gauges) -> bool:
        """Whether a chart would show no difference."""
        if replace(self, mem_bytes=0, mem_max=0) != replace(other, mem_bytes=0, mem_max=0):
            return False
        if self.mem_bytes is None or other.mem_bytes is None:
            return self.mem_bytes == other.mem_bytes
        return abs(self.mem_bytes - other.mem_bytes) <= SAME_MEMORY * max(other.mem_bytes, 1)


@dataclass(frozen=True)
class Seen:
    """One deployment at one moment. Counters count since the start of the gateway, processor time since a replica's.

    `deployment` "" is what the gateway answered itself; `endpoint` 0 is a name that belongs to nobody now. `present`: a
    deployment that exists, which gets samples also while it is idle. `source` tells sets of counters apart that do not
    continue each other. `restarts` names every replica, `cpu_s` those that told.
    """

    endpoint: int
    name: str
    deployment: str
    codes: Mapping[int, int] = field(default_factory=dict)
    latency: Bins = field(default_factory=dict)
    source: str = "requests"
    present: bool = True
    gauges: Gauges = Gauges()
    restarts: Mapping[str, int] = field(default_factory=dict)
    cpu_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Moment:
    """When was looked (milliseconds since 1970), and which run of the gateway counted since when."""

    at: int
    epoch: str
    since: int


@dataclass(frozen=True)
class Changes:
    """What was added between two moments."""

    codes: Mapping[int, int] = field(default_factory=dict)
    latency: Bins = field(default_factory=dict)
    restarts: int = 0
    cpu_ms: int = 0


def record(moment: Moment, seen: list[Seen]) -> int:
    """Write the samples of the time since the last tick; how many. A moment that is not after the last is ignored."""
    with transaction.atomic():
        Tick.objects.get_or_create(pk=1)
        tick = Tick.objects.select_for_update().get(pk=1)
        if tick.at > moment.at + AHEAD_MS:
            _forget_the_future(tick, moment)
        if moment.at <= tick.at:
            return 0
        baselines = Baseline.objects.in_bulk()
        samples: list[Sample] = []
        moved: list[Baseline] = []
        for each in seen:
            last = baselines.pop(each.name, None)
            made = _samples(each, last, moment, tick.at)
            if made is not None:
                samples += made
                moved.append(_baseline(each, last, moment))
            elif last is not None and last.present and not each.present:
                moved.append(_left(last))
        moved += [_left(gone) for gone in baselines.values() if gone.present]
        Sample.objects.bulk_create(samples, batch_size=1000)
        fields = ["endpoint", "epoch", "at", "present", "values"]
        Baseline.objects.bulk_create(
            moved, batch_size=1000, update_conflicts=True, unique_fields=["name"], update_fields=fields
        )
        Tick.objects.filter(pk=1).update(at=moment.at)
        return len(samples)


def _forget_the_future(tick: Tick, moment: Moment) -> None:
    """The clock was ahead and was set back. What was written meanwhile is of a time to come: begin anew from now."""
    log.warning("metrics.clock_set_back", seconds=(tick.at - moment.at) // 1000)
    rolled = min(tick.rolled, moment.at // (COARSE * 1000) * COARSE * 1000)
    Sample.objects.filter(end__gt=moment.at).delete()
    Sample.objects.filter(resolution=COARSE, end__gt=rolled).delete()  # made too early: made again when it is time
    Baseline.objects.all().delete()
    tick.at, tick.rolled = 0, rolled
    Tick.objects.filter(pk=1).update(at=tick.at, rolled=tick.rolled)


def _samples(seen: Seen, last: Baseline | None, moment: Moment, ticked: int) -> list[Sample] | None:
    """What to write for one deployment; None leaves its baseline where it is, so that what is small adds up."""
    start = max(ticked, moment.since)
    if not _continues(seen, last, young=bool(ticked) and moment.at - start <= AWAY_MS):
        return []
    changes = _changes(seen, last, moment)
    if not seen.endpoint:  # nobody's: no row, but its next owner must not be told of what was counted until now
        return [] if changes.codes else None
    if not seen.present:
        return [_sample(seen, start, moment.at, changes)] if changes.codes else None
    if last is None or not last.present:
        return [_sample(seen, start, moment.at, changes)]
    if last.epoch == moment.epoch and _idle(seen, last, changes, moment.at - last.at):
        due = moment.at - last.at >= HEARTBEAT_MS
        return [_sample(seen, last.at, moment.at, changes)] if due else None
    return _resumed(seen, last, changes, start=start, end=moment.at, ticked=ticked)


def _continues(seen: Seen, last: Baseline | None, *, young: bool) -> bool:
    """Whether the counters grew from the last ones to these as this deployment's own."""
    if last is None:  # a counter nobody has seen is new, unless nobody looked for a while
        return young
    return last.endpoint == seen.endpoint and last.values["source"] == seen.source


def _resumed(seen: Seen, last: Baseline, changes: Changes, *, start: int, end: int, ticked: int) -> list[Sample]:
    """A sample of what happened; before it one of the idle time up to the last tick, if none says that yet."""
    if last.at >= ticked:
        return [_sample(seen, start, end, changes)]
    quiet = Changes(cpu_ms=min(changes.cpu_ms, round((ticked - last.at) * IDLE_CPU)))
    before = replace(seen, gauges=Gauges(**last.values["gauges"]))
    rest = replace(changes, cpu_ms=changes.cpu_ms - quiet.cpu_ms)
    return [_sample(before, last.at, ticked, quiet), _sample(seen, start, end, rest)]


def _changes(seen: Seen, last: Baseline | None, moment: Moment) -> Changes:
    old = last.values if last is not None else {}
    counters = old if last is not None and last.epoch == moment.epoch else {}  # another run began at nothing
    codes = {int(code): count for code, count in counters.get("codes", {}).items()}
    return Changes(
        codes=_grown(codes, seen.codes),
        latency=_grown(unpack(counters.get("latency", [])), seen.latency),
        restarts=sum(_grown(old.get("restarts", {}), seen.restarts).values()),
        cpu_ms=round(sum(_grown(old.get("cpu", {}), seen.cpu_s).values()) * 1000),
    )


def _grown(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> dict[Any, Any]:
    """What was added. A counter that is lower than before began again at nothing."""
    grown = {key: value - old.get(key, 0) if value >= old.get(key, 0) else value for key, value in new.items()}
    return {key: value for key, value in grown.items() if value}


def _idle(seen: Seen, last: Baseline, changes: Changes, span: int) -> bool:
    """Nothing happened that a chart would show."""
    if changes.codes or changes.restarts or seen.gauges.active or changes.cpu_ms > span * IDLE_CPU:
        return False
    return seen.gauges.like(Gauges(**last.values["gauges"]))


def _baseline(seen: Seen, last: Baseline | None, moment: Moment) -> Baseline:
    told = last.values["cpu"] if last is not None else {}
    silent = {name: told[name] for name in seen.restarts if name in told}
    values = {
        "source": seen.source,
        "codes": {str(code): count for code, count in seen.codes.items()},
        "latency": pack(seen.latency),
        "cpu": {**silent, **seen.cpu_s},
        "restarts": dict(seen.restarts),
        "gauges": asdict(seen.gauges),
    }
    return Baseline(
        name=seen.name,
        endpoint=seen.endpoint,
        epoch=moment.epoch,
        at=moment.at,
        present=seen.present,
        values=values,
    )


def _left(baseline: Baseline) -> Baseline:
    baseline.present = False
    return baseline


def _sample(seen: Seen, start: int, end: int, changes: Changes) -> Sample:
    counts, gauges = changes.codes, seen.gauges

    def within(low: int, high: int) -> int:
        return sum(count for code, count in counts.items() if low <= code < high)

    return Sample(
        endpoint=seen.endpoint,
        deployment=seen.deployment,
        resolution=FINE,
        end=end,
        span=min(end - start, LONGEST_MS),
        requests=sum(counts.values()),
        status_2xx=within(1, REDIRECT),  # with 101, a WebSocket that ended
        status_3xx=within(REDIRECT, CLIENT),
        status_4xx=within(CLIENT, SERVER) + counts.get(0, 0),  # 0: the caller left before the answer
        status_5xx=within(SERVER, 1000),
        timeouts=counts.get(TIMEOUT, 0),
        model_errors=counts.get(MODEL_ERROR, 0),
        throttled=counts.get(THROTTLED, 0),
        latency=pack(changes.latency),
        active=gauges.active,
        ready=gauges.ready,
        desired=gauges.desired,
        restarts=changes.restarts,
        cpu_ms=None if gauges.mem_bytes is None else changes.cpu_ms,
        cpu_limit_ms=gauges.cpu_limit_milli * (end - start) // 1000,
        mem_bytes=gauges.mem_bytes,
        mem_max=gauges.mem_max,
        mem_limit=gauges.mem_limit,
    )

"""What pages and the API read: series over a range, totals of a range, and the recent past of many endpoints.

A sample is what happened in an interval, and intervals do not know the steps of a chart: each is spread over the steps
it touches. Rates are per second of what was sampled, so a step without samples is a hole and not a zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q

from apps.monitoring.latency import SHARES, Bins, add, merge, percentile
from apps.monitoring.models import Recent, Sample, Tick
from apps.monitoring.models.metrics import COARSE, FINE
from apps.monitoring.rollup import COARSE_MS, KEEP_FINE_MS, WINDOWS

STILL_TRUE_MS = 90_000  # a deployment whose last sample is younger than this has been idle since
COUNTS = (
    "requests",
    "status_2xx",
    "status_3xx",
    "status_4xx",
    "status_5xx",
    "timeouts",
    "model_errors",
    "throttled",
    "restarts",
)
GAUGES = ("active", "desired", "mem_bytes", "mem_max", "mem_limit")
READ = ("deployment", "end", "span", *COUNTS, *GAUGES, "ready", "cpu_ms", "cpu_limit_ms", "latency")
Values = list[float | None]


@dataclass
class Step:
    """One step of one deployment. `seconds` is how much of it was sampled."""

    seconds: float = 0.0
    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0.0))
    bins: Bins = field(default_factory=dict)
    gauges: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys((*GAUGES, "ready")))
    cpu_s: float | None = None
    cpu_limit_s: float = 0.0

    def take(self, sample: Any, share: float) -> None:
        """Add the part of a sample that lies in this step."""
        self.seconds += sample.span * share / 1000
        if sample.requests or sample.restarts:
            for name in COUNTS:
                self.counts[name] += getattr(sample, name) * share
            add(self.bins, sample.latency, share)
        for name in GAUGES:
            here, value = self.gauges[name], getattr(sample, name)
            self.gauges[name] = value if here is None else here if value is None else max(here, value)
        ready = self.gauges["ready"]
        self.gauges["ready"] = sample.ready if ready is None else min(ready, sample.ready)
        if sample.cpu_ms is not None:
            self.cpu_s = (self.cpu_s or 0.0) + sample.cpu_ms * share / 1000
            self.cpu_limit_s += sample.cpu_limit_ms * share / 1000

    def join(self, other: Step) -> None:
        """Add another deployment's step."""
        self.seconds = max(self.seconds, other.seconds)
        for name in COUNTS:
            self.counts[name] += other.counts[name]
        merge(self.bins, other.bins)

    def rate(self, name: str) -> float | None:
        return self.counts[name] / self.seconds if self.seconds else None

    def ratio(self, name: str, limit: str) -> float | None:
        part, whole = self.gauges[name], self.gauges[limit]
        return 100 * part / whole if part is not None and whole else None

    @property
    def cores(self) -> float | None:
        return self.cpu_s / self.seconds if self.cpu_s is not None and self.seconds else None

    @property
    def cpu_percent(self) -> float | None:
        return 100 * self.cpu_s / self.cpu_limit_s if self.cpu_s is not None and self.cpu_limit_s else None


@dataclass(frozen=True)
class Series:
    """Aligned steps per deployment; "" is what the gateway answered itself. `times`: where steps begin, in seconds."""

    times: list[int]
    step: int
    deployments: dict[str, list[Step]]

    def together(self, names: Collection[str]) -> list[Step]:
        """The sum of some deployments; holes only where none was sampled."""
        whole = [Step() for _ in self.times]
        for name in names:
            for total, part in zip(whole, self.deployments.get(name, []), strict=False):
                total.join(part)
        return whole


def series(*, endpoint: int, start: int, end: int, step: int) -> Series:
    """An endpoint from `start` to `end` (seconds since 1970) in steps of `step` seconds.

    Steps of five minutes and more come from the rolled-up samples and, for what is not rolled up yet, the fine ones.
    """
    begin, finish, width = start * 1000, end * 1000, step * 1000
    size = max(1, -(-(finish - begin) // width))
    found: dict[str, list[Step]] = defaultdict(lambda: [Step() for _ in range(size)])
    for sample in _samples(endpoint, begin, finish, step):
        steps = found[sample.deployment]
        first = sample.end - sample.span
        for index in range(max(0, (first - begin) // width), min(size, -(-(sample.end - begin) // width))):
            low = max(first, begin + index * width)
            high = min(sample.end, begin + (index + 1) * width)
            if high > low:
                steps[index].take(sample, (high - low) / sample.span)
    return Series([start + index * step for index in range(size)], step, dict(found))


def totals(*, endpoint: int, start: int, end: int) -> dict[str, Step]:
    """The whole of a range as one step per deployment."""
    found = series(endpoint=endpoint, start=start, end=end, step=max(1, end - start))
    return {name: steps[0] for name, steps in found.deployments.items()}


def _samples(endpoint: int, begin: int, finish: int, step: int) -> Iterator[Any]:
    """The samples that touch the range. An idle deployment's last one is drawn out to the last tick."""
    tick = Tick.objects.filter(pk=1).first() or Tick()
    touching = Q(end__gt=begin)
    # a sample that begins inside the range may end behind it: by an idle minute, or by a rolled-up row
    fine = Q(resolution=FINE, end__lt=finish + 60_000 + STILL_TRUE_MS)
    if step >= COARSE or begin < tick.at - KEEP_FINE_MS:
        rolled = Q(resolution=COARSE, end__lte=tick.rolled, end__lt=finish + COARSE_MS)
        where = touching & (rolled | fine & Q(end__gt=max(tick.rolled, begin)))
    else:
        where = touching & fine
    last: dict[str, Any] = {}
    rows = Sample.objects.filter(where, endpoint=endpoint).order_by("end").values_list(*READ, named=True)
    for sample in rows.iterator(chunk_size=2000):  # tuples: half the time of a day is making rows of the model
        yield sample
        last[sample.deployment] = sample
    for name, sample in last.items():
        if name and 0 < tick.at - sample.end <= STILL_TRUE_MS and sample.end < finish:
            yield _drawn_out(sample, tick.at)


def _drawn_out(sample: Any, to: int) -> Any:
    """The same state without the events."""
    span = to - sample.end
    return sample._replace(
        end=to,
        span=span,
        requests=0,
        restarts=0,
        active=0,
        cpu_ms=0 if sample.cpu_ms is not None else None,
        cpu_limit_ms=sample.cpu_limit_ms * span // max(1, sample.span),
    )


@dataclass(frozen=True)
class Summary:
    """The recent past of one endpoint, its deployments together. Milliseconds; None without requests."""

    requests: int = 0
    errors: int = 0
    p50: float | None = None
    p95: float | None = None
    window: int = 300

    @property
    def per_minute(self) -> float:
        return self.requests * 60 / self.window

    @property
    def error_percent(self) -> float:
        return 100 * self.errors / self.requests if self.requests else 0.0


def summary(endpoints: Collection[int], window: int = 300) -> dict[int, Summary]:
    """Requests, errors and latency of many endpoints over the last `window` seconds, in one query.

    For lists: takes primary keys of online endpoints and answers one `Summary` for each, also for those that had no
    requests. `window` is 300, 3600 or 86400. The numbers are made beforehand: those of 300 at most half a minute ago,
    the others from full five-minute pieces, at most six minutes ago. Requests that the gateway refused before a
    deployment was reached (wrong key, rate limit) are in none of them. Raises ValueError for another window.

        recent = summary([each.pk for each in endpoints])
        recent[endpoint.pk].per_minute, recent[endpoint.pk].p95
    """
    if window not in WINDOWS:
        raise ValueError(f"no summary over {window} s")
    found = dict.fromkeys(endpoints, Summary(window=window))
    rows = Recent.objects.filter(window=window, endpoint__in=found)
    for endpoint, requests, errors, p50, p95 in rows.values_list("endpoint", "requests", "errors", "p50", "p95"):
        found[endpoint] = Summary(requests, errors, p50, p95, window)
    return found


def latency(steps: list[Step]) -> dict[str, Values]:
    return {name: [percentile(each.bins, share) for each in steps] for name, share in SHARES.items()}

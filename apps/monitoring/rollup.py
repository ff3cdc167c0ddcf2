"""Samples grow old: five minutes become one row, what is past its time is deleted. Safe to repeat and to stop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db import transaction

from apps.monitoring.latency import Bins, add, pack, percentile
from apps.monitoring.models import Baseline, Recent, Sample, Tick
from apps.monitoring.models.metrics import COARSE, FINE

COARSE_MS = COARSE * 1000
LATE_MS = 60_000  # a tick may wait for the database's one writer: a time is rolled up when no sample of it can come
AT_ONCE = 24  # buckets in one go: two hours
KEEP_FINE_MS = 25 * 3_600_000  # a day, and what the page of a day compares its first bucket with
KEEP_COARSE_MS = 30 * 86_400_000
DELETE_AT_ONCE = 5_000
DELETE_ROUNDS = 20
WINDOWS = {300: FINE, 3_600: COARSE, 86_400: COARSE}
"""What lists can ask for (seconds), and from which samples it is made."""

SUMS = (
    "span",
    "requests",
    "status_2xx",
    "status_3xx",
    "status_4xx",
    "status_5xx",
    "timeouts",
    "model_errors",
    "throttled",
    "restarts",
    "cpu_limit_ms",
)
MOST = ("active", "desired", "mem_limit")
UNSURE = ("mem_bytes", "mem_max")


def roll_up(now: int) -> int:
    """Make the five-minute rows that are due; how many buckets were looked at."""
    done = 0
    while done < AT_ONCE:
        tick = Tick.objects.filter(pk=1).first()
        if tick is None:
            break
        end = _next_bucket(tick)
        if end is None or end + LATE_MS > now:
            break
        rows = _merged(Sample.objects.filter(resolution=FINE, end__gt=end - COARSE_MS, end__lte=end).order_by("end"))
        with transaction.atomic():  # rows and mark together; somebody else may have been here first
            if not Tick.objects.filter(pk=1, rolled=tick.rolled).update(rolled=end):
                break
            Sample.objects.bulk_create(rows, batch_size=1000, ignore_conflicts=True)
        done += 1
    return done


def _next_bucket(tick: Tick) -> int | None:
    """The end of the first five minutes after the mark that have samples; empty ones are passed over at once."""
    first = Sample.objects.filter(resolution=FINE, end__gt=tick.rolled).order_by("end").values_list("end", flat=True)
    end = first.first()
    return None if end is None else -(-end // COARSE_MS) * COARSE_MS


def _merged(samples: Iterable[Sample]) -> list[Sample]:
    """One row per deployment. It ends where its last sample ends, so rows tile time as the samples did."""
    by_owner: dict[tuple[int, str], list[Sample]] = defaultdict(list)
    for each in samples:
        by_owner[each.endpoint, each.deployment].append(each)
    return [_merge(endpoint, deployment, some) for (endpoint, deployment), some in by_owner.items()]


def _merge(endpoint: int, deployment: str, samples: list[Sample]) -> Sample:
    bins: Bins = {}
    for each in samples:
        add(bins, each.latency)
    values: dict[str, Any] = {name: sum(getattr(each, name) for each in samples) for name in SUMS}
    values |= {name: max(getattr(each, name) for each in samples) for name in MOST}
    for name in UNSURE:
        values[name] = max((value for each in samples if (value := getattr(each, name)) is not None), default=None)
    known = [each.cpu_ms for each in samples if each.cpu_ms is not None]
    values["cpu_ms"] = sum(known) if known else None
    values["ready"] = min(each.ready for each in samples)
    return Sample(
        endpoint=endpoint,
        deployment=deployment,
        resolution=COARSE,
        end=samples[-1].end,
        latency=pack(bins),
        **values,
    )


def expire(now: int) -> int:
    """Delete what is past its time, in short transactions; how many rows."""
    gone = 0
    for resolution, keep in ((FINE, KEEP_FINE_MS), (COARSE, KEEP_COARSE_MS)):
        old = Sample.objects.filter(resolution=resolution, end__lt=now - keep).order_by("end").values_list("pk")
        for _ in range(DELETE_ROUNDS):
            # by key and evaluated: no database we run on deletes with a limit
            keys = [pk for (pk,) in old[:DELETE_AT_ONCE]]
            gone += Sample.objects.filter(pk__in=keys).delete()[0]
            if len(keys) < DELETE_AT_ONCE:
                break
    _expire_baselines(now)
    return gone


def _expire_baselines(now: int) -> None:
    """Those of this run of the gateway stay: their counters still stand, and would be taken for new ones."""
    newest = Baseline.objects.order_by("-at").values_list("epoch", flat=True).first()
    gone = Baseline.objects.filter(present=False, at__lt=now - KEEP_COARSE_MS)
    gone.exclude(epoch=newest or "").delete()


def refresh(now: int, window: int) -> None:
    """Write what lists show of the last `window` seconds of every endpoint."""
    totals: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    bins: dict[int, Bins] = defaultdict(dict)
    resolution, since = WINDOWS[window], now - window * 1000
    rows = Sample.objects.filter(resolution=resolution, end__gt=since, requests__gt=0).exclude(deployment="")
    for endpoint, *counts, latency in rows.values_list(
        "endpoint", "requests", "status_4xx", "status_5xx", "latency"
    ).iterator(chunk_size=2000):
        requests, client, server = counts
        totals[endpoint][0] += requests
        totals[endpoint][1] += client + server
        add(bins[endpoint], latency)
    made = [
        Recent(
            endpoint=endpoint,
            window=window,
            requests=requests,
            errors=errors,
            p50=percentile(bins[endpoint], 0.50),
            p95=percentile(bins[endpoint], 0.95),
        )
        for endpoint, (requests, errors) in totals.items()
    ]
    with transaction.atomic():
        Recent.objects.filter(window=window).exclude(endpoint__in=list(totals)).delete()
        Recent.objects.bulk_create(
            made,
            batch_size=1000,
            update_conflicts=True,
            unique_fields=["window", "endpoint"],
            update_fields=["requests", "errors", "p50", "p95"],
        )


def maintain(now: int) -> None:
    """Everything that is due. The long windows change only when something was rolled up."""
    refresh(now, 300)
    if roll_up(now):
        for window, resolution in WINDOWS.items():
            if resolution == COARSE:
                refresh(now, window)
    expire(now)

"""Latency as counts per bin: bins of different times and deployments can be added, percentiles cannot.

The bins are Envoy's own: two significant digits, 90 bins per power of ten. A bin is 1 to 10 % wide, so a percentile,
which is interpolated inside its bin, is off by less than that. Bin 0 begins at 10 µs and takes what is faster too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Bins = dict[int, float]

DIGITS = 90
FIRST = 10
SHARES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def bin_of(microseconds: float) -> int:
    """The bin that begins at this value, or holds it."""
    if microseconds < FIRST:
        return 0
    power = math.floor(math.log10(microseconds) + 1e-9) - 1
    digits = int(microseconds / 10**power + 1e-6)
    return power * DIGITS + min(digits, 99) - FIRST


def bounds(index: int) -> tuple[float, float]:
    """Microseconds from and to."""
    power, digits = divmod(index, DIGITS)
    return (digits + FIRST) * 10.0**power, (digits + FIRST + 1) * 10.0**power


def add(into: Bins, packed: Sequence[float], share: float = 1.0) -> None:
    """Add packed bins; `share` of them when an interval is only partly meant."""
    for index, count in zip(packed[::2], packed[1::2], strict=True):
        into[int(index)] = into.get(int(index), 0) + (count if share == 1.0 else count * share)


def merge(into: Bins, other: Mapping[int, float]) -> None:
    for index, count in other.items():
        into[index] = into.get(index, 0) + count


def pack(bins: Mapping[int, float]) -> list[float]:
    return [part for index in sorted(bins) if bins[index] for part in (index, bins[index])]


def unpack(packed: Sequence[float]) -> Bins:
    bins: Bins = {}
    add(bins, packed)
    return bins


def percentile(bins: Mapping[int, float], share: float) -> float | None:
    """Milliseconds that `share` of the requests stayed below; None without requests."""
    rank = sum(bins.values()) * share
    if not rank:
        return None
    below = 0.0
    for index in sorted(bins):
        count = bins[index]
        if count and below + count >= rank - 1e-9:
            start, end = bounds(index)
            return (start + (end - start) * min(1.0, (rank - below) / count)) / 1000
        below += count
    return None


def percentiles(bins: Mapping[int, float]) -> dict[str, float | None]:
    return {name: percentile(bins, share) for name, share in SHARES.items()}


def mean(bins: Mapping[int, float]) -> float | None:
    """Milliseconds, from the middles of the bins."""
    total = sum(bins.values())
    if not total:
        return None
    return sum(sum(bounds(index)) / 2 * count for index, count in bins.items()) / total / 1000

"""Amounts of CPU, memory and GPUs: Kubernetes' way of writing them, ours of storing and of showing them.

Pure functions, so that they can be tested as properties.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from math import ceil
from typing import Any

from apps.core.errors import Problem

GIB = 2**30
# at most 15 digits and a small exponent: the text comes from strangers, and 1e999999999 is a number that fills memory
QUANTITY = re.compile(
    r"\+?(?P<number>[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)
SCALES: dict[str, Decimal] = {
    "": Decimal(1),
    **{suffix: Decimal(1000) ** power for suffix, power in zip("num", (-3, -2, -1), strict=True)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
EXACT = Context(prec=80)  # enough for every text the pattern lets through: nothing is rounded before `ceil`
CPU_RANGE = (100, 1_024_000)
MEM_RANGE = (64 * 2**20, 64 * 2**40)
GPU_RANGE = (0, 64)
KINDS = ("cpu", "memory", "gpu")
Resources = Mapping[str, Mapping[str, str]]
"""{"requests": {"cpu": "0.5", …}, "limits": {…}}, as Kubernetes writes it; every part and every kind may be missing."""


@dataclass(frozen=True)
class Size:
    """What one instance may use."""

    cpu_milli: int
    mem_bytes: int
    gpus: int = 0


def quantity(text: Any, field: str) -> Decimal:
    """The value of a Kubernetes quantity ("0.5", "500m", "1Gi", "1e3"). Raises Problem "bad-field"."""
    match = QUANTITY.fullmatch(text) if isinstance(text, str) and text.isascii() else None
    if match is None:
        reason = f"{str(text)[:40]!r} is no quantity; write 0.5 or 500m for CPU, 512Mi or 1Gi for memory"
        raise _bad(field, reason)
    scale = Decimal(10) ** int(match["exponent"]) if match["exponent"] else SCALES[match["suffix"] or ""]
    return EXACT.multiply(Decimal(match["number"]), scale)


def cpu_milli(text: Any, field: str = "cpu") -> int:
    """Thousandths of a core, rounded up as Kubernetes does."""
    return ceil(EXACT.multiply(quantity(text, field), Decimal(1000)))


def mem_bytes(text: Any, field: str = "memory") -> int:
    """Bytes, rounded up."""
    return ceil(quantity(text, field))


def gpu_count(text: Any, field: str = "gpu") -> int:
    """A whole number: GPUs are not shared."""
    value = quantity(text, field)
    if value != value.to_integral_value():
        raise _bad(field, f"must be a whole number of GPUs, not {text}")
    return int(value)


READERS = {"cpu": cpu_milli, "memory": mem_bytes, "gpu": gpu_count}
RANGES = {"cpu": CPU_RANGE, "memory": MEM_RANGE, "gpu": GPU_RANGE}
PREFIX = "containerResourceRequirements"
PARTS = {"requests": "containerResourceRequests", "limits": "containerResourceLimits"}


def from_wire(given: Mapping[str, Mapping[str, str | None] | None]) -> dict[str, dict[str, str]]:
    """What the wire's `containerResourceRequirements` says, without what says nothing."""
    parts = {key: given.get(name) or {} for key, name in PARTS.items()}
    found = {key: {kind: text for kind, text in part.items() if text is not None} for key, part in parts.items()}
    return {key: part for key, part in found.items() if part}


def as_wire(resources: Resources) -> dict[str, Mapping[str, str]]:
    return {name: resources[key] for key, name in PARTS.items() if key in resources}


def limits_of(resources: Resources, base: Size) -> Size:
    """The size a deployment asks for itself: its limits, and where it names none, those of `base`.

    Raises Problem "bad-field": no quantity, out of bounds, or a request above its limit.
    """
    given = dict(zip(KINDS, (base.cpu_milli, base.mem_bytes, base.gpus), strict=True))
    limits = _read(resources.get("limits") or {}, "limits")
    for kind, value in limits.items():
        least, most = RANGES[kind]
        if not least <= value <= most:
            reason = f"must be {shown(kind, least)} to {shown(kind, most)}, not {shown(kind, value)}"
            raise _bad(_path("limits", kind), reason)
    given |= limits
    for kind, value in _read(resources.get("requests") or {}, "requests").items():
        if value > given[kind]:
            reason = f"{shown(kind, value)} is more than the limit of {shown(kind, given[kind])}"
            raise _bad(_path("requests", kind), reason)
    return Size(given["cpu"], given["memory"], given["gpu"])


def _read(part: Mapping[str, str], name: str) -> dict[str, int]:
    return {kind: READERS[kind](part[kind], _path(name, kind)) for kind in KINDS if part.get(kind) is not None}


def _path(part: str, kind: str) -> str:
    return f"{PREFIX}.{PARTS[part]}.{kind}"


def _bad(field: str, reason: str) -> Problem:
    return Problem("bad-field", field=field, reason=reason, target=field)


def plain(value: float | Decimal) -> str:
    """A number as people write it: at most two decimals, none that say nothing."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return text if text != "-0" else "0"


def price(value: Decimal) -> str:
    """An amount of money: two decimals, and up to four where there are cents of cents."""
    whole, _point, rest = f"{value:.4f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def cores(milli: int) -> str:
    return plain(Decimal(milli) / 1000)


def gib(size: int) -> str:
    return f"{plain(Decimal(size) / GIB)} GiB"


def shown(kind: str, value: int) -> str:
    """An amount in people's units: cores, GiB, or a plain number."""
    return {"cpu": cores, "memory": gib}.get(kind, str)(value)

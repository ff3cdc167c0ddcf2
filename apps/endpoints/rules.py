"""Rules of names and traffic (spec 2.1 and 5): pure functions, so that they can be tested as properties."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from apps.core.errors import Problem

NAME = re.compile(r"[a-zA-Z](-?[a-zA-Z0-9])*")
NAME_RULE = "3 to 32 characters, a letter first, then letters, digits and single dashes, no dash at the end"
MIRROR_MAX = 50


def check_name(kind: str, name: str) -> str:
    """Raises Problem "bad-name"."""
    if not 3 <= len(name) <= 32 or not NAME.fullmatch(name):  # noqa: PLR2004 -- spec 2.1
        raise Problem("bad-name", kind=kind, name=name, rule=NAME_RULE, target="name")
    return name


def check_traffic(
    traffic: Mapping[str, Any], mirror: Mapping[str, Any], *, deployments: Collection[str], endpoint: str
) -> tuple[dict[str, int], dict[str, int]]:
    """Traffic and mirror without their zero entries.

    Raises:
        Problem: a value is no whole percentage, a name is unknown, the sum is not 0 or 100, more than one mirror
            target or more than 50 %, or a deployment with live and mirrored traffic.
    """
    live = {name: _percent(name, value, 100, "traffic-value") for name, value in traffic.items()}
    shadow = {name: _percent(name, value, MIRROR_MAX, "mirror-value") for name, value in mirror.items()}
    live = {name: value for name, value in live.items() if value}
    shadow = {name: value for name, value in shadow.items() if value}
    for name in [*traffic, *mirror]:
        if name not in deployments:
            raise Problem("traffic-unknown", deployment=name, endpoint=endpoint, target="traffic")
    total = sum(live.values())
    if total not in {0, 100}:
        raise Problem("traffic-sum", total=total, target="traffic")
    if len(shadow) > 1:
        raise Problem("mirror-many", target="mirrorTraffic")
    for name in shadow:
        if name in live:
            raise Problem("mirror-live", deployment=name, target="mirrorTraffic")
    return live, shadow


def _percent(name: str, value: Any, limit: int, code: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise Problem(code, deployment=name, value=value, target="traffic" if limit > MIRROR_MAX else "mirrorTraffic")
    return value

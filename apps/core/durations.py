"""ISO-8601 durations, as Azure's wire format writes times."""

from __future__ import annotations

import re

from apps.core.errors import Problem

PATTERN = re.compile(r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,9})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?")


def duration_ms(text: str, field: str = "duration") -> int:
    """A duration (PT5S, PT1M30S, PT0.5S) in milliseconds. Raises Problem "bad-field"."""
    match = PATTERN.fullmatch(text)
    if match is None or text in {"P", "PT"} or text.endswith("T"):
        reason = f"{text[:40]!r} is not an ISO-8601 duration such as PT5S"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)


def duration(milliseconds: int) -> str:
    """Milliseconds in the shortest form the SDK reads back."""
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}S" if rest or not minutes else ""
    return f"PT{f'{minutes}M' if minutes else ''}{seconds}"

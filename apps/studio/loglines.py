"""Log lines as pages draw them and as an open page gets them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import QueryDict

from apps.endpoints.logs import Entry, Source
from apps.monitoring.text import clean, level
from apps.studio.templatetags.studio import hue

LINE_CHARS = 600
MOST_MARKS, LONGEST_MARK = 500, 100


@dataclass(frozen=True)
class Row:
    """`parts`: the text, with whether each part is what was looked for. `rest`: what a very long line has beyond."""

    at: datetime
    source: Source
    stderr: bool
    level: str
    parts: list[tuple[str, bool]]
    rest: str = ""
    marked: bool = False

    @property
    def hue(self) -> int:
        return hue(self.source.deployment)

    @property
    def stamp(self) -> str:
        return f"{self.at:%H:%M:%S}.{self.at.microsecond // 1000:03d}"

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(),
            "day": f"{self.at:%m-%d}",
            "time": self.stamp,
            "who": self.source.name,
            "hue": self.hue,
            "stderr": self.stderr,
            "level": self.level,
            "text": self.parts[0][0] if self.parts else "",
            "rest": self.rest,
        }


def row(entry: Entry, *, wanted: str = "", marked: bool = False) -> Row:
    text = clean(entry.text)
    shown, rest = text[:LINE_CHARS], text[LINE_CHARS:]
    stderr = entry.stream == "stderr"
    return Row(entry.at, entry.source, stderr, level(text), split(shown, wanted), rest, marked)


def rows(entries: Iterable[Entry], *, wanted: str = "") -> list[Row]:
    return [row(entry, wanted=wanted) for entry in entries]


def split(text: str, wanted: str) -> list[tuple[str, bool]]:
    """The text in parts: those that are what was looked for, whatever their case, and those between."""
    if not wanted:
        return [(text, False)] if text else []
    parts, at = [], 0
    for found in re.finditer(re.escape(wanted), text, re.IGNORECASE):
        parts += [(text[at : found.start()], False), (found[0], True)]
        at = found.end()
    return [part for part in [*parts, (text[at:], False)] if part[0]]


def choose(found: list[Source], query: QueryDict) -> list[Source]:
    """The instances that an address asks for: one by its key, else all that were found."""
    key = query.get("instance", "")
    return [source for source in found if source.key == key] if key else found


def marks_of(value: Any) -> dict[str, str]:
    """Marks that came back from a page: text by text, and not too much of it. Of too many the last ones stay."""
    if not isinstance(value, dict):
        return {}
    fit = {
        key: mark for key, mark in value.items() if isinstance(mark, str) and len(key) + len(mark) < 2 * LONGEST_MARK
    }
    return dict(list(fit.items())[-MOST_MARKS:])

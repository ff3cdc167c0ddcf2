"""The beginning of a data file as people can look at it: a table, text, or a picture."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from django.utils.translation import gettext as _

from apps.registry.locations import Location
from apps.studio import parquet

READ = 2**20  # bytes of a file that are looked at
ROWS, COLUMNS, CELL = 200, 50, 300
PICTURE = 5 * 2**20
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
SEPARATED = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
BYTES_OF = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


@dataclass(frozen=True)
class Preview:
    """`kind`: "table", "text", "picture", or "" with the reason why nothing is shown.

    `types` of the columns, `count` of all rows and `width`, of all columns, where the file says them.
    """

    kind: str = ""
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    count: int | None = None
    width: int | None = None
    text: str = ""
    more: bool = False
    reason: str = ""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(name, type) of each, the type empty where it is not known."""
        return list(zip_longest(self.head, self.types, fillvalue=""))


def suffix_of(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def preview(location: Location, name: str, size: int) -> Preview:
    """Of a file that `location.files` has named. Raises Problem when it cannot be read."""
    suffix = suffix_of(name)
    if suffix in PICTURES:
        return (
            Preview("picture")
            if size <= PICTURE
            else Preview(reason=_("This picture is too large to be shown: download it."))
        )
    if suffix in parquet.SUFFIXES:
        return _parquet(location, name)
    with location.open(name) as stream:
        data = stream.read(READ + 1)
    more = len(data) > READ
    if b"\x00" in data[:READ]:
        return Preview(reason=_("This file is not text: download it."))
    text = data[:READ].decode("utf-8", "replace")
    if more:
        text = text.rpartition("\n")[0] or text
    table = _table(text, suffix)
    if table is None:
        lines = text.splitlines()
        return Preview(
            "text", text="\n".join(each[: 20 * CELL] for each in lines[: 5 * ROWS]), more=more or len(lines) > 5 * ROWS
        )
    head, rows = table
    return Preview("table", head, rows[:ROWS], more=more or len(rows) > ROWS)


def _parquet(location: Location, name: str) -> Preview:
    try:
        found = parquet.read(location, name, rows=ROWS, columns=COLUMNS, cell=CELL)
    except parquet.NotShownError as error:
        return Preview(reason=str(error))
    more = found["count"] > len(found["rows"]) or found["width"] > len(found["head"])
    return Preview("table", more=more, **found)


def _table(text: str, suffix: str) -> tuple[list[str], list[list[str]]] | None:
    """(head, at most one row more than is shown); None for what is no table."""
    if suffix in LINES:
        return _of_json(text)
    if suffix not in SEPARATED:
        return None
    found: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=SEPARATED[suffix]):
            found.append([each[:CELL] for each in row[:COLUMNS]])
            if len(found) > ROWS:
                break
    except csv.Error:
        return None
    return [], found


def _of_json(text: str) -> tuple[list[str], list[list[str]]] | None:
    found: list[dict[str, Any]] = []
    for line in text.splitlines()[: ROWS + 1]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        found.append(value)
    head = list(dict.fromkeys(key for each in found for key in each))[:COLUMNS]
    return head, [[_shown(each.get(key)) for key in head] for each in found]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:CELL]


def picture(location: Location, name: str) -> tuple[bytes, str] | None:
    """(bytes, type) of a picture that is one; None for anything else, whatever its name says."""
    with location.open(name) as stream:
        data = stream.read(PICTURE + 1)
    kind = next((kind for start, kind in BYTES_OF.items() if data.startswith(start)), None)
    return (data, kind) if kind is not None and len(data) <= PICTURE else None

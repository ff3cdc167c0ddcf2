"""JSON and sizes for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from apps.compute.quantities import Size, cores, gib


def pretty(value: Any) -> str:
    """Indented JSON; a list of plain values stays on one line, so that rows of data look like rows."""
    return sound(_pretty(value, ""))


def _pretty(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        items = [
            f"{inner}{json.dumps(str(key), ensure_ascii=False)}: {_pretty(each, inner)}" for key, each in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(each, list | Mapping) for each in value):
        return "[\n" + ",\n".join(inner + _pretty(each, inner) for each in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def sound(text: str) -> str:
    """Text that can be sent: halves of surrogate pairs, which JSON can hold and no encoding can, are replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def size_words(size: Size) -> str:
    """A size as cards and tables name it."""
    words = _("%(cpu)s CPU · %(mem)s") % {"cpu": cores(size.cpu_milli), "mem": gib(size.mem_bytes)}
    return words + (_(" · %(gpus)s GPU") % {"gpus": size.gpus} if size.gpus else "")

"""Cells of tables and facts. Whatever a user typed goes through format_html."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.template.defaultfilters import filesizeformat
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime, now

from apps.core.words import NONE, ago, kind_name, named, state, state_of
from apps.core.words import took as duration

__all__ = ["NONE", "ago", "kind_name", "named", "state", "state_of"]


def mono(text: Any) -> SafeString | str:
    return format_html('<span class="mono">{}</span>', text) if text not in {None, ""} else NONE


def moment(value: datetime | None) -> str:
    return date_format(localtime(value), "Y-m-d H:i:s") + " UTC" if value else NONE


def size(value: int | None) -> str:
    return NONE if value is None else filesizeformat(value).replace("\xa0", " ")


def took(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return NONE
    return duration((end - start).total_seconds())


def lasts(start: datetime | None, end: datetime | None) -> str:
    """How long something took, or takes by now."""
    return took(start, end or now())


def address(row: Model, page: str = "change") -> str:
    """Where the console shows a row, or one of the verbs on it."""
    meta = row._meta  # noqa: SLF001 -- Django's documented public API
    return reverse(f"console:{meta.app_label}_{meta.model_name}_{page}", args=[quote(row.pk)])


def listing(model: type[Model], page: str = "changelist", query: str = "") -> str:
    meta = model._meta  # noqa: SLF001 -- Django's documented public API
    return reverse(f"console:{meta.app_label}_{meta.model_name}_{page}") + (f"?{query}" if query else "")


def link(row: Model | None, text: Any = None, *, code: bool = False) -> SafeString | str:
    if row is None:
        return NONE
    return format_html('<a href="{}"{}>{}</a>', address(row), CODE if code else "", row if text is None else text)


def studio(page: str, *names: Any) -> str:
    """Where the studio shows something; empty for a name that no address can hold."""
    with contextlib.suppress(NoReverseMatch):
        return reverse(f"studio:{page}", args=names)
    return ""


CODE = SafeString(' class="mono"')

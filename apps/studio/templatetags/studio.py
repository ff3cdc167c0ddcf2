"""Small pieces of HTML that many templates need. Everything a user typed goes through format_html."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from django import template
from django.conf import settings
from django.forms import CheckboxInput
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from apps.compute.quantities import price
from apps.core import words
from apps.studio.pretty import pretty

register = template.Library()
HUES = range(2, 8)  # 0 and 1 are kept for blue and green, the names everybody begins with
NAMED_HUES = {"blue": 0, "green": 1, "yellow": 2, "orange": 2, "red": 3, "pink": 3, "purple": 5, "teal": 6}


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    spoken = format_html('role="img" aria-label="{}"', label) if label else SafeString('aria-hidden="true"')
    return format_html(
        '<svg class="icon" {}><use href="{}#{}"/></svg>',
        spoken,
        static("vendor/lucide/sprite.svg"),
        name,
    )


for each in (words.state, words.state_of, words.named, words.word, words.ago):
    register.simple_tag(each)
register.filter("kind_name", words.kind_name)
register.filter("step_name", words.step_name)
register.filter("seconds", words.took)


def hue(name: str) -> int:
    return NAMED_HUES.get(name, HUES[zlib.crc32(name.encode()) % len(HUES)])


register.filter("hue", hue)


@register.simple_tag
def traffic_bar(traffic: Mapping[str, int]) -> SafeString:
    """The split as SVG: a width in a style attribute would be blocked by the content security policy."""
    parts, x = [], 0
    for name, percent in sorted(traffic.items()):
        if percent:
            parts.append((hue(name), x, percent))
            x += percent
    label = ", ".join(f"{name} {percent} %" for name, percent in sorted(traffic.items()) if percent) or _("no traffic")
    rects = format_html_join("", '<rect class="hue" data-hue="{}" x="{}%" width="{}%" height="100%"/>', parts)
    return format_html('<svg class="split" role="img" aria-label="{}" width="100%" height="8">{}</svg>', label, rects)


@register.simple_tag
def split_words(traffic: Mapping[str, int] | None, mirror: Mapping[str, int] | None) -> str:
    """blue 90 %, green 10 %, mirror red 5 %"""
    words = [f"{name} {percent} %" for name, percent in sorted((traffic or {}).items())]
    words += [
        _("mirror %(name)s %(percent)s %%") % {"name": name, "percent": share} for name, share in (mirror or {}).items()
    ]
    return ", ".join(words) or _("no traffic")


@register.simple_tag(takes_context=True)
def live(context: Any, id: str, *topics: str) -> SafeString:  # noqa: A002 -- HTML's word
    """Attributes of an element that fetches itself again when one of its topics changes; a text may name several."""
    named = [each for topic in topics for each in topic.split()]
    triggers = [f"changed:{topic_name(topic)} from:body" for topic in named] + ["tick from:body"]
    return format_html(
        'id="{0}" hx-get="{1}" hx-select="#{0}" hx-target="this" hx-swap="morph:outerHTML" hx-trigger="{2}" '
        'hx-disinherit="*"',
        id,
        context["request"].get_full_path(),
        ", ".join(triggers),
    )


def topic_name(topic: str) -> str:
    """A topic as part of an event's name; live.js does the same."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", topic)


register.filter("pretty", pretty)


@register.filter
def milliseconds(value: float | None) -> str:
    return "–" if value is None else words.took(value / 1000)  # noqa: RUF001 -- the sign for "nothing" on every page


@register.filter
def lines(values: Iterable[str]) -> str:
    return "\n".join(values)


@register.filter
def cpu(milli: int) -> str:
    return f"{milli / 1000:g}"


@register.simple_tag
def money(value: Decimal | None) -> SafeString | str:
    """An amount in the installation's currency; a dash for none."""
    return format_html("{} {}", price(value), settings.CURRENCY) if value else "–"  # noqa: RUF001 -- as in every table


@register.inclusion_tag("studio/parts/field.html")
def field(bound: Any, picker: str = "", language: str = "") -> dict[str, Any]:
    """A control with its label, help and errors; `picker`: where suggestions come from, `language`: of an editor."""
    return {
        "field": bound,
        "picker": picker,
        "language": language,
        "check": isinstance(bound.field.widget, CheckboxInput),
    }


@register.inclusion_tag("studio/parts/problem.html")
def problem_box(problem: dict[str, Any] | None) -> dict[str, Any]:
    return {"problem": problem}


@register.filter
def tensor(spec: Mapping[str, Any]) -> str:
    inner = spec.get("tensor-spec") or {}
    return f"{inner.get('dtype', 'tensor')} {inner.get('shape', '')}"

"""What the console's templates need of Django's change list."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.templatetags import admin_list
from django.contrib.admin.views.main import PAGE_VAR
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _

from apps.core.models import Operation
from apps.core.words import kind_name, took

register = template.Library()
FACETS = {
    "is_archived": _("Archived"),
    "is_anonymous": _("Anonymous"),
    "is_default": _("Default"),
    "is_superuser": _("Administrator"),
    "is_active": _("Active"),
    "auth_mode": _("Authentication"),
    "public_network_access": _("Reachable from outside"),
}


@register.filter
def headers(cl: Any) -> list[dict[str, Any]]:
    return list(admin_list.result_headers(cl))


@register.filter
def rows(cl: Any) -> list[Any]:
    return list(admin_list.results(cl))


@register.filter
def choices(spec: Any, cl: Any) -> list[dict[str, Any]]:
    found = list(spec.choices(cl))
    if cl.model is Operation and getattr(spec, "field_path", "") == "kind":
        found[1:] = [{**each, "display": kind_name(str(each["display"]))} for each in found[1:]]
    return found


@register.filter
def facet(spec: Any) -> Any:
    """What a filter is called: a column's own name is no word for people when it begins with "is"."""
    return FACETS.get(getattr(spec, "field_path", ""), spec.title)


@register.filter
def chosen(spec: Any, cl: Any) -> str:
    """The choice in force, unless it is the first: that one means "all"."""
    for number, choice in enumerate(choices(spec, cl)):
        if choice["selected"] and number:
            return str(choice["display"])
    return ""


@register.filter
def kept(cl: Any) -> list[tuple[str, str]]:
    """The filters that the search form must carry along: those it has no field for."""
    typed = {spec.parameter_name for spec in cl.filter_specs if getattr(spec, "kind", "")}
    return [
        (name, value)
        for name, values in cl.filter_params.items()
        if name not in typed
        for value in (values if isinstance(values, list) else [values])
    ]


@register.simple_tag
def page_url(cl: Any, number: int) -> str:
    return str(cl.get_query_string({PAGE_VAR: number}))


@register.filter
def in_words(value: int, name: str) -> str:
    """A limit's number with its unit, when its name says that it has one."""
    if name.endswith("_bytes"):
        return filesizeformat(value)
    return took(value / 1000) if name.endswith("_ms") else ""

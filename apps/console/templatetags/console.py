"""What the console's templates need of Django's change list."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.templatetags import admin_list
from django.contrib.admin.views.main import PAGE_VAR

register = template.Library()


@register.filter
def headers(cl: Any) -> list[dict[str, Any]]:
    return list(admin_list.result_headers(cl))


@register.filter
def rows(cl: Any) -> list[Any]:
    return list(admin_list.results(cl))


@register.filter
def choices(spec: Any, cl: Any) -> list[dict[str, Any]]:
    return list(spec.choices(cl))


@register.filter
def chosen(spec: Any, cl: Any) -> str:
    """The choice in force, unless it is the first: that one means "all"."""
    for number, choice in enumerate(spec.choices(cl)):
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

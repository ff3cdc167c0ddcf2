"""What every list has: a filter and a sort order in the URL, and pages of a bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

PER_PAGE = 50


@dataclass(frozen=True)
class Column:
    """A column's title; `order` is the field it sorts by, "" when it does not; `kind` its class."""

    title: Any
    order: str = ""
    kind: str = ""
    href: str = ""
    sorted: str = ""


@dataclass
class Listing:
    """One page of rows, with what the template needs around it. `total` counts every row that matches."""

    query: str
    state: str
    states: Sequence[tuple[str, Any]]
    columns: list[Column]
    rows: list[Any]
    total: int
    pages: int
    first: int
    last: int
    previous: str = ""
    next: str = ""
    kept: list[tuple[str, str]] = field(default_factory=list)
    narrowed: bool = False

    @property
    def asked(self) -> str:
        return self.query or self.state

    @property
    def filtered(self) -> bool:
        return bool(self.asked) or self.narrowed


def listing(
    request: HttpRequest,
    rows: QuerySet[Any],
    columns: Sequence[Column],
    *,
    default: str,
    states: Sequence[tuple[str, Any]] = (),
    narrowed: bool = False,
) -> Listing:
    """The page of `rows` that the URL asks for, sorted by one of the columns' fields, or by `default`.

    `narrowed`: the page has filters of its own besides the query and the state, and one is set.

    A page or order that does not exist is the first or the default, as links to lists outlive what is in them.
    """
    asked = request.GET.get("sort", "")
    orders = {sign + each.order for each in columns if each.order for sign in ("", "-")}
    order = asked if asked in orders else default
    page = Paginator(rows.order_by(order, "pk"), PER_PAGE).get_page(request.GET.get("page"))
    state = request.GET.get("state", "")
    return Listing(
        query=query_of(request),
        state=state if state in {str(value) for value, _name in states} else "",
        states=states,
        columns=[_headed(request, each, order) for each in columns],
        rows=list(page.object_list),
        total=page.paginator.count,
        pages=page.paginator.num_pages,
        first=page.start_index(),
        last=page.end_index(),
        previous=_with(request, page=str(page.previous_page_number())) if page.has_previous() else "",
        next=_with(request, page=str(page.next_page_number())) if page.has_next() else "",
        kept=[("sort", asked)] if asked in orders else [],
        narrowed=narrowed,
    )


def query_of(request: HttpRequest) -> str:
    return request.GET.get("q", "").strip()[:200]


def _headed(request: HttpRequest, column: Column, order: str) -> Column:
    if not column.order:
        return column
    up, down = column.order, f"-{column.order}"
    sorted_as = {up: "ascending", down: "descending"}.get(order, "")
    return Column(column.title, up, column.kind, _with(request, sort=down if order == up else up), sorted_as)


def _with(request: HttpRequest, **changes: str) -> str:
    values: QueryDict = request.GET.copy()
    values.pop("page", None)
    for name, value in changes.items():
        values[name] = value
    return f"?{values.urlencode()}"

"""What every list and every object page of the console shares. Rows are looked at here and changed by verbs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib.admin import ShowFacets, SimpleListFilter, display
from django.contrib.admin.utils import unquote
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise, cached_property
from django.utils.html import format_html, format_html_join
from django.utils.timezone import is_naive, make_aware
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe
from unfold.admin import ModelAdmin

from apps.console import html
from apps.console.verbs import Verb, page_of
from apps.core.models import AuditRecord

Text = str | Promise
RECENT = 10
COUNTED = 10_000


@dataclass(frozen=True)
class Table:
    """Rows that belong to an object. `more`: where all of them are."""

    title: Text
    columns: Sequence[Text]
    rows: Iterable[Sequence[Any]]
    empty: Text = ""
    more: str = ""


@dataclass(frozen=True)
class Button:
    label: Text
    url: str
    icon: str
    danger: bool = False
    refused: str = ""


@dataclass(frozen=True)
class Detail:
    """The page of one object."""

    title: str
    facts: Sequence[tuple[Text, Any]]
    state: Any = ""
    problem: dict[str, Any] | None = None
    note: Text = ""
    tables: Sequence[Table] = ()
    log: str = ""
    studio: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class Bounded(Paginator):  # type: ignore[type-arg]
    """Counts only so far: what lies behind is found with a filter, and a million rows need no count."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: COUNTED + 1].count())

    @property
    def more(self) -> str:
        """More than how many rows there are, when nobody counted further; else empty."""
        return f"{COUNTED:,}" if self.count > COUNTED else ""


class ConsoleAdmin(ModelAdmin):  # type: ignore[misc]
    """A list with search, filters and links, and a page per object. Nothing is added, changed or deleted as a row."""

    actions = None
    list_per_page = 50
    list_max_show_all = 50
    paginator = Bounded
    show_facets = ShowFacets.NEVER
    show_full_result_count = False
    preserve_filters = False
    change_list_template = "console/list.html"
    empty_value_display = html.NONE
    verbs: ClassVar[Sequence[type[Verb]]] = ()
    list_verbs: ClassVar[Sequence[type[Verb]]] = ()
    row_verbs: ClassVar[Sequence[type[Verb]]] = ()
    heading: ClassVar[Text] = ""
    hint: ClassVar[Text] = ""
    nothing: ClassVar[Text] = ""
    detail_template = "console/detail.html"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 -- Django's signature
        return bool(self.admin_site.has_permission(request))

    has_module_permission = has_view_permission

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:  # noqa: ARG002
        """Only what the filters of the list ask for: another lookup could read a hidden column bit by bit."""
        return lookup in {name for each in self.list_filter for name in _parameters(each)}

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 -- Django's signature
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 -- as above
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 -- as above
        return False

    def get_urls(self) -> list[URLPattern]:
        """The list, the object and the verbs. Django's add, change and delete forms have no address."""
        stem = f"{self.opts.app_label}_{self.opts.model_name}"
        wrap = self.admin_site.admin_view
        context = self.admin_site.each_context
        found = [path("", wrap(require_safe(self.changelist_view)), name=f"{stem}_changelist"), *self.more_urls(stem)]
        for verb in self.list_verbs:
            view = page_of(verb, context, lambda _request, _id: None)
            found.append(path(f"{verb.name}/", wrap(view), name=f"{stem}_{verb.name}"))
        for verb in self.verbs:
            view = page_of(verb, context, self.find)
            found.append(path(f"<str:object_id>/{verb.name}/", wrap(view), name=f"{stem}_{verb.name}"))
        found.append(path("<str:object_id>/", wrap(require_safe(self.detail_view)), name=f"{stem}_change"))
        return found

    def more_urls(self, stem: str) -> list[URLPattern]:  # noqa: ARG002 -- for those that have any
        return []

    def find(self, request: HttpRequest, object_id: str) -> Any:
        found = self.get_object(request, unquote(object_id))
        if found is None:
            raise Http404
        return found

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        buttons = [Button(each.label, html.listing(self.model, each.name), each.icon) for each in self.list_verbs]
        more = {"title": self.heading, "hint": self.hint, "nothing": self.nothing, "buttons": buttons}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def detail_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.find(request, object_id)
        shown = self.detail(row)
        context = {
            **self.admin_site.each_context(request),
            "title": shown.title,
            "row": row,
            "shown": shown,
            "heading": self.heading,
            "list_url": html.listing(self.model),
            "buttons": list(self.buttons(request, row)),
            **shown.extra,
        }
        return render(request, self.detail_template, context)

    def buttons(self, request: HttpRequest, row: Any) -> Iterable[Button]:
        for each in self.verbs:
            verb = each(request, row)
            if verb.fits():
                yield Button(each.label, html.address(row, each.name), each.icon, each.danger, verb.refused())

    @display(description=gettext_lazy("Actions"))
    def tools(self, row: Any) -> Any:
        """Links to the verbs of a row; whether one is refused just now is asked on its own page."""
        links = [
            (html.address(row, each.name), f"{each.label} {row}", each.label)
            for each in self.row_verbs
            if each(None, row).listed()
        ]
        shown = '<a class="btn" data-variant="outline" data-size="xs" href="{}" aria-label="{}">{}</a>'
        return format_html('<span class="row-tools">{}</span>', format_html_join("", shown, links))

    def detail(self, row: Any) -> Detail:
        raise NotImplementedError


class Typed(SimpleListFilter):
    """A filter that is typed into the search form. `lookup` is applied to the text as it is."""

    kind = "text"
    lookup: str

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("", "")]  # Django hides a filter without choices

    @property
    def typed(self) -> str:
        return self.value() or ""

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = self.typed.strip()
        return queryset.filter(**{self.lookup: text}) if text else queryset


class Moment(Typed):
    """A filter by a moment, in UTC."""

    kind = "datetime-local"

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.typed:
            return queryset
        try:
            moment = parse_datetime(self.typed)
        except ValueError:
            moment = None
        if moment is None:
            return queryset.none()
        return queryset.filter(**{self.lookup: make_aware(moment) if is_naive(moment) else moment})


def _parameters(one: Any) -> tuple[str, ...]:
    """The parameters of addresses that a filter reads: of one of ours its own, of a field those of Django's filters."""
    if isinstance(one, type):
        return (one.parameter_name,)  # type: ignore[attr-defined]
    return (one, *(f"{one}__{lookup}" for lookup in ("exact", "id__exact", "isnull")))


def audit_table(rows: QuerySet[AuditRecord], **query: str) -> Table:
    """The newest records about an object, or by a person."""
    newest = rows.select_related("actor")[:RECENT]
    return Table(
        _("Audit"),
        (_("When"), _("Who"), _("Action"), _("Object")),
        [
            (html.ago(each.at), html.link(each.actor), html.link(each, each.action, code=True), html.mono(each.target))
            for each in newest
        ],
        empty=_("Nothing was recorded."),
        more=html.listing(AuditRecord, query=urlencode(query)),
    )


def about(target: str, *, workspace: str = "") -> Table:
    """`workspace`: for names that are unique only in one."""
    named = {"target": target, "workspace": workspace} if workspace else {"target": target}
    return audit_table(AuditRecord.objects.filter(**named), **named)


def counted(rows: QuerySet[Any], key: str) -> Any:
    """How many of these rows each row of a list has, for `annotate`; `key`: their field with its primary key."""
    found = rows.order_by().filter(**{key: OuterRef("pk")}).values(key).annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(found), 0)

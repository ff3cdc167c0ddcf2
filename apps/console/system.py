"""Operations and the audit trail."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin import display
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts.models import Workspace
from apps.console import export, html
from apps.console.base import ConsoleAdmin, Detail, Moment, Typed, about
from apps.console.serving_verbs import CancelOperation
from apps.console.site import site
from apps.console.steps import steps_of
from apps.core.models import AuditRecord, Operation
from apps.core.words import kinds_called

EMPTY: tuple[Any, ...] = (None, "", {}, [])


class Operations(ConsoleAdmin):
    heading = gettext_lazy("Operations")
    hint = gettext_lazy("Every long-running change: who began it, when, and how long it took.")
    nothing = gettext_lazy("Nothing has been changed yet.")
    list_display = ("kind_word", "target", "workspace_word", "state_word", "who", "when", "took", "tools")
    list_filter = ("state", "kind")
    search_fields = ("kind", "target", "workspace", "actor__username")
    list_select_related = ("actor",)
    ordering = ("-created_at",)
    verbs = (CancelOperation,)
    row_verbs = verbs
    detail_template = "console/operation.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("actor")

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        """By the words that are shown as well."""
        found, duplicates = super().get_search_results(request, queryset, search_term)
        called = kinds_called(search_term) if search_term else []
        return (found | queryset.filter(kind__in=called)) if called else found, duplicates

    @display(description=gettext_lazy("Kind"), ordering="kind")
    def kind_word(self, row: Operation) -> Any:
        return html.kind_name(row.kind)

    @display(description=gettext_lazy("Workspace"), ordering="workspace")
    def workspace_word(self, row: Operation) -> Any:
        return row.workspace or _("Installation")

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: Operation) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Who"), ordering="actor__username")
    def who(self, row: Operation) -> Any:
        return html.link(row.actor)

    @display(description=gettext_lazy("When"), ordering="created_at")
    def when(self, row: Operation) -> Any:
        return html.ago(row.created_at)

    @display(description=gettext_lazy("Took"))
    def took(self, row: Operation) -> Any:
        return html.took(row.started_at, row.finished_at)

    def detail(self, row: Any) -> Detail:
        workspace = Workspace.objects.filter(name=row.workspace).first()
        studio = html.studio("operation", workspace.name, row.pk) if workspace else ""
        return Detail(
            title=html.kind_name(row.kind),
            state=self.state_word(row),
            problem=row.error,
            studio=studio,
            facts=(
                (_("Kind"), html.mono(row.kind)),
                (_("Object"), html.mono(row.target)),
                (_("Workspace"), html.link(workspace) if workspace else _("Installation")),
                (_("Begun by"), html.link(row.actor)),
                (_("Begun"), html.ago(row.created_at)),
                (_("Waited"), html.took(row.created_at, row.started_at)),
                (_("Took"), html.took(row.started_at, row.finished_at)),
                (_("Attempts"), row.attempt),
                (_("Id"), html.mono(row.pk)),
            ),
            tables=(about(row.target),),
            extra={"steps": steps_of(row)},
        )


class ByActor(Typed):
    title, parameter_name, lookup = gettext_lazy("Who"), "actor", "actor__username__iexact"


class ByAction(Typed):
    title, parameter_name, lookup = gettext_lazy("Action"), "action", "action__istartswith"


class ByTarget(Typed):
    title, parameter_name, lookup = gettext_lazy("Object"), "target", "target__istartswith"


class ByWorkspace(Typed):
    title, parameter_name, lookup = gettext_lazy("Workspace"), "workspace", "workspace"


class ByRequest(Typed):
    title, parameter_name, lookup = gettext_lazy("Request id"), "request", "request"


class Since(Moment):
    title, parameter_name, lookup = gettext_lazy("From (UTC)"), "since", "at__gte"


class Until(Moment):
    title, parameter_name, lookup = gettext_lazy("Until (UTC)"), "until", "at__lt"


class Audit(ConsoleAdmin):
    heading = gettext_lazy("Audit")
    hint = gettext_lazy("Who did what to which object. Records are only ever added.")
    nothing = gettext_lazy("Nothing has been recorded yet.")
    list_display = ("when", "who", "action_word", "target_word", "workspace_word", "facts")
    list_display_links = ("when",)
    list_filter = (ByActor, ByAction, ByTarget, ByWorkspace, ByRequest, Since, Until)
    search_fields = ("actor__username", "action", "target", "workspace", "request")
    list_select_related = ("actor",)
    ordering = ("-at", "-pk")
    change_list_template = "console/audit.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("actor")

    def more_urls(self, stem: str) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [path("export/", wrap(self.export_view), name=f"{stem}_export")]

    def export_view(self, request: HttpRequest) -> Any:
        return export.export(request, lambda: self.get_changelist_instance(request).get_queryset(request))

    @display(description=gettext_lazy("When"), ordering="at")
    def when(self, row: AuditRecord) -> Any:
        return html.ago(row.at)

    @display(description=gettext_lazy("Who"), ordering="actor__username")
    def who(self, row: AuditRecord) -> Any:
        return html.link(row.actor) if row.actor else _("Portway")

    @display(description=gettext_lazy("Action"), ordering="action")
    def action_word(self, row: AuditRecord) -> Any:
        return html.mono(row.action)

    @display(description=gettext_lazy("Object"), ordering="target")
    def target_word(self, row: AuditRecord) -> Any:
        return html.mono(row.target)

    @display(description=gettext_lazy("Workspace"), ordering="workspace")
    def workspace_word(self, row: AuditRecord) -> Any:
        return row.workspace or html.NONE

    @display(description=gettext_lazy("Detail"))
    def facts(self, row: AuditRecord) -> Any:
        told = sorted(row.detail.items(), key=lambda each: each[0] != "reason")
        named = [(name, value) for name, value in told if name not in {"operation", "replica"} and value not in EMPTY]
        text = ", ".join(f"{name}: {_plain(value)}" for name, value in named)
        return text[:80] + ("…" if len(text) > 80 else "") or html.NONE  # noqa: PLR2004

    def detail(self, row: Any) -> Detail:
        operation = Operation.objects.filter(pk=row.detail.get("operation")).first() if row.detail else None
        return Detail(
            title=row.action,
            facts=(
                (_("When"), html.moment(row.at)),
                (_("Who"), self.who(row)),
                (_("Object"), html.mono(row.target)),
                (_("Workspace"), self.workspace_word(row)),
                (_("Request id"), html.mono(row.request)),
                (_("Operation"), html.link(operation)),
            ),
            log=json.dumps(row.detail, indent=2, ensure_ascii=False) if row.detail else "",
            tables=(about(row.target),),
            extra={"log_title": _("Detail")},
        )


def _plain(value: Any) -> Any:
    """A split of traffic as people write it: blue 90, green 10."""
    return " ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else value


site.register(Operation, Operations)
site.register(AuditRecord, Audit)

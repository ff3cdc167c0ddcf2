"""Jobs of all workspaces: their state and counts. What they read and wrote is shown in the studio only."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.batch.enums import JobType, MiniBatchState
from apps.batch.models import Host, Job, Node
from apps.console import html
from apps.console.base import RECENT, ConsoleAdmin, Detail, Table, about
from apps.console.batch_verbs import CancelJob, DeleteJob
from apps.console.serving import operations_table
from apps.console.site import site


def progress(row: Job) -> Any:
    """Mini-batches that ended, of how many; steps of a pipeline."""
    if not row.total:
        return html.NONE
    text = f"{row.done + row.failed} / {row.total}"
    if row.type == JobType.PIPELINE:
        text = _("%(count)s steps") % {"count": text}
    if not row.failed:
        return text
    return html.state("failed", _("%(text)s, %(count)s failed") % {"text": text, "count": row.failed})


def host_link(node: Node) -> Any:
    return html.link(Host(name=node.host)) if node.host else html.NONE


def jobs_table(rows: QuerySet[Job], title: str = "") -> Table:
    """The newest of these."""
    found = rows.select_related("created_by").order_by("-created_at")[:RECENT]
    return Table(
        title or _("Jobs"),
        (_("Job"), _("State"), _("Progress"), _("Who"), _("Created"), _("Took")),
        [
            (
                html.link(each, each.step or each.display_name or each.name),
                html.state_of(each),
                progress(each),
                html.link(each.created_by),
                html.ago(each.created_at),
                html.lasts(each.started_at, each.ended_at),
            )
            for each in found
        ],
        empty=_("No jobs."),
    )


class Jobs(ConsoleAdmin):
    heading = gettext_lazy("Jobs")
    hint = gettext_lazy("Of all workspaces, the newest first; steps of pipelines are jobs of their own.")
    nothing = gettext_lazy("No job has been sent yet.")
    list_display = (
        "called",
        "workspace_link",
        "endpoint_word",
        "cluster_link",
        "state_word",
        "progress",
        "who",
        "created",
        "took",
        "tools",
    )
    list_filter = ("state", "type", "workspace")
    search_fields = (
        "name",
        "display_name",
        "endpoint_name",
        "deployment_name",
        "cluster__name",
        "workspace__name",
        "created_by__username",
    )
    ordering = ("-created_at",)
    verbs = (CancelJob, DeleteJob)
    row_verbs = (CancelJob,)

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("workspace", "endpoint", "cluster", "created_by", "parent")
        return super().get_queryset(request).select_related(*related)

    @display(description=gettext_lazy("Job"), ordering="name")
    def called(self, row: Job) -> Any:
        return row.display_name or row.name

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: Job) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("Endpoint"), ordering="endpoint_name")
    def endpoint_word(self, row: Job) -> Any:
        return html.link(row.endpoint) if row.endpoint else row.endpoint_name or html.NONE

    @display(description=gettext_lazy("Cluster"), ordering="cluster__name")
    def cluster_link(self, row: Job) -> Any:
        return html.link(row.cluster)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: Job) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Progress"))
    def progress(self, row: Job) -> Any:
        return progress(row)

    @display(description=gettext_lazy("Who"), ordering="created_by__username")
    def who(self, row: Job) -> Any:
        return html.link(row.created_by)

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: Job) -> Any:
        return html.ago(row.created_at)

    @display(description=gettext_lazy("Took"))
    def took(self, row: Job) -> Any:
        return html.lasts(row.started_at, row.ended_at)

    def detail(self, row: Any) -> Detail:
        steps = [jobs_table(row.children.all(), _("Steps"))] if row.type == JobType.PIPELINE else [mini_batches(row)]
        mine = Q(target=row.topic, workspace=row.workspace.name)
        return Detail(
            title=row.display_name or row.name,
            state=self.state_word(row),
            problem=row.error,
            studio=html.studio("job", row.workspace.name, row.name),
            facts=(
                (_("Name"), html.mono(row.name)),
                (_("Workspace"), html.link(row.workspace)),
                (_("Type"), row.get_type_display()),
                *([(_("Step of"), html.link(row.parent))] if row.parent else []),
                (_("Endpoint"), self.endpoint_word(row)),
                (_("Deployment"), html.mono(row.deployment_name)),
                (_("Cluster"), html.link(row.cluster)),
                (_("Progress"), progress(row)),
                (_("Files"), row.files),
                (_("Failed files"), row.failed_files),
                (_("Rows"), row.rows),
                (_("Who"), html.link(row.created_by)),
                (_("Created"), html.ago(row.created_at)),
                (_("Waited"), html.lasts(row.created_at, row.started_at or row.ended_at)),
                (_("Took"), self.took(row)),
            ),
            tables=(
                *steps,
                Table(
                    _("Nodes"),
                    (_("Node"), _("State"), _("Host")),
                    [(html.link(each), html.state_of(each), host_link(each)) for each in row.nodes.all()],
                    empty=_("No node works on it."),
                ),
                operations_table(mine),
                about(row.topic, workspace=row.workspace.name),
            ),
        )


def mini_batches(row: Job) -> Table:
    counts = dict(row.mini_batches.order_by().values_list("state").annotate(Count("pk")))
    rows = [(html.state(each.tone, each.label), counts[each.value]) for each in MiniBatchState if each.value in counts]
    return Table(_("Mini-batches"), (_("State"), _("Count")), rows, empty=_("No mini-batches."))


site.register(Job, Jobs)

"""Batch endpoints, their deployments and schedules of all workspaces."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.batch.domain.schedules import upcoming
from apps.batch.enums import JobState
from apps.batch.models import BatchDeployment, BatchEndpoint, Job, Schedule
from apps.console import batch_verbs, html
from apps.console.base import ConsoleAdmin, Detail, Table, about, counted
from apps.console.jobs import jobs_table
from apps.console.serving import operations_table
from apps.console.site import site
from apps.core.errors import Problem

NEXT = 3


def deployments_table(rows: Any) -> Table:
    return Table(
        _("Deployments"),
        (_("Deployment"), _("State"), _("Type"), _("Cluster"), _("Nodes per job")),
        [
            (
                html.link(each),
                html.state_of(each),
                each.get_type_display(),
                html.link(each.cluster),
                each.instance_count,
            )
            for each in rows.select_related("endpoint", "cluster")
        ],
        empty=_("No deployments."),
    )


class BatchEndpoints(ConsoleAdmin):
    heading = gettext_lazy("Batch endpoints")
    hint = gettext_lazy("Of all workspaces. They are made and changed in the studio, by the members.")
    nothing = gettext_lazy("No batch endpoint has been made yet.")
    list_display = ("name", "workspace_link", "state_word", "default", "deployment_count", "live_jobs", "created")
    list_filter = ("state", "workspace")
    search_fields = ("name", "workspace__name", "created_by__username")
    ordering = ("name",)
    verbs = (batch_verbs.DeleteBatchEndpoint,)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("workspace", "created_by", "default_deployment__endpoint")
        live = Job.objects.filter(state__in=JobState.live())
        deployed = counted(BatchDeployment.objects.all(), "endpoint")
        return rows.annotate(deployed=deployed, live=counted(live, "endpoint"))

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: BatchEndpoint) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: BatchEndpoint) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Default deployment"))
    def default(self, row: BatchEndpoint) -> Any:
        chosen = row.default_deployment
        return html.link(chosen, chosen.name) if chosen else html.NONE

    @display(description=gettext_lazy("Deployments"), ordering="deployed")
    def deployment_count(self, row: Any) -> Any:
        return row.deployed

    @display(description=gettext_lazy("Jobs under way"), ordering="live")
    def live_jobs(self, row: Any) -> Any:
        return row.live

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: BatchEndpoint) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        mine = Q(target=row.topic) | Q(target__startswith=f"batch-deployment/{row.name}/")
        return Detail(
            title=row.name,
            state=self.state_word(row),
            problem=row.error,
            studio=html.studio("batch-endpoint", row.workspace.name, row.name),
            facts=(
                (_("Workspace"), html.link(row.workspace)),
                (_("Address"), html.mono(row.scoring_uri)),
                (_("Default deployment"), self.default(row)),
                (_("Jobs under way"), row.live),
                (_("Created"), html.ago(row.created_at)),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(
                deployments_table(row.deployments.all()),
                jobs_table(row.jobs.all()),
                Table(
                    _("Schedules"),
                    (_("Schedule"), _("State"), _("When"), _("Next run")),
                    [
                        (html.link(each), enabled_word(each), html.mono(each.cron), html.ago(each.next_at))
                        for each in row.schedules.all()
                    ],
                    empty=_("No schedules."),
                ),
                operations_table(mine),
                about(row.topic),
            ),
        )


class BatchDeployments(ConsoleAdmin):
    heading = gettext_lazy("Batch deployments")
    hint = gettext_lazy("Of all workspaces: what the jobs of a batch endpoint run, and on which cluster.")
    nothing = gettext_lazy("Nothing has been deployed for batch work yet.")
    list_display = (
        "full_name",
        "workspace_link",
        "state_word",
        "type_word",
        "what",
        "cluster_link",
        "live_jobs",
        "changed",
    )
    list_filter = ("state", "type", "endpoint__workspace")
    search_fields = ("name", "endpoint__name", "endpoint__workspace__name", "model__asset__name", "cluster__name")
    ordering = ("endpoint__name", "name")
    verbs = (batch_verbs.DeleteBatchDeployment,)

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("endpoint__workspace", "model__asset", "component__asset", "environment__asset", "cluster")
        rows = super().get_queryset(request).select_related(*related, "created_by")
        return rows.annotate(live=counted(Job.objects.filter(state__in=JobState.live()), "deployment"))

    @display(description=gettext_lazy("Deployment"), ordering="endpoint__name")
    def full_name(self, row: BatchDeployment) -> Any:
        return str(row)

    @display(description=gettext_lazy("Workspace"), ordering="endpoint__workspace__name")
    def workspace_link(self, row: BatchDeployment) -> Any:
        return html.link(row.endpoint.workspace)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: BatchDeployment) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Type"), ordering="type")
    def type_word(self, row: BatchDeployment) -> Any:
        return row.get_type_display()

    @display(description=gettext_lazy("Model or component"))
    def what(self, row: BatchDeployment) -> Any:
        return html.link(row.model or row.component)

    @display(description=gettext_lazy("Cluster"), ordering="cluster__name")
    def cluster_link(self, row: BatchDeployment) -> Any:
        return html.link(row.cluster)

    @display(description=gettext_lazy("Jobs under way"), ordering="live")
    def live_jobs(self, row: Any) -> Any:
        return row.live

    @display(description=gettext_lazy("Changed"), ordering="modified_at")
    def changed(self, row: BatchDeployment) -> Any:
        return html.ago(row.modified_at)

    def detail(self, row: Any) -> Detail:
        return Detail(
            title=str(row),
            state=self.state_word(row),
            problem=row.error,
            studio=html.studio("batch-endpoint", row.endpoint.workspace.name, row.endpoint.name),
            facts=(
                (_("Endpoint"), html.link(row.endpoint)),
                (_("Workspace"), html.link(row.endpoint.workspace)),
                (_("Type"), row.get_type_display()),
                (_("Model or component"), self.what(row)),
                (_("Environment"), html.mono(row.environment)),
                (_("Cluster"), html.link(row.cluster)),
                (_("Nodes per job"), row.instance_count),
                (_("Processes per node"), row.max_concurrency_per_instance),
                (_("Mini-batch size"), row.mini_batch_size),
                (_("Changed"), html.ago(row.modified_at)),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(jobs_table(row.jobs.all()), operations_table(Q(target=row.topic)), about(row.topic)),
        )


def enabled_word(row: Schedule) -> Any:
    return html.named(row.state_name)


def _deployment_of(row: Schedule) -> Any:
    if row.endpoint is None:
        return html.NONE
    return html.mono(row.deployment_name) if row.deployment_name else _("The default one")


class Schedules(ConsoleAdmin):
    heading = gettext_lazy("Schedules")
    hint = gettext_lazy("When endpoints are invoked and pipeline jobs sent, in the name of who last changed it.")
    nothing = gettext_lazy("No schedule has been made yet.")
    list_display = ("name", "workspace_link", "endpoint_link", "state_word", "when", "next", "last", "owner", "tools")
    list_filter = ("enabled", "workspace")
    search_fields = ("name", "workspace__name", "endpoint__name", "modified_by__username")
    ordering = ("workspace__name", "name")
    verbs = (batch_verbs.EnableSchedule, batch_verbs.DisableSchedule, batch_verbs.DeleteSchedule)
    row_verbs = verbs[:2]

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("workspace", "endpoint__workspace", "modified_by", "created_by", "last_job")
        return super().get_queryset(request).select_related(*related)

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: Schedule) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("Endpoint"), ordering="endpoint__name")
    def endpoint_link(self, row: Schedule) -> Any:
        return html.link(row.endpoint)

    @display(description=gettext_lazy("State"), ordering="enabled")
    def state_word(self, row: Schedule) -> Any:
        return enabled_word(row)

    @display(description=gettext_lazy("When"), ordering="cron")
    def when(self, row: Schedule) -> Any:
        return html.mono(f"{row.cron} {row.time_zone}")

    @display(description=gettext_lazy("Next run"), ordering="next_at")
    def next(self, row: Schedule) -> Any:
        return html.ago(row.next_at)

    @display(description=gettext_lazy("Last run"), ordering="last_at")
    def last(self, row: Schedule) -> Any:
        return html.named("failed-last") if row.last_error else html.link(row.last_job, html.ago(row.last_at))

    @display(description=gettext_lazy("Runs as"), ordering="modified_by__username")
    def owner(self, row: Schedule) -> Any:
        return html.link(row.modified_by)

    def detail(self, row: Any) -> Detail:
        try:
            times = upcoming(row, NEXT) if row.enabled else []
        except Problem:  # its expression or zone is none any more; its last error says so
            times = []
        return Detail(
            title=row.name,
            state=self.state_word(row),
            problem=row.last_error,
            studio=html.studio("schedules", row.workspace.name),
            facts=(
                (_("Workspace"), html.link(row.workspace)),
                (_("Endpoint"), html.link(row.endpoint)),
                (_("Deployment"), _deployment_of(row)),
                (_("When"), self.when(row)),
                (_("Next runs"), ", ".join(html.moment(each) for each in times) or html.NONE),
                (_("Last run"), html.ago(row.last_at)),
                (_("Last job"), html.link(row.last_job)),
                (_("Runs as"), html.link(row.modified_by)),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(about(f"schedule/{row.name}", workspace=row.workspace.name),),
        )


site.register(BatchEndpoint, BatchEndpoints)
site.register(BatchDeployment, BatchDeployments)
site.register(Schedule, Schedules)

"""Compute clusters, their nodes, and the hosts that nodes run on."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import display
from django.db.models import Q
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.batch.enums import JobState
from apps.batch.models import Cluster, Host, Job, Node
from apps.compute.models import InstanceType
from apps.compute.quantities import cores, gib
from apps.console import batch_verbs, html
from apps.console.base import ConsoleAdmin, Detail, Table, about, counted
from apps.console.batch import deployments_table
from apps.console.jobs import host_link, jobs_table
from apps.console.serving import operations_table
from apps.console.site import site


def nodes_table(rows: Any, *, of_host: bool = False) -> Table:
    """`of_host`: the host is known, the cluster is not."""
    found = rows.select_related("cluster", "job")
    where = _("Cluster") if of_host else _("Host")
    return Table(
        _("Nodes"),
        (_("Node"), _("State"), where, _("Job"), _("Since")),
        [
            (
                html.link(each),
                html.state_of(each),
                html.link(each.cluster) if of_host else host_link(each),
                html.link(each.job),
                html.ago(each.created_at),
            )
            for each in found
        ],
        empty=_("No nodes."),
    )


class Clusters(ConsoleAdmin):
    heading = gettext_lazy("Clusters")
    hint = gettext_lazy("Of all workspaces. Nodes come with the work and go when they idle.")
    nothing = gettext_lazy("No cluster has been made yet.")
    list_display = (
        "name",
        "workspace_link",
        "state_word",
        "node_count",
        "live_jobs",
        "size",
        "tier_word",
        "created",
    )
    list_filter = ("state", "tier", "instance_type", "workspace")
    search_fields = ("name", "workspace__name", "instance_type", "created_by__username")
    ordering = ("workspace__name", "name")
    verbs = (batch_verbs.ShrinkCluster, batch_verbs.DeleteCluster)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("workspace", "created_by")
        live = Job.objects.filter(state__in=JobState.live())
        return rows.annotate(up=counted(Node.objects.all(), "cluster"), live=counted(live, "cluster"))

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: Cluster) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: Cluster) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Nodes"), ordering="up")
    def node_count(self, row: Any) -> Any:
        return f"{row.up} / {row.max_nodes}"

    @display(description=gettext_lazy("Jobs under way"), ordering="live")
    def live_jobs(self, row: Any) -> Any:
        return row.live

    @display(description=gettext_lazy("Instance type"), ordering="instance_type")
    def size(self, row: Cluster) -> Any:
        return html.mono(row.instance_type)

    @display(description=gettext_lazy("Tier"), ordering="tier")
    def tier_word(self, row: Cluster) -> Any:
        return row.get_tier_display()

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: Cluster) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        workspace = row.workspace.name
        kind = InstanceType.objects.filter(pk=row.instance_type).first()
        return Detail(
            title=row.name,
            state=self.state_word(row),
            problem=row.waiting,
            studio=html.studio("cluster", workspace, row.name),
            facts=(
                (_("Workspace"), html.link(row.workspace)),
                (_("Instance type"), html.link(kind) if kind else self.size(row)),
                (_("Tier"), self.tier_word(row)),
                (_("Nodes"), _("%(least)s to %(most)s") % {"least": row.min_nodes, "most": row.max_nodes}),
                (_("Idle time"), f"{row.idle_s} s"),
                (_("Nodes taken away"), row.preempted),
                (_("Created"), html.ago(row.created_at)),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(
                nodes_table(row.nodes.all()),
                jobs_table(row.jobs.filter(state__in=JobState.live()), _("Jobs under way")),
                deployments_table(row.deployments.all()),
                operations_table(Q(target=row.topic, workspace=workspace)),
                about(row.topic, workspace=workspace),
            ),
        )


class Nodes(ConsoleAdmin):
    heading = gettext_lazy("Nodes")
    hint = gettext_lazy("Room that clusters have on hosts just now, and the job that has it.")
    nothing = gettext_lazy("No cluster has a node: none is needed.")
    list_display = ("name", "cluster_link", "workspace_link", "state_word", "host_link", "job_link", "since", "tools")
    list_filter = ("state", "host", "cluster__workspace")
    search_fields = ("name", "host", "cluster__name", "cluster__workspace__name", "job__name")
    ordering = ("name",)
    verbs = (batch_verbs.StopNode,)
    row_verbs = verbs

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("cluster__workspace", "job")

    @display(description=gettext_lazy("Cluster"), ordering="cluster__name")
    def cluster_link(self, row: Node) -> Any:
        return html.link(row.cluster)

    @display(description=gettext_lazy("Workspace"), ordering="cluster__workspace__name")
    def workspace_link(self, row: Node) -> Any:
        return html.link(row.cluster.workspace)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: Node) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Host"), ordering="host")
    def host_link(self, row: Node) -> Any:
        return host_link(row)

    @display(description=gettext_lazy("Job"), ordering="job__name")
    def job_link(self, row: Node) -> Any:
        return html.link(row.job)

    @display(description=gettext_lazy("Since"), ordering="created_at")
    def since(self, row: Node) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        workspace = row.cluster.workspace
        return Detail(
            title=row.name,
            state=self.state_word(row),
            studio=html.studio("cluster", workspace.name, row.cluster.name),
            facts=(
                (_("Cluster"), html.link(row.cluster)),
                (_("Workspace"), html.link(workspace)),
                (_("Host"), host_link(row)),
                (_("Job"), html.link(row.job)),
                (_("Since"), html.ago(row.created_at)),
                (_("Idle since"), html.ago(row.idle_since)),
                (_("Its host answers for it until"), html.moment(row.lease_until)),
                (_("Cores"), cores(row.cpu_milli)),
                (_("Memory"), gib(row.mem_bytes)),
                (_("GPUs"), row.gpus),
            ),
            tables=(about(row.cluster.topic, workspace=workspace.name),),
        )


class Hosts(ConsoleAdmin):
    heading = gettext_lazy("Hosts")
    hint = gettext_lazy("Machines whose worker runs nodes. One that is stopped leaves the list; one that dies is lost.")
    nothing = gettext_lazy("No worker has told of itself: no job can run.")
    list_display = ("name", "state_word", "node_count", "cores", "memory", "seen", "tools")
    search_fields = ("name",)
    ordering = ("name",)
    verbs = (batch_verbs.ForgetHost,)
    row_verbs = verbs

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(up=counted(Node.objects.all(), "host"))

    @display(description=gettext_lazy("State"), ordering="seen_at")
    def state_word(self, row: Host) -> Any:
        return html.named("lost" if row.lost else "alive")

    @display(description=gettext_lazy("Nodes"), ordering="up")
    def node_count(self, row: Any) -> Any:
        return row.up

    @display(description=gettext_lazy("Cores"), ordering="cpu_milli")
    def cores(self, row: Host) -> Any:
        return cores(row.cpu_milli)

    @display(description=gettext_lazy("Memory"), ordering="mem_bytes")
    def memory(self, row: Host) -> Any:
        return gib(row.mem_bytes)

    @display(description=gettext_lazy("Last heard"), ordering="seen_at")
    def seen(self, row: Host) -> Any:
        return html.ago(row.seen_at)

    def detail(self, row: Any) -> Detail:
        lost = _(
            "Nothing was heard of it for a while: its worker died or is cut off. Look at the machine and the log of "
            "its worker. Its nodes are given up by themselves and their work is done elsewhere."
        )
        return Detail(
            title=row.name,
            state=self.state_word(row),
            note=lost if row.lost else "",
            facts=(
                (_("Cores"), self.cores(row)),
                (_("Memory"), self.memory(row)),
                (_("Last heard"), html.ago(row.seen_at)),
            ),
            tables=(nodes_table(Node.objects.filter(host=row.name), of_host=True), about(f"host/{row.name}")),
        )


site.register(Cluster, Clusters)
site.register(Node, Nodes)
site.register(Host, Hosts)

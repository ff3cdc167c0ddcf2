"""Compute clusters: the list, one with its nodes and its queue, and changing them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import ClusterSpec
from apps.batch.engine import claims
from apps.batch.enums import JobState, ProvisioningState
from apps.batch.models import Cluster, Job, Node
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.studio import ascode_batch
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms.batch import ClusterEditForm, ClusterForm
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import FormPage, Page, one

SHOWN = 100
SPEC = ("tier", "min_nodes", "max_nodes", "idle_s", "description", "tags")
FIELD_OF = {
    "properties.properties.scaleSettings.maxNodeCount": "max_nodes",
    "properties.properties.scaleSettings.minNodeCount": "min_nodes",
    "properties.properties.scaleSettings.nodeIdleTimeBeforeScaleDown": "idle_s",
    "properties.properties.vmPriority": "tier",
}
COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("State"), "state"),
    Column(_lazy("Nodes"), kind="number"),
    Column(_lazy("Jobs"), kind="number"),
    Column(_lazy("Instance type"), "instance_type"),
    Column(_lazy("Tier"), "tier", "fold"),
    Column(_lazy("Idle time"), "idle_s", "fold number"),
)


@dataclass(frozen=True)
class NodeRow:
    """`leaves_at`: when an idle node is given back; None while it works, or is one of the least that stay."""

    node: Node
    leaves_at: datetime | None


def clusters_of(workspace: Workspace) -> QuerySet[Cluster]:
    return Cluster.objects.filter(workspace=workspace).select_related("workspace", "created_by")


class Clusters(Page):
    section = "compute"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        waiting = Q(jobs__state__in=JobState.live())
        rows = clusters_of(self.workspace).annotate(
            node_count=Count("nodes", distinct=True), job_count=Count("jobs", distinct=True, filter=waiting)
        )
        query, state = query_of(request), request.GET.get("state", "")
        if query:
            rows = rows.filter(Q(name__icontains=query) | Q(instance_type__icontains=query))
        if state in ProvisioningState.values:
            rows = rows.filter(state=state)
        listed = listing(request, rows, COLUMNS, default="name", states=ProvisioningState.choices)
        return self.page("clusters", listing=listed)


class ClusterBase(Page):
    """A page of one cluster, found in this workspace only."""

    section = "compute"
    cluster: Cluster
    permissions: ClassVar = {}

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        self.cluster = one(clusters_of(self.workspace).filter(name=kwargs["cluster"]), "compute", kwargs["cluster"])

    def context(self) -> dict[str, Any]:
        return {**super().context(), "cluster": self.cluster}


class ClusterPage(ClusterBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        cluster = self.cluster
        nodes = list(cluster.nodes.select_related("job")[:SHOWN])
        jobs = cluster.jobs.filter(state__in=JobState.live()).select_related("created_by").order_by("created_at")
        operations = Operation.objects.filter(workspace=self.workspace.name, target=cluster.topic)
        return self.page(
            "cluster",
            nodes=_rows(cluster, nodes),
            queue=_queue(list(jobs[:SHOWN])),
            operations=operations.select_related("actor")[:10],
            deployments=cluster.deployments.select_related("endpoint")[:SHOWN],
        )


def _rows(cluster: Cluster, nodes: list[Node]) -> list[NodeRow]:
    """The longest idle ones leave first, and as many stay as the cluster must have."""
    spare = max(0, len(nodes) - cluster.min_nodes)
    idle = sorted((each.idle_since, each.pk) for each in nodes if each.job_id is None and each.idle_since)
    leaving = {pk for _since, pk in idle[:spare]}
    span = timedelta(seconds=cluster.idle_s)
    return [NodeRow(each, each.idle_since + span if each.pk in leaving and each.idle_since else None) for each in nodes]


def _queue(jobs: list[Job]) -> list[tuple[int | None, Job]]:
    """(position, job) in the order in which they get nodes; None for one that is not in the queue yet or any more."""
    found: list[tuple[int | None, Job]] = []
    for job in jobs:
        position = sum(each is not None for each, _job in found) + 1 if job.state in claims.RUNNING_JOBS else None
        found.append((position, job))
    return found


class NodePreempt(ClusterBase):
    permissions: ClassVar = {"POST": Permission.COMPUTE}

    def post(self, request: HttpRequest, node: str, **_: Any) -> HttpResponse:
        domain.preempt_node(cluster=self.cluster, name=node, actor=request.user)
        return self.go("studio:cluster", self.workspace.name, self.cluster.name)


class ClusterCreate(FormPage):
    section = "compute"
    template = "cluster_create"
    permissions: ClassVar = {"GET": Permission.COMPUTE, "POST": Permission.COMPUTE}
    field_of = FIELD_OF

    def form(self, data: Any = None, files: Any = None) -> ClusterForm:
        return ClusterForm(data)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        made = domain.create_cluster(
            workspace=self.workspace, name=data["name"], spec=spec_of(data), actor=self.request.user
        )
        return self.to_operation(made[1])

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_batch.cluster(writer, written(data))
        return writer.done()


def spec_of(data: dict[str, Any]) -> ClusterSpec:
    return ClusterSpec(instance_type=data["instance_type"].name, **{name: data[name] for name in SPEC})


def written(data: dict[str, Any]) -> dict[str, Any]:
    """A form's data with the name of the instance type."""
    chosen = data.get("instance_type")
    return {**data, "instance_type": getattr(chosen, "name", chosen)}


class ClusterEdit(FormPage, ClusterBase):
    template = "cluster_edit"
    permissions: ClassVar = {"GET": Permission.COMPUTE, "POST": Permission.COMPUTE}
    field_of = FIELD_OF

    def form(self, data: Any = None, files: Any = None) -> ClusterEditForm:
        initial = {name: getattr(self.cluster, name) for name in (*SPEC, "instance_type")}
        return ClusterEditForm(data, current=self.cluster, initial=initial)

    def save(self, form: Any) -> HttpResponse:
        spec = spec_of(form.cleaned_data)
        return self.to_operation(domain.update_cluster(cluster=self.cluster, spec=spec, actor=self.request.user))

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_batch.cluster(writer, {**written(data), "name": self.cluster.name}, verb="update")
        return writer.done()


class ClusterDelete(ClusterBase):
    permissions: ClassVar = {"GET": Permission.COMPUTE, "POST": Permission.COMPUTE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("cluster_delete")

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        if request.POST.get("name", "") != self.cluster.name:
            reason = _("type the name of the cluster to delete it")
            return self.page("cluster_delete", problem=Problem("bad-field", field=_("Name"), reason=reason))
        try:
            return self.to_operation(domain.delete_cluster(cluster=self.cluster, actor=request.user))
        except Problem as problem:
            return self.page("cluster_delete", problem=problem)

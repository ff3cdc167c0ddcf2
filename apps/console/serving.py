"""Endpoints, deployments and instances of all workspaces."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.admin import display
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.compute import domain as compute
from apps.compute.drivers.base import DriverError
from apps.compute.enums import ReplicaState
from apps.compute.models import InstanceType, Replica
from apps.console import html, serving_verbs
from apps.console.base import RECENT, ConsoleAdmin, Detail, Table, about
from apps.console.site import site
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint

LOG_LINES = 100


def split(traffic: dict[str, int]) -> str:
    return ", ".join(f"{name} {percent} %" for name, percent in sorted(traffic.items()) if percent) or html.NONE


def operations_table(target: Q) -> Table:
    rows = Operation.objects.filter(target).select_related("actor")[:RECENT]
    return Table(
        _("Operations"),
        (_("Kind"), _("State"), _("Who"), _("When"), _("Took")),
        [
            (
                html.link(each, each.kind, code=True),
                html.state_of(each),
                html.link(each.actor),
                html.ago(each.created_at),
                html.took(each.started_at, each.finished_at),
            )
            for each in rows
        ],
        empty=_("No operations."),
    )


class Endpoints(ConsoleAdmin):
    heading = gettext_lazy("Endpoints")
    hint = gettext_lazy("Of all workspaces. They are made and changed in the studio, by the members.")
    nothing = gettext_lazy("No endpoint has been made yet.")
    list_display = ("name", "workspace_link", "state_word", "auth_mode", "traffic_split", "deployment_count", "created")
    list_filter = ("state", "auth_mode", "public_network_access", "workspace")
    search_fields = ("name", "workspace__name", "created_by__username")
    list_select_related = ("workspace",)
    ordering = ("name",)
    verbs = (serving_verbs.DeleteEndpoint,)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("workspace", "created_by")
        return rows.annotate(deployed=Count("deployments"))

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: OnlineEndpoint) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: OnlineEndpoint) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Traffic"))
    def traffic_split(self, row: OnlineEndpoint) -> Any:
        return split(row.traffic)

    @display(description=gettext_lazy("Deployments"), ordering="deployed")
    def deployment_count(self, row: Any) -> Any:
        return row.deployed

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: OnlineEndpoint) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        deployments = with_ready(row.deployments.select_related("endpoint__workspace"))
        mine = Q(target=row.topic) | Q(target__startswith=f"online-deployment/{row.name}/")
        return Detail(
            title=row.name,
            state=self.state_word(row),
            problem=row.error,
            studio=html.studio("endpoint", row.workspace.name, row.name),
            facts=(
                (_("Workspace"), html.link(row.workspace)),
                (_("Address"), html.mono(row.scoring_uri)),
                (_("Signs in with"), row.get_auth_mode_display()),
                (_("Reachable"), _("everywhere") if row.public_network_access else _("on the private port only")),
                (_("Traffic"), split(row.traffic)),
                (_("Mirrored"), split(row.mirror_traffic)),
                (_("Created"), html.ago(row.created_at)),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(
                Table(
                    _("Deployments"),
                    (_("Deployment"), _("State"), _("Ready"), _("Instance type")),
                    [
                        (
                            html.link(each, each.name),
                            html.state_of(each),
                            ready(each),
                            html.mono(each.instance_type),
                        )
                        for each in deployments
                    ],
                    empty=_("No deployments."),
                ),
                operations_table(mine),
                about(row.topic),
            ),
        )


def with_ready(rows: QuerySet[OnlineDeployment]) -> QuerySet[OnlineDeployment]:
    up = Count("serving__replicas", filter=Q(serving__replicas__state=ReplicaState.READY))
    held = Count("serving__replicas", filter=Q(serving__replicas__state=ReplicaState.HELD))
    return rows.annotate(ready=up, held=held)


def ready(row: Any) -> Any:
    """Ready of wanted; amber when some are missing, red when all are."""
    text = f"{row.ready} / {row.instance_count}"
    if row.held:
        text += " " + _("(%(count)s stopped)") % {"count": row.held}
    if row.state != ProvisioningState.SUCCEEDED or row.ready >= row.instance_count:
        return text
    return html.state("degraded" if row.ready else "failed", text)


class Deployments(ConsoleAdmin):
    heading = gettext_lazy("Deployments")
    hint = gettext_lazy("Of all workspaces, with the instances that are ready.")
    nothing = gettext_lazy("Nothing has been deployed yet.")
    list_display = ("full_name", "workspace_link", "state_word", "ready_of", "traffic", "model_link", "size", "changed")
    list_filter = ("state", "instance_type", "endpoint__workspace")
    search_fields = ("name", "endpoint__name", "endpoint__workspace__name", "model__asset__name")
    ordering = ("endpoint__name", "name")
    verbs = (serving_verbs.DeleteDeployment,)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return with_ready(rows.select_related("endpoint__workspace", "model__asset", "created_by", "serving"))

    @display(description=gettext_lazy("Deployment"), ordering="endpoint__name")
    def full_name(self, row: OnlineDeployment) -> Any:
        return str(row)

    @display(description=gettext_lazy("Workspace"), ordering="endpoint__workspace__name")
    def workspace_link(self, row: OnlineDeployment) -> Any:
        return html.link(row.endpoint.workspace)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: OnlineDeployment) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Ready"), ordering="ready")
    def ready_of(self, row: Any) -> Any:
        return ready(row)

    @display(description=gettext_lazy("Traffic"))
    def traffic(self, row: OnlineDeployment) -> Any:
        return f"{row.endpoint.traffic.get(row.name, 0)} %"

    @display(description=gettext_lazy("Model"), ordering="model__asset__name")
    def model_link(self, row: OnlineDeployment) -> Any:
        return html.link(row.model)

    @display(description=gettext_lazy("Instance type"), ordering="instance_type")
    def size(self, row: OnlineDeployment) -> Any:
        return html.mono(row.instance_type)

    @display(description=gettext_lazy("Changed"), ordering="modified_at")
    def changed(self, row: OnlineDeployment) -> Any:
        return html.ago(row.modified_at)

    def detail(self, row: Any) -> Detail:
        replicas = Replica.objects.filter(set__owner_key=row.owner_key).select_related("set")
        kind = InstanceType.objects.filter(pk=row.instance_type).first()
        return Detail(
            title=str(row),
            state=self.state_word(row),
            problem=row.error,
            studio=html.studio("deployment", row.endpoint.workspace.name, row.endpoint.name, row.name),
            facts=(
                (_("Endpoint"), html.link(row.endpoint)),
                (_("Workspace"), html.link(row.endpoint.workspace)),
                (_("Ready"), ready(row)),
                (_("Traffic"), self.traffic(row)),
                (_("Model"), html.link(row.model)),
                (_("Instance type"), html.link(kind) if kind else html.mono(row.instance_type)),
                (_("Revision"), row.revision),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(
                Table(
                    _("Instances"),
                    (_("Instance"), _("Revision"), _("State"), _("Isolation"), _("Restarts"), _("Ready since")),
                    [
                        (
                            html.link(each, each.name, code=True),
                            each.set.revision,
                            html.state_of(each),
                            html.mono(each.isolation),
                            each.restarts,
                            html.ago(each.ready_at),
                        )
                        for each in replicas
                    ],
                    empty=_("No instances."),
                ),
                operations_table(Q(target=row.topic)),
                about(row.topic),
            ),
        )


class WithDeployment(ChangeList):
    """Gives each instance the deployment that serves from it, in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = self.result_list
        sets = {each.set_id for each in rows}
        serving = OnlineDeployment.objects.filter(serving__in=sets).select_related("endpoint__workspace")
        by_set = {each.serving_id: each for each in serving}
        for each in rows:
            each.deployment = by_set.get(each.set_id)


class Instances(ConsoleAdmin):
    heading = gettext_lazy("Instances")
    hint = gettext_lazy(
        "The running model servers. Restart replaces one now; Stop keeps one down until an administrator starts it."
    )
    nothing = gettext_lazy("No model server runs.")
    list_display = ("name", "deployment_link", "state_word", "why", "isolated", "restarts", "since", "tools")
    list_filter = ("state", "isolation", "set__driver")
    search_fields = ("name", "set__owner_key", "address")
    list_select_related = ("set",)
    ordering = ("set__owner_key", "index")
    verbs = (serving_verbs.RestartReplica, serving_verbs.StartReplica, serving_verbs.StopReplica)
    row_verbs = verbs

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("set")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002 -- Django's
        return WithDeployment

    @display(description=gettext_lazy("Deployment"), ordering="set__owner_key")
    def deployment_link(self, row: Any) -> Any:
        return html.link(row.deployment) if row.deployment else html.mono(row.set.owner_key)

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: Replica) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Why"))
    def why(self, row: Replica) -> Any:
        return (row.reason or {}).get("message", "")[:90] or html.NONE

    @display(description=gettext_lazy("Isolation"), ordering="isolation")
    def isolated(self, row: Replica) -> Any:
        return html.mono(row.isolation)

    @display(description=gettext_lazy("Ready since"), ordering="ready_at")
    def since(self, row: Replica) -> Any:
        return html.ago(row.ready_at)

    def detail(self, row: Any) -> Detail:
        serving = OnlineDeployment.objects.filter(serving=row.set_id).select_related("endpoint__workspace").first()
        target = serving.topic if serving else f"online-deployment/{row.set.owner_key}"
        return Detail(
            title=row.name,
            state=self.state_word(row),
            problem=row.reason,
            note="" if serving else _("No deployment serves from this instance any more."),
            log=log_of(row),
            facts=(
                (_("Deployment"), html.link(serving) if serving else html.mono(row.set.owner_key)),
                (
                    _("Instance"),
                    _("%(index)s of revision %(revision)s") % {"index": row.index, "revision": row.set.revision},
                ),
                (_("Driver"), html.mono(row.set.driver)),
                (_("Isolation"), html.mono(row.isolation)),
                (_("Started"), html.ago(row.started_at)),
                (_("Ready since"), html.ago(row.ready_at)),
                (_("Crashes"), row.restarts),
                (_("Address"), html.mono(row.address.replace(str(settings.HOME.run), "…"))),
            ),
            tables=(operations_table(Q(target=target, payload__replica=row.pk)), about(target)),
        )


def log_of(replica: Replica) -> str:
    try:
        lines = compute.logs(replica, tail=LOG_LINES)
    except (DriverError, OSError, Problem):
        return ""
    return "\n".join(f"{line.at:%Y-%m-%dT%H:%M:%S}Z {line.text}" for line in lines)


site.register(OnlineEndpoint, Endpoints)
site.register(OnlineDeployment, Deployments)
site.register(Replica, Instances)

"""Instance types and compute targets: what there is to give, and who has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.admin import display
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts.models import Workspace
from apps.batch.models import Cluster
from apps.compute import domain as compute
from apps.compute.domain import Ledger, Line
from apps.compute.models import ComputeTarget, InstanceType, Reservation
from apps.compute.quantities import cores, gib, plain, price
from apps.console import facts, html
from apps.console.base import ConsoleAdmin, Detail, Table, about
from apps.console.compute_verbs import ChangeInstanceType, ChangeTarget, CreateInstanceType, DeleteInstanceType
from apps.console.site import site
from apps.endpoints.models import OnlineDeployment

SHOWN = 50


def bar(line: Line) -> Any:
    """How much is taken, as a bar and in words."""
    return render_to_string("studio/parts/gauge.html", {"line": line})


def usage_table(title: str, lines: Iterable[Line]) -> Table:
    rows = [(capfirst(line.word), bar(line), line.free_text or html.NONE) for line in lines]
    return Table(title, (_("Amount"), _("Reserved"), _("Free")), rows)


def workspace_tables(workspace: Workspace) -> tuple[list[tuple[Any, Any]], Table]:
    """(facts, table) of a workspace: where it runs, and what it holds of its quota."""
    ledger = Ledger(workspace)
    chosen = ledger.choice.target if ledger.choice is not None else ""
    told = html.mono(chosen) if chosen else _("Automatic")
    return [(_("Compute target"), told)], usage_table(_("Quota"), ledger.quota_lines())


class InstanceTypes(ConsoleAdmin):
    heading = gettext_lazy("Instance types")
    hint = gettext_lazy("The sizes a deployment can choose. Azure's names stand for the sizes of their machines.")
    list_display = ("name", "cores", "memory", "gpu_count", "price", "needs", "offered", "here", "position", "tools")
    list_filter = ("enabled",)
    search_fields = ("name",)
    ordering = ("position", "name")
    list_verbs = (CreateInstanceType,)
    verbs = (ChangeInstanceType, DeleteInstanceType)
    row_verbs = (ChangeInstanceType,)

    @display(description=gettext_lazy("Cores"), ordering="cpu_milli")
    def cores(self, row: InstanceType) -> Any:
        return cores(row.cpu_milli)

    @display(description=gettext_lazy("Memory"), ordering="mem_bytes")
    def memory(self, row: InstanceType) -> Any:
        return gib(row.mem_bytes)

    @display(description=gettext_lazy("GPUs"), ordering="gpus")
    def gpu_count(self, row: InstanceType) -> Any:
        return row.gpus

    @display(description=gettext_lazy("Price of an hour"), ordering="price_hour")
    def price(self, row: InstanceType) -> Any:
        return f"{price(row.price_hour)} {settings.CURRENCY}" if row.price_hour else html.NONE

    @display(description=gettext_lazy("Isolation"), ordering="isolation")
    def needs(self, row: InstanceType) -> Any:
        return row.get_isolation_display()

    @display(description=gettext_lazy("Offered"), ordering="enabled")
    def offered(self, row: InstanceType) -> Any:
        return html.named("offered" if row.enabled else "hidden")

    @display(description=gettext_lazy("On this machine"))
    def here(self, row: InstanceType) -> Any:
        cut = compute.usable(row)[2]
        return html.named("cut-down" if cut else "whole")

    def detail(self, row: Any) -> Detail:
        users = OnlineDeployment.objects.filter(instance_type__iexact=row.name).select_related("endpoint__workspace")
        clusters = Cluster.objects.filter(instance_type__iexact=row.name).select_related("workspace")
        return Detail(
            title=row.name,
            state=self.offered(row),
            note=" ".join(compute.usable(row)[2]),
            facts=(
                (_("Cores"), self.cores(row)),
                (_("Memory"), self.memory(row)),
                (_("GPUs"), row.gpus),
                (_("Price of an hour"), self.price(row)),
                (_("Isolation"), self.needs(row)),
                (_("Position"), row.position),
                (_("On this machine"), self.here(row)),
            ),
            tables=(
                Table(
                    _("Deployments"),
                    (_("Deployment"), _("Workspace")),
                    [(html.link(each), html.link(each.endpoint.workspace)) for each in users],
                    empty=_("No deployment uses it."),
                ),
                Table(
                    _("Clusters"),
                    (_("Cluster"), _("Workspace")),
                    [(html.link(each), html.link(each.workspace)) for each in clusters],
                    empty=_("No cluster uses it."),
                ),
                about(f"instance-type/{row.name}"),
            ),
        )


class WithLedger(ChangeList):
    """Gives each target what is reserved of it, read once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        ledger = Ledger()
        rows: Any = self.result_list
        for each in rows:
            each.lines = ledger.target_lines(each)


class Targets(ConsoleAdmin):
    heading = gettext_lazy("Compute targets")
    hint = gettext_lazy("Where instances run, how much of it may be given away, and how much of that is reserved.")
    list_display = ("called", "active", "cpu", "memory", "gpu", "overcommit", "tools")
    list_display_links = ("called",)
    ordering = ("name",)
    verbs = (ChangeTarget,)
    row_verbs = verbs

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002 -- Django's
        return WithLedger

    @display(description=gettext_lazy("Target"), ordering="name")
    def called(self, row: ComputeTarget) -> Any:
        return f"{row.name}: {compute.label(row.name)}"

    @display(description=gettext_lazy("State"), ordering="enabled")
    def active(self, row: ComputeTarget) -> Any:
        if not row.enabled:
            return html.named("off")
        if row.name == compute.DOCKER and not settings.DOCKER_URL:
            return html.named("no-engine")
        return html.named("on")

    @display(description=gettext_lazy("CPU"))
    def cpu(self, row: Any) -> Any:
        return bar(row.lines[0])

    @display(description=gettext_lazy("Memory"))
    def memory(self, row: Any) -> Any:
        return bar(row.lines[1])

    @display(description=gettext_lazy("GPUs"))
    def gpu(self, row: Any) -> Any:
        return bar(row.lines[2])

    @display(description=gettext_lazy("Overcommit"))
    def overcommit(self, row: ComputeTarget) -> Any:
        factors = {"cpu": plain(row.overcommit_cpu), "memory": plain(row.overcommit_memory)}
        return _("CPU × %(cpu)s, memory × %(memory)s") % factors  # noqa: RUF001 -- the sign for "times"

    def detail(self, row: Any) -> Detail:
        ledger = Ledger()
        held = Reservation.objects.filter(target=row.name).select_related("workspace").order_by("owner_key")
        isolation = facts.isolation_of(row.name)
        return Detail(
            title=row.name,
            state=self.active(row),
            note=isolation.error,
            facts=(
                (_("What it is"), compute.label(row.name)),
                (_("CPU"), _amount(row, "cpu_milli")),
                (_("Memory"), _amount(row, "mem_bytes")),
                (_("GPUs"), _amount(row, "gpus")),
                (_("Overcommit"), self.overcommit(row)),
                (_("Isolation"), html.mono(isolation.level)),
                (_("Keeps"), _kept(isolation)),
            ),
            tables=(
                usage_table(_("Reserved"), ledger.target_lines(row)),
                Table(
                    _("Deployments"),
                    (_("Deployment"), _("Workspace"), _("Instances"), _("CPU"), _("Memory"), _("GPUs")),
                    [
                        (
                            html.mono(each.owner_key),
                            html.link(each.workspace),
                            each.instances,
                            cores(each.cpu_milli),
                            gib(each.mem_bytes),
                            each.gpus,
                        )
                        for each in held[:SHOWN]
                    ],
                    empty=_("Nothing is reserved here."),
                ),
                about(f"compute-target/{row.name}"),
            ),
        )


def _amount(row: ComputeTarget, amount: str) -> Any:
    given = getattr(row, amount)
    if given is not None:
        return compute.told(amount, given)
    value = compute.told(amount, compute.measured(row.name, amount))
    return format_html("{} <span class='meta'>{}</span>", value, _("measured"))


def _kept(isolation: facts.Isolation) -> Any:
    kept = [(label,) for label, given in isolation.keeps if given]
    return format_html_join(", ", "{}", kept) or html.NONE


site.register(InstanceType, InstanceTypes)
site.register(ComputeTarget, Targets)

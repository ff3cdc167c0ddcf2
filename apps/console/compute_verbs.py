"""Verbs on instance types, compute targets and what workspaces get of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts.models import Workspace
from apps.compute import domain as compute
from apps.compute.enums import Isolation
from apps.compute.models import ComputeTarget, InstanceType, WorkspaceCompute
from apps.compute.quantities import GIB
from apps.console import html
from apps.console.verbs import ConsoleForm, RowVerb, Verb
from apps.endpoints import instances


class InstanceTypeForm(ConsoleForm):
    cpu = forms.DecimalField(label=gettext_lazy("Cores"), min_value=0.1, max_value=1024, decimal_places=3)
    memory = forms.DecimalField(label=gettext_lazy("Memory in GiB"), min_value=0.0625, max_value=65536)
    gpus = forms.IntegerField(
        label=gettext_lazy("GPUs"), min_value=0, max_value=64, required=False, help_text=gettext_lazy("In containers.")
    )
    price = forms.DecimalField(
        label=gettext_lazy("Price of an hour"), min_value=0, max_value=100_000, decimal_places=4, required=False
    )
    isolation = forms.ChoiceField(
        label=gettext_lazy("Isolation"),
        choices=Isolation.choices,
        required=False,
        help_text=gettext_lazy("Runs only on targets that reach it."),
    )
    position = forms.IntegerField(
        label=gettext_lazy("Position"),
        min_value=0,
        max_value=30000,
        initial=100,
        help_text=gettext_lazy("Smaller numbers come first in lists."),
    )
    hidden = forms.BooleanField(
        label=gettext_lazy("Not offered"),
        required=False,
        help_text=gettext_lazy("Nothing new can choose it; deployments that have it keep it."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        told = _("In %(currency)s; shown to everybody, never billed. Empty: none.")
        self.fields["price"].help_text = told % {"currency": settings.CURRENCY}


class NewInstanceTypeForm(InstanceTypeForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=60,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "input mono"}),
    )
    field_order = ("name", "cpu", "memory", "gpus", "price", "isolation", "position", "hidden")


def sizes(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "cpu_milli": int(data["cpu"] * 1000),
        "mem_bytes": int(data["memory"] * GIB),
        "gpus": data["gpus"] or 0,
        "price_hour": data["price"] or Decimal(0),
        "isolation": data["isolation"],
        "enabled": not data["hidden"],
        "position": data["position"],
    }


class CreateInstanceType(Verb):
    name = "create"
    label = gettext_lazy("Add instance type")
    icon = "plus"
    form_class = NewInstanceTypeForm

    def run(self, data: dict[str, Any]) -> Any:
        compute.save_instance_type(name=data["name"], actor=self.actor, new=True, **sizes(data))

    def back(self) -> str:
        return html.listing(InstanceType)


class ChangeInstanceType(RowVerb):
    row: InstanceType
    name = "edit"
    label = gettext_lazy("Edit")
    icon = "pencil"
    form_class = InstanceTypeForm
    sentence = gettext_lazy(
        "What runs keeps the size it was started with; a deployment gets the new one with its next revision."
    )

    def initial(self) -> dict[str, Any]:
        return {
            "cpu": self.row.cpu_milli / 1000,
            "memory": round(self.row.mem_bytes / GIB, 4),
            "gpus": self.row.gpus,
            "price": self.row.price_hour or None,
            "isolation": self.row.isolation,
            "position": self.row.position,
            "hidden": not self.row.enabled,
        }

    def run(self, data: dict[str, Any]) -> Any:
        compute.save_instance_type(name=self.row.name, actor=self.actor, **sizes(data))


class DeleteInstanceType(RowVerb):
    row: InstanceType
    name = "delete"
    label = gettext_lazy("Delete")
    icon = "trash-2"
    danger = True

    def refused(self) -> str:
        ours = any(self.row.name == name for name, _cores, _memory in compute.SIZES)
        return _("It comes with Portway; it can be hidden") if ours else ""

    def goes(self) -> list[str]:
        return [_("the size %(name)s; no new deployment can choose it") % {"name": self.row.name}]

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- there is nothing to ask
        instances.delete_instance_type(name=self.row.name, actor=self.actor)

    def back(self) -> str:
        return html.listing(InstanceType)


class AmountsForm(ConsoleForm):
    """Amounts in people's units; an empty one is none."""

    cpu = forms.DecimalField(
        label=gettext_lazy("Cores"), min_value=0, max_value=1_000_000, decimal_places=3, required=False
    )
    memory = forms.DecimalField(
        label=gettext_lazy("Memory in GiB"), min_value=0, max_value=2**30, decimal_places=4, required=False
    )
    gpus = forms.IntegerField(label=gettext_lazy("GPUs"), min_value=0, max_value=10_000, required=False)


def amounts(data: dict[str, Any]) -> dict[str, int | None]:
    return {
        "cpu_milli": None if data["cpu"] is None else int(data["cpu"] * 1000),
        "mem_bytes": None if data["memory"] is None else int(data["memory"] * GIB),
        "gpus": data["gpus"],
    }


def shown(row: ComputeTarget | WorkspaceCompute) -> dict[str, Any]:
    return {
        "cpu": None if row.cpu_milli is None else row.cpu_milli / 1000,
        "memory": None if row.mem_bytes is None else round(row.mem_bytes / GIB, 4),
        "gpus": row.gpus,
    }


class TargetForm(AmountsForm):
    overcommit_cpu = forms.DecimalField(
        label=gettext_lazy("Cores are given away so many times"), min_value=0.1, max_value=100, decimal_places=2
    )
    overcommit_memory = forms.DecimalField(
        label=gettext_lazy("Memory is given away so many times"),
        min_value=0.1,
        max_value=100,
        decimal_places=2,
        help_text=gettext_lazy("1: never more than there is."),
    )
    off = forms.BooleanField(
        label=gettext_lazy("Switched off"),
        required=False,
        help_text=gettext_lazy("Nothing new is placed there; what runs there goes on."),
    )


class ChangeTarget(RowVerb):
    row: ComputeTarget
    name = "edit"
    label = gettext_lazy("Edit")
    icon = "pencil"
    form_class = TargetForm
    sentence = gettext_lazy(
        "An empty amount is measured from the machine. Targets that measure share what they measure."
    )

    def title(self) -> str:
        return _("Compute target %(name)s") % {"name": self.row.name}

    def initial(self) -> dict[str, Any]:
        factors = {"overcommit_cpu": self.row.overcommit_cpu, "overcommit_memory": self.row.overcommit_memory}
        return {**shown(self.row), **factors, "off": not self.row.enabled}

    def run(self, data: dict[str, Any]) -> Any:
        compute.save_target(
            name=self.row.name,
            enabled=not data["off"],
            overcommit_cpu=data["overcommit_cpu"],
            overcommit_memory=data["overcommit_memory"],
            actor=self.actor,
            **amounts(data),
        )


def target_choices() -> list[tuple[str, Any]]:
    found = [(name, f"{name}: {compute.label(name)}") for name in compute.every_target()]
    return [("", _("automatic: containers only for what needs them")), *sorted(found)]


class WorkspaceComputeForm(AmountsForm):
    target = forms.ChoiceField(label=gettext_lazy("Compute target"), required=False)
    instances = forms.IntegerField(label=gettext_lazy("Instances"), min_value=0, max_value=1_000_000, required=False)
    field_order = ("target", "cpu", "memory", "gpus", "instances")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        present = self.initial.get("target", "")
        choices = target_choices()
        if present not in dict(choices):  # a target that is gone stays chosen until somebody chooses another
            choices.append((present, present))
        self.fields["target"].choices = choices  # type: ignore[attr-defined]


class ChangeWorkspaceCompute(RowVerb):
    row: Workspace
    name = "compute"
    label = gettext_lazy("Compute and quota")
    icon = "cpu"
    form_class = WorkspaceComputeForm
    sentence = gettext_lazy(
        "An empty amount is unlimited. What the workspace has stays where and as it is; a deployment goes to the new "
        "target with its next revision."
    )

    def initial(self) -> dict[str, Any]:
        row = WorkspaceCompute.objects.filter(pk=self.row.pk).first()
        return {**shown(row), "target": row.target, "instances": row.instances} if row is not None else {}

    def run(self, data: dict[str, Any]) -> Any:
        compute.save_workspace_compute(
            workspace=self.row, target=data["target"], instances=data["instances"], actor=self.actor, **amounts(data)
        )

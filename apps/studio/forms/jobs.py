"""What people type about jobs of batch deployments: of models, and of pipelines by what their component declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.batch.domain.pipelines import declared_of
from apps.batch.domain.specs import LONGEST_NAME
from apps.batch.engine.plan import WIRE
from apps.batch.enums import ProvisioningState
from apps.batch.models import BatchDeployment
from apps.core.errors import Problem
from apps.registry.pipelines.interface import Declared, literal, text_of
from apps.studio.forms.base import NAME_INPUT, StudioForm
from apps.studio.forms.batch import whole
from apps.studio.forms.schedules import LITERAL
from apps.studio.forms.sources import SourceForm

LONGEST_VALUE = 5000
INPUT, OUTPUT = "input.", "output."
"""What the fields of a component's inputs and outputs begin with: their names have no dot."""
RESULTS = "azureml://datastores/NAME/paths/results"


def deployments_in(workspace: Workspace) -> QuerySet[BatchDeployment]:
    """Those that jobs can be made of."""
    rows = BatchDeployment.objects.filter(endpoint__workspace=workspace, state=ProvisioningState.SUCCEEDED)
    return rows.select_related("endpoint__workspace", "cluster", "component").order_by("endpoint__name", "name")


class DeploymentJobForm(StudioForm):
    """What any job of a batch deployment has."""

    deployment = forms.ModelChoiceField(
        queryset=BatchDeployment.objects.none(), to_field_name="pk", widget=forms.HiddenInput
    )
    display_name = forms.CharField(label=_("Display name"), max_length=LONGEST_NAME, required=False)

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["deployment"].queryset = deployments_in(workspace)  # type: ignore[attr-defined]


class JobForm(SourceForm, DeploymentJobForm):
    """A job of a model deployment. Settings that are left empty are the deployment's."""

    path_help = _("A data asset, a path of a datastore, or a public https address. Type to look into datastores.")
    upload_help = _("Kept as a new version of a data asset.")

    mini_batch_size = whole("mini_batch_size", _("Mini-batch size"), required=False)
    instance_count = whole("instance_count", _("Nodes"), required=False)
    max_retries = whole("max_retries", _("Retries of a mini-batch"), required=False)
    timeout_s = whole("timeout_ms", _("Timeout of a mini-batch (s)"), scale=1000, required=False)
    error_threshold = whole("error_threshold", _("Error threshold"), required=False)
    output_file_name = forms.CharField(
        label=_("Output file"), required=False, max_length=255, widget=forms.TextInput(attrs=NAME_INPUT)
    )
    output_path = forms.CharField(
        label=_("Output folder"),
        required=False,
        max_length=2000,
        help_text=_("A path of a datastore. Empty: a folder of its own in the default one."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": RESULTS}),
    )


class PipelineJobForm(DeploymentJobForm):
    """A job of a pipeline deployment. Data is an address; of an empty field the component's default holds."""

    def __init__(self, *args: Any, chosen: BatchDeployment, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.takes, self.gives = declared_of(chosen)
        for name, each in self.takes.items():
            self.add(f"{INPUT}{name}", _data_field(name, each) if each.is_data else _literal_field(name, each))
        for name, each in self.gives.items():
            help_text = _now("%(type)s. Empty: a folder of its own in the default datastore.") % {"type": each.type}
            field = _address(name, required=False, help_text=_described(each, help_text), placeholder=RESULTS)
            self.add(f"{OUTPUT}{name}", field)

    @property
    def input_fields(self) -> list[tuple[forms.BoundField, bool]]:
        """(field, whether it is an address) of each input."""
        return [(self[f"{INPUT}{name}"], each.is_data) for name, each in self.takes.items()]

    @property
    def output_fields(self) -> list[forms.BoundField]:
        return [self[f"{OUTPUT}{name}"] for name in self.gives]

    def clean(self) -> dict[str, Any]:
        """Values by the rule that a job is checked with."""
        data: dict[str, Any] = super().clean() or {}
        for name, each in self.takes.items():
            field = f"{INPUT}{name}"
            if not each.is_data and (value := data.get(field)):
                try:
                    literal(each, value, field)
                except Problem as problem:
                    self.add_error(field, problem.params["reason"])
        return data

    def inputs(self, data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What is given in a form's data, as a `JobSpec` has it."""
        found: dict[str, dict[str, Any]] = {}
        for name, each in self.takes.items():
            value = str(data.get(f"{INPUT}{name}") or "")
            if value and each.is_data:
                found[name] = {"type": WIRE[each.type], "uri": value}
            elif value:
                found[name] = {"type": LITERAL, "value": value}
        return found

    def outputs(self, data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        given = {name: data.get(f"{OUTPUT}{name}") for name in self.gives}
        return {name: {"type": WIRE[self.gives[name].type], "uri": uri} for name, uri in given.items() if uri}


def examples(takes: Mapping[str, Declared], uri: str = "") -> dict[str, dict[str, Any]]:
    """The inputs that must be given, with words for their values."""
    return {
        name: {"type": WIRE[each.type], "uri": uri} if each.is_data else {"type": LITERAL, "value": "VALUE"}
        for name, each in takes.items()
        if each.is_required
    }


def _described(declared: Declared, words: str) -> str:
    return f"{declared.description[:300].rstrip('.')}. {words}" if declared.description else words


def _address(name: str, *, required: bool, help_text: str, placeholder: str) -> forms.CharField:
    widget = forms.TextInput(attrs={**NAME_INPUT, "placeholder": placeholder})
    return forms.CharField(label=name, required=required, max_length=2000, help_text=help_text, widget=widget)


def _data_field(name: str, declared: Declared) -> forms.CharField:
    words = _described(declared, _now("%(type)s: a data asset or a path of a datastore.") % {"type": declared.type})
    return _address(name, required=declared.is_required, help_text=words, placeholder="azureml:name@latest")


def _literal_field(name: str, declared: Declared) -> forms.Field:
    default = "" if declared.default is None else text_of(declared.default)
    words = [declared.type]
    if declared.min is not None:
        words.append(_now("at least %(least)s") % {"least": declared.min})
    if declared.max is not None:
        words.append(_now("at most %(most)s") % {"most": declared.max})
    more: dict[str, Any] = {
        "label": name,
        "required": declared.is_required,
        "initial": default,
        "help_text": _described(declared, f"{', '.join(words)}."),
    }
    values = ("True", "False") if declared.type == "boolean" else tuple(map(text_of, declared.enum))
    if values:
        empty = [] if declared.default is not None else [("", "–")]  # noqa: RUF001 -- nothing
        return forms.ChoiceField(choices=[*empty, *((each, each) for each in values)], **more)
    attrs: dict[str, Any] = dict(NAME_INPUT)
    if declared.type != "string":
        attrs["inputmode"] = "decimal"
    return forms.CharField(max_length=LONGEST_VALUE, strip=False, widget=forms.TextInput(attrs=attrs), **more)

"""What people type about schedules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.batch.domain.specs import LONGEST_NAME
from apps.batch.enums import DeploymentType
from apps.batch.models import BatchEndpoint, Schedule
from apps.studio.forms.base import NAME_INPUT, StudioForm, TagsField
from apps.studio.forms.batch import NAME_HELP, described

LITERAL = "Literal"
TYPES = [("UriFolder", _("Folder")), ("UriFile", _("File")), (LITERAL, _("Value"))]
MOST_INPUTS = 50  # of a form
SPARE = 2  # empty rows for more inputs
LONGEST_INPUT, LONGEST_VALUE = 255, 2000  # characters
RECURRENCE_HELP = _("Made from the recurrence below. Write another expression, and it takes the recurrence's place.")


class ScheduleForm(StudioForm):
    unmarked = ("input_0_name", "input_0_value")

    name = forms.CharField(
        label=_("Name"), min_length=3, max_length=32, help_text=NAME_HELP, widget=forms.TextInput(attrs=NAME_INPUT)
    )
    endpoint = forms.ModelChoiceField(
        label=_("Endpoint"), queryset=BatchEndpoint.objects.none(), to_field_name="pk", empty_label=None
    )
    deployment = forms.CharField(
        label=_("Deployment"),
        required=False,
        max_length=32,
        help_text=_("Empty: the default one, at that time."),
        widget=forms.TextInput(attrs=NAME_INPUT),
    )
    cron = forms.CharField(
        label=_("When"),
        max_length=120,
        help_text=_("Minute, hour, day of the month, month, day of the week: 0 6 * * 1-5 is six o'clock on workdays."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "0 6 * * *"}),
    )
    time_zone = forms.CharField(
        label=_("Time zone"), max_length=60, initial="UTC", widget=forms.TextInput(attrs=NAME_INPUT)
    )
    display_name = forms.CharField(label=_("Display name"), max_length=LONGEST_NAME, required=False)
    description = described()
    tags = TagsField()
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)

    def __init__(
        self, *args: Any, workspace: Workspace, inputs: Mapping[str, Mapping[str, Any]] | None = None, **kwargs: Any
    ) -> None:
        """`inputs`: those it has so far, by their names, as a `JobSpec` has them."""
        super().__init__(*args, **kwargs)
        rows = BatchEndpoint.objects.filter(workspace=workspace)
        self.fields["endpoint"].queryset = rows  # type: ignore[attr-defined]
        self.kept = kept_of(inputs or {})
        given = [each for each in ({"data": {}} if inputs is None else inputs).items() if each[0] not in self.kept]
        count = len(given) + SPARE
        if self.is_bound:
            count = max(1, sum(f"input_{number}_value" in self.data for number in range(MOST_INPUTS)))
        for number in range(min(count, MOST_INPUTS)):
            name, value = given[number] if number < len(given) else ("", {})
            self._add_input(number, name, value)

    def _add_input(self, number: int, name: str, value: Mapping[str, Any]) -> None:
        kind = value.get("type", "UriFolder")
        known = TYPES if kind in dict(TYPES) else [*TYPES, (kind, kind)]
        text = forms.TextInput(attrs=dict(NAME_INPUT))
        where = forms.TextInput(attrs={**NAME_INPUT, "placeholder": "azureml:name@latest"})
        first = number == 0
        named = forms.CharField(label=_("Input"), required=False, max_length=LONGEST_INPUT, initial=name, widget=text)
        of_type = forms.ChoiceField(label=_("Type"), choices=known, initial=kind)
        valued = forms.CharField(
            label=_("Address of the data, or the value"),
            required=False,
            max_length=LONGEST_VALUE,
            initial=_value_of(value),
            help_text=_("A data asset (azureml:name@latest for the newest), or a path of a datastore.")
            if first
            else "",
            widget=where,
        )
        for part, field in (("name", named), ("type", of_type), ("value", valued)):
            self.add(f"input_{number}_{part}", field)

    @property
    def inputs(self) -> list[tuple[forms.BoundField, ...]]:
        """(name, type, value) of each row that the page shows at once."""
        return [row for row in self._rows() if row[0].value() or row[2].value() or row[0].name == "input_0_name"]

    @property
    def spare_inputs(self) -> list[tuple[forms.BoundField, ...]]:
        shown = {row[0].name for row in self.inputs}
        return [row for row in self._rows() if row[0].name not in shown]

    def _rows(self) -> list[tuple[forms.BoundField, ...]]:
        numbers = range(MOST_INPUTS)
        return [
            tuple(self[f"input_{number}_{part}"] for part in ("name", "type", "value"))
            for number in numbers
            if f"input_{number}_name" in self.fields
        ]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        taken = set(self.kept)
        for name, kind, value in self._rows():
            given, told = data.get(name.name), data.get(value.name)
            if given and given in taken:
                self.add_error(name.name, _("This input is there already."))
            elif given and not told and data.get(kind.name) != LITERAL and value.name not in self.errors:
                self.add_error(value.name, _("Say where the data is, or the value."))
            elif told and not given and name.name not in self.errors:
                self.add_error(name.name, _("Say which input this is."))
            taken.add(given or "")
        if not any(taken) and not self.errors and self._takes_data(data):
            self.add_error("input_0_value", _("Say where the data is."))
        return data

    def _takes_data(self, data: Mapping[str, Any]) -> bool:
        """Whether it is a model's deployment, as far as one knows today: each job of it needs data."""
        endpoint, name = data["endpoint"], data["deployment"]
        named = endpoint.deployments.filter(name__iexact=name).first() if name else endpoint.default_deployment
        return named is not None and named.type == DeploymentType.MODEL


def times_of(schedule: Schedule) -> list[str]:
    """What no field shows: the recurrence; start and end in UTC, as another time zone does not move them."""
    shown = []
    if given := schedule.recurrence:
        told = {"frequency": given["frequency"], "interval": given["interval"]}
        shown.append(_("Recurrence: frequency %(frequency)s, interval %(interval)s") % told)
    for text, at in ((_("Start time: %(time)s"), schedule.starts_at), (_("End time: %(time)s"), schedule.ends_at)):
        if at is not None:
            shown.append(text % {"time": f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"})
    return shown


def kept_of(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Those that a form cannot show and so leaves as they are: too long, of several lines, or one too many."""
    shown = [name for name, value in inputs.items() if _fits(name, LONGEST_INPUT) and _fits_row(value)][:MOST_INPUTS]
    return {name: value for name, value in inputs.items() if name not in shown}


def _fits_row(value: Mapping[str, Any]) -> bool:
    text = _value_of(value)
    return _fits(text, LONGEST_VALUE) if text else value.get("type") == LITERAL


def _fits(text: str, longest: int) -> bool:
    """Whether a field of one line gives it back as it got it."""
    return len(text) <= longest and text.isprintable() and text == text.strip()


def _value_of(value: Mapping[str, Any]) -> str:
    return str(value.get("uri", value.get("value", "")))


def inputs_of(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The inputs that a form's data names, as a `JobSpec` has them."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(MOST_INPUTS):
        name, value = data.get(f"input_{number}_name"), data.get(f"input_{number}_value") or ""
        if name:
            kind = data.get(f"input_{number}_type") or "UriFolder"
            found[name] = {"type": kind, "value" if kind == LITERAL else "uri": value}
    return found

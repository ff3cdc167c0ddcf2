"""What people type about schedules."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.batch.models import BatchEndpoint
from apps.studio.forms.base import NAME_INPUT, StudioForm
from apps.studio.forms.batch import NAME_HELP, described

TYPES = [("UriFolder", _("Folder")), ("UriFile", _("File"))]


class ScheduleForm(StudioForm):
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
    path = forms.CharField(
        label=_("Address of the data"),
        max_length=2000,
        help_text=_("A data asset (azureml:name@latest for the newest), or a path of a datastore."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "azureml:name@latest"}),
    )
    type = forms.ChoiceField(label=_("Type"), choices=TYPES)
    description = described()
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = BatchEndpoint.objects.filter(workspace=workspace)
        self.fields["endpoint"].queryset = rows  # type: ignore[attr-defined]

"""What people type about a model package. The rules of the domain are checked by the domain."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.builds.enums import ModelMode, PackageServer
from apps.registry.models import EnvironmentVersion
from apps.studio.forms.base import (
    NAME_INPUT,
    ManyFilesField,
    ManyFilesInput,
    MapField,
    StudioForm,
    VersionField,
    usable,
)


class PackageForm(StudioForm):
    name = forms.CharField(
        label=_("Environment to make"),
        max_length=255,
        widget=forms.TextInput(attrs=dict(NAME_INPUT)),
        help_text=_("A package is a version of an environment. A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)
    server = forms.ChoiceField(label=_("Server"), choices=PackageServer.choices, initial=PackageServer.AZUREML_ONLINE)
    mode = forms.ChoiceField(label=_("Model files"), choices=ModelMode.choices, initial=ModelMode.DOWNLOAD)
    environment = VersionField(
        label=_("Base environment"),
        required=False,
        help_text=_("Empty for an MLflow model: the one it declares. Empty for Triton: what its server needs."),
    )
    code = ManyFilesField(
        label=_("Code"),
        required=False,
        help_text=_("The scoring script and what it imports, or one zip archive."),
        widget=ManyFilesInput(attrs={"multiple": True}),
    )
    scoring_script = forms.CharField(
        label=_("Scoring script"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "score.py"}),
    )
    port = forms.IntegerField(
        label=_("Port"),
        min_value=1,
        max_value=65_535,
        required=False,
        help_text=_("Where the image's own server listens. Empty: the routes of the base environment."),
    )
    score_path = forms.CharField(
        label=_("Scoring path"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "/score"}),
    )
    ready_path = forms.CharField(
        label=_("Readiness path"),
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "/"}),
    )
    mount_path = forms.CharField(
        label=_("Model folder"),
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "/var/azureml-app/azureml-models"}),
    )
    environment_variables = MapField(label=_("Environment variables"), placeholder="OMP_NUM_THREADS=1")

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["environment"].rows = usable(EnvironmentVersion, workspace)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if data.get("code") and not data.get("scoring_script") and "scoring_script" not in self.errors:
            self.add_error("scoring_script", _("Name the file among the code that has init() and run()."))
        paths = data.get("score_path") or data.get("ready_path")
        if paths and not data.get("port") and "port" not in self.errors:
            self.add_error("port", _("Name the port as well."))
        return data


def routes_of(data: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of a custom server as Azure's inference configuration."""
    port = data.get("port")
    if not port:
        return None
    ready = {"port": port, "path": data.get("ready_path") or "/"}
    score = {"port": port, "path": data.get("score_path") or "/score"}
    return {"livenessRoute": ready, "readinessRoute": ready, "scoringRoute": score}

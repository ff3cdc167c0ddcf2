"""What people type about batch endpoints, deployments, jobs and clusters. The domain checks the domain's rules."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.batch.domain.specs import RANGES
from apps.batch.enums import ClusterTier, LoggingLevel, OutputAction, ProvisioningState
from apps.batch.models import BatchDeployment, Cluster
from apps.compute.models import InstanceType
from apps.registry.models import EnvironmentVersion, ModelVersion
from apps.studio.forms.base import (
    NAME_INPUT,
    ManyFilesField,
    ManyFilesInput,
    MapField,
    StudioForm,
    TagsField,
    VersionField,
    usable,
)

NAME_HELP = _("3 to 32 letters, digits and dashes.")


def described() -> forms.CharField:
    return forms.CharField(
        label=_("Description"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )


def whole(setting: str, label: Any, *, scale: int = 1, **more: Any) -> forms.IntegerField:
    """A whole number in the range of a setting; `scale`: how many of the setting's units are one of the form's."""
    least, most = RANGES[setting]
    return forms.IntegerField(label=label, min_value=-(-least // scale), max_value=most // scale, **more)


class BatchEndpointEditForm(StudioForm):
    description = described()
    tags = TagsField()


class BatchEndpointForm(BatchEndpointEditForm):
    name = forms.CharField(
        label=_("Name"),
        min_length=3,
        max_length=32,
        help_text=_("3 to 32 letters, digits and dashes. It is part of the URI and unique in this installation."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "autofocus": True}),
    )
    field_order = ["name"]


class BatchDeploymentEditForm(StudioForm):
    """What may change of a model deployment; its name and its endpoint stay."""

    unmarked = ("model",)

    model = VersionField(label=_("Model"), required=False)
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
    environment = VersionField(
        label=_("Environment"), required=False, help_text=_("Empty for an MLflow model: the one it declares.")
    )
    environment_variables = MapField(label=_("Environment variables"), placeholder="OMP_NUM_THREADS=1")
    mini_batch_size = whole("mini_batch_size", _("Mini-batch size"), initial=10, help_text=_("Files for each run()."))
    max_retries = whole("max_retries", _("Retries of a mini-batch"), initial=3)
    timeout_s = whole("timeout_ms", _("Timeout of a mini-batch (s)"), scale=1000, initial=30)
    error_threshold = whole(
        "error_threshold",
        _("Error threshold"),
        initial=-1,
        help_text=_("Failed files that end the job; -1: any number may fail."),
    )
    output_action = forms.ChoiceField(label=_("Output"), choices=OutputAction.choices, initial=OutputAction.APPEND_ROW)
    output_file_name = forms.CharField(
        label=_("Output file"), max_length=255, initial="predictions.csv", widget=forms.TextInput(attrs=NAME_INPUT)
    )
    logging_level = forms.ChoiceField(label=_("Logging level"), choices=LoggingLevel.choices, required=False)
    cluster = forms.ModelChoiceField(label=_("Cluster"), queryset=Cluster.objects.none(), empty_label=None)
    instance_count = whole("instance_count", _("Nodes of a job"), initial=1)
    max_concurrency_per_instance = whole("max_concurrency_per_instance", _("Processes on each node"), initial=1)
    description = described()
    tags = TagsField()

    def __init__(self, *args: Any, workspace: Workspace, current: BatchDeployment | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, model in (("model", ModelVersion), ("environment", EnvironmentVersion)):
            field: Any = self.fields[name]
            field.rows = usable(model, workspace)
            if current is not None:  # what it has now may stay, even when it was archived meanwhile
                field.rows = field.rows | model.objects.filter(pk=getattr(current, f"{name}_id"))
        clusters = Cluster.objects.filter(workspace=workspace).exclude(state=ProvisioningState.DELETING)
        self.fields["cluster"].queryset = clusters  # type: ignore[attr-defined]


class BatchDeploymentForm(BatchDeploymentEditForm):
    name = forms.CharField(
        label=_("Name"), min_length=3, max_length=32, help_text=NAME_HELP, widget=forms.TextInput(attrs=NAME_INPUT)
    )
    field_order = ["name"]


class ClusterEditForm(StudioForm):
    instance_type = forms.ModelChoiceField(
        label=_("Instance type"), queryset=InstanceType.objects.filter(enabled=True), empty_label=None
    )
    tier = forms.ChoiceField(
        label=_("Tier"),
        choices=ClusterTier.choices,
        initial=ClusterTier.DEDICATED,
        help_text=_("Nodes of low priority are taken away when other work needs their room."),
    )
    min_nodes = forms.IntegerField(label=_("Least nodes"), min_value=0, max_value=10_000, initial=0)
    max_nodes = forms.IntegerField(label=_("Most nodes"), min_value=1, max_value=10_000, initial=4)
    idle_s = forms.IntegerField(
        label=_("Idle time before scale down (s)"), min_value=0, max_value=7 * 86_400, initial=120
    )
    description = described()
    tags = TagsField()

    def __init__(self, *args: Any, current: Cluster | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if current is not None:  # what it has can stay
            types: Any = self.fields["instance_type"]
            types.queryset = types.queryset | InstanceType.objects.filter(pk=current.instance_type)


class ClusterForm(ClusterEditForm):
    name = forms.CharField(
        label=_("Name"),
        min_length=2,
        max_length=32,
        help_text=_("2 to 32 letters, digits and dashes."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "autofocus": True}),
    )
    field_order = ["name"]

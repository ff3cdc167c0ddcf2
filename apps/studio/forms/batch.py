"""What people type about batch endpoints, deployments, jobs and clusters. The domain checks the domain's rules."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.batch.domain.specs import RANGES
from apps.batch.enums import ClusterTier, DeploymentType, LoggingLevel, OutputAction, ProvisioningState
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

PATH, UPLOAD = "path", "upload"
SOURCES = [(PATH, _("An address")), (UPLOAD, _("Files from here"))]
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


class JobForm(StudioForm):
    """A job of a model deployment. Settings that are left empty are the deployment's."""

    unmarked = ("path", "upload")

    deployment = forms.ModelChoiceField(
        label=_("Deployment"), queryset=BatchDeployment.objects.none(), to_field_name="pk", empty_label=None
    )
    display_name = forms.CharField(label=_("Display name"), max_length=255, required=False)
    source = forms.ChoiceField(label=_("Data"), choices=SOURCES, initial=PATH, widget=forms.RadioSelect)
    path = forms.CharField(
        label=_("Address of the data"),
        required=False,
        max_length=2000,
        help_text=_("A data asset, a path of a datastore, or a public https address. Type to look into datastores."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "azureml://datastores/workspaceblobstore/paths/"}),
    )
    upload = ManyFilesField(
        label=_("Files"),
        required=False,
        help_text=_("Kept as a new version of a data asset."),
        widget=ManyFilesInput(attrs={"multiple": True}),
    )
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
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "azureml://datastores/NAME/paths/results"}),
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = BatchDeployment.objects.filter(
            endpoint__workspace=workspace, type=DeploymentType.MODEL, state=ProvisioningState.SUCCEEDED
        )
        field: Any = self.fields["deployment"]
        field.queryset = rows.select_related("endpoint", "cluster").order_by("endpoint__name", "name")

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("source") == UPLOAD and not data.get("upload"):
            self.add_error("upload", _("Choose the files."))
        if data.get("source") == PATH and not data.get("path"):
            self.add_error("path", _("Say where the data is."))
        return data


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

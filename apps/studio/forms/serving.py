"""What people type about endpoints and deployments. The rules of the domain are checked by the domain."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.compute.domain import Ledger
from apps.compute.models import InstanceType
from apps.compute.quantities import Size
from apps.core import limits
from apps.core.errors import Problem
from apps.endpoints.enums import AuthMode
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.endpoints.rules import check_name
from apps.endpoints.servers import GRPC_PORT, PROPERTY, Server
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
from apps.studio.pretty import size_words

AUTH_CHOICES = [
    (AuthMode.KEY, _("Key: two keys that stay valid until regenerated")),
    (AuthMode.AML_TOKEN, _("Token: valid for one hour")),
]
SERVER_CHOICES = [
    ("", _("Portway's own: the same contract, many more requests a second")),
    (Server.AZUREML, _("azureml-inference-server-http: Microsoft's, as on Azure")),
]
NEW, EXISTING = "new", "existing"
PROBE_MS = 1000


class EndpointEditForm(StudioForm):
    description = forms.CharField(
        label=_("Description"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )
    auth_mode = forms.ChoiceField(label=_("Authentication"), choices=AUTH_CHOICES)
    public_network_access = forms.BooleanField(
        label=_("Reachable from outside"),
        required=False,
        initial=True,
        help_text=_("Off: only through the private port of the gateway."),
    )
    tags = TagsField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field, mode = self.fields["auth_mode"], self.initial.get("auth_mode")
        if mode in AuthMode.values and mode not in dict(field.choices):  # type: ignore[attr-defined]
            field.choices = [*field.choices, (mode, AuthMode(mode).label)]  # type: ignore[attr-defined]


class EndpointForm(EndpointEditForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=32,
        min_length=3,
        help_text=_(
            "3 to 32 letters, digits and dashes. It becomes part of the URI and is unique in this installation."
        ),
        widget=forms.TextInput(attrs={**NAME_INPUT, "autofocus": True}),
    )
    field_order = ["name"]


class InstanceRadio(forms.RadioSelect):
    """One card per size, with its price; what does not fit now is greyed out and says why."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reasons: dict[str, str] = {}

    def create_option(self, name: Any, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        reason = self.reasons.get(str(value), "")
        option |= {"price": value.instance.price_hour, "reason": reason}
        if reason:
            option["attrs"]["disabled"] = True
        return option


class InstanceChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    widget = InstanceRadio

    def label_from_instance(self, obj: Any) -> str:
        return size_words(Size(obj.cpu_milli, obj.mem_bytes, obj.gpus))

    def offer(self, workspace: Workspace, current: OnlineDeployment | None) -> None:
        """The types this workspace can choose now; the one a deployment has stays possible whatever happens."""
        mine = current.instance_type if current is not None else ""
        self.queryset = InstanceType.objects.filter(Q(enabled=True) | Q(pk=mine))
        ledger = Ledger(workspace, without=current.owner_key if current is not None else "")
        self.widget.reasons = {
            each.name: reason for each in self.queryset if each.name != mine and (reason := _unfit(each, ledger))
        }


def _unfit(instance: InstanceType, ledger: Ledger) -> str:
    """Why not even one instance fits, in a container or without; empty when one does."""
    count, reason = ledger.most(instance)
    return "" if count or ledger.most(instance, container=True)[0] else reason


class DeploymentEditForm(StudioForm):
    """What may change of a deployment; its name and its endpoint stay."""

    unmarked: tuple[str, ...] = ("model",)

    description = forms.CharField(label=_("Description"), required=False, max_length=2000)
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
    server = forms.ChoiceField(
        label=_("Server of the script"),
        choices=SERVER_CHOICES,
        required=False,
        help_text=_("An environment with inference_config brings its own; a Triton model gets Triton."),
    )
    model_mount_path = forms.CharField(
        label=_("Model mount path"),
        max_length=300,
        required=False,
        help_text=_("The model is at <path>/<name>/<version>, and AZUREML_MODEL_DIR says where."),
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "/var/azureml-app/azureml-models"}),
    )
    grpc_port = forms.IntegerField(
        label=_("gRPC port of the container"),
        min_value=1,
        max_value=65_535,
        required=False,
        help_text=_("Only for images of your own that speak gRPC; Triton needs none."),
    )
    instance_type = InstanceChoice(label=_("Instance type"), queryset=InstanceType.objects.none(), empty_label=None)
    instance_count = forms.IntegerField(
        label=_("Instances"),
        min_value=1,
        max_value=limits.RULES["instances_per_deployment"].most,
        initial=1,
    )
    request_timeout_ms = forms.IntegerField(
        label=_("Request timeout (ms)"),
        min_value=1,
        max_value=limits.RULES["request_timeout_ms"].most,
        initial=5000,
    )
    max_concurrent_requests = forms.IntegerField(
        label=_("Concurrent requests"),
        min_value=1,
        max_value=10_000,
        initial=1,
        help_text=_("Per instance; more wait, then get 429."),
    )
    probe_period = forms.IntegerField(
        label=_("Liveness probe: period (s)"), min_value=1, max_value=3600, required=False
    )
    probe_failures = forms.IntegerField(
        label=_("Liveness probe: failures"),
        min_value=1,
        max_value=1000,
        required=False,
        help_text=_("An instance that fails this often in a row is replaced."),
    )
    tags = TagsField()

    def __init__(
        self, *args: Any, workspace: Workspace, current: OnlineDeployment | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields["model"].rows = usable(ModelVersion, workspace)  # type: ignore[attr-defined]
        self.fields["environment"].rows = usable(EnvironmentVersion, workspace)  # type: ignore[attr-defined]
        if current is not None:  # what it has now may stay, even when it was archived meanwhile
            for name in ("model", "environment"):
                field: Any = self.fields[name]
                field.rows = field.rows | field.rows.model.objects.filter(pk=getattr(current, f"{name}_id"))
        self._tell_type()
        types: Any = self.fields["instance_type"]
        types.offer(workspace, current)
        if not self.is_bound and "instance_type" not in self.initial:
            names = [each.pk for each in types.queryset]
            fitting = [each for each in names if each not in types.widget.reasons]
            self.initial["instance_type"] = next(iter([*fitting, *names]), None)

    def _tell_type(self) -> None:
        """The page hides what an MLflow model does not need; without the script of the page nothing is hidden."""
        field = self.fields["model"]
        with suppress(forms.ValidationError):
            field.widget.attrs["data-type"] = getattr(field.clean(str(self["model"].value() or "")), "type", "")

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if data.get("code") and not data.get("scoring_script") and "scoring_script" not in self.errors:
            self.add_error("scoring_script", _("Name the file among the code that has init() and run()."))
        return data


def initial_of(deployment: OnlineDeployment) -> dict[str, Any]:
    """A deployment as the initial values of its form."""
    same = ("description", "scoring_script", "environment_variables", "instance_type", "instance_count")
    named = deployment.properties
    values = {name: getattr(deployment, name) for name in (*same, "request_timeout_ms", "max_concurrent_requests")}
    probe = deployment.liveness_probe
    return values | {
        "tags": deployment.tags,
        "model": deployment.model,
        "environment": deployment.environment,
        "model_mount_path": deployment.model_mount_path,
        "server": named[PROPERTY] if named.get(PROPERTY) == Server.AZUREML else "",
        "grpc_port": named.get(GRPC_PORT),
        "probe_failures": probe.get("failureThreshold"),
    }


class DeployForm(DeploymentEditForm):
    """A deployment, and the endpoint it goes under when that is new."""

    unmarked = ("model", "new_name", "auth_mode", "endpoint", "share")

    target = forms.ChoiceField(
        label=_("Endpoint"),
        choices=[(NEW, _("New endpoint")), (EXISTING, _("Existing endpoint"))],
        widget=forms.RadioSelect,
    )
    new_name = forms.CharField(
        label=_("Name of the new endpoint"),
        max_length=32,
        required=False,
        help_text=_("It becomes part of the URI and is unique in this installation."),
        widget=forms.TextInput(attrs=dict(NAME_INPUT)),
    )
    auth_mode = forms.ChoiceField(label=_("Authentication"), choices=AUTH_CHOICES, required=False)
    endpoint = forms.CharField(
        label=_("Existing endpoint"),
        max_length=32,
        required=False,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": _("Name")}),
    )
    name = forms.CharField(
        label=_("Deployment name"),
        max_length=32,
        min_length=3,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "blue"}),
    )
    share = forms.IntegerField(
        label=_("Traffic when ready (%)"),
        min_value=0,
        max_value=100,
        required=False,
        help_text=_("0: test it first, move traffic later. The others keep their proportions."),
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, workspace=workspace, **kwargs)
        self.workspace = workspace

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if data.get("target") == NEW:
            self._check_new(data.get("new_name", ""))
        elif data.get("endpoint"):
            data["found"] = OnlineEndpoint.objects.filter(workspace=self.workspace, name=data["endpoint"]).first()
            if data["found"] is None:
                self.add_error("endpoint", _("There is no such endpoint in this workspace."))
        else:
            self.add_error("endpoint", _("Choose an endpoint."))
        if data.get("share") is None and "share" not in self.errors:
            data["share"] = 0 if getattr(data.get("found"), "traffic", None) else 100
        return data

    def _check_new(self, name: str) -> None:
        """The domain says it too, but not whether it means the endpoint's name or the deployment's."""
        problem = None
        try:
            check_name("endpoint", name)
            if OnlineEndpoint.objects.filter(name__iexact=name).exists():
                problem = Problem("exists", kind="Endpoint", name=name)
        except Problem as found:
            problem = found
        if not name:
            self.add_error("new_name", _("Give the new endpoint a name."))
        elif problem:
            self.add_error("new_name", f"{problem.message} {problem.next_step}".strip())


class ScaleForm(StudioForm):
    instance_count = forms.IntegerField(
        label=_("Instances"),
        min_value=1,
        max_value=limits.RULES["instances_per_deployment"].most,
    )

"""What people type, parsed. The rules of the domain are checked by the domain."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.compute.models import InstanceType
from apps.core import limits
from apps.endpoints.enums import AuthMode
from apps.registry.enums import ModelType
from apps.registry.models import EnvironmentVersion, ModelVersion

TAGS_LIMIT = 50
CONDA_EXAMPLE = """\
name: model
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - scikit-learn
"""


class StudioForm(forms.Form):
    """A form whose controls carry the classes of our style sheet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            widget = field.widget
            kind = (
                "textarea"
                if isinstance(widget, forms.Textarea)
                else "select"
                if isinstance(widget, forms.Select)
                else "input"
            )
            widget.attrs.setdefault("class", kind)
            if field.help_text and isinstance(self.auto_id, str):
                widget.attrs["aria-describedby"] = f"{self.auto_id % name}-help"


class TagsField(forms.CharField):
    """One `key=value` per line."""

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, label=_("Tags"), help_text=_("One key=value per line."), **kwargs)
        self.widget.attrs.update({"rows": 2, "placeholder": "team=vision"})

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        tags = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            key, sign, content = line.partition("=")
            if not sign or not key.strip():
                raise forms.ValidationError(_("“%(line)s” is not key=value."), params={"line": line[:60]})
            tags[key.strip()] = content.strip()
        if len(tags) > TAGS_LIMIT:
            raise forms.ValidationError(_("At most %(limit)s tags."), params={"limit": TAGS_LIMIT})
        return tags


class EndpointForm(StudioForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=32,
        min_length=3,
        help_text=_(
            "3 to 32 letters, digits and dashes. It becomes part of the URI and is unique in this installation."
        ),
        widget=forms.TextInput(
            attrs={"autofocus": True, "autocomplete": "off", "spellcheck": "false", "class": "input mono"}
        ),
    )
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)
    auth_mode = forms.ChoiceField(
        label=_("Authentication"),
        choices=[
            (AuthMode.KEY, _("Key: two keys that stay valid until regenerated")),
            (AuthMode.AML_TOKEN, _("Token: valid for one hour")),
        ],
    )
    tags = TagsField()


class VersionChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Versions of assets as name:version; `type` is passed on for the form's script."""

    def label_from_instance(self, obj: Any) -> str:
        kind = getattr(obj, "get_type_display", None)
        return f"{obj} · {kind()}" if kind else str(obj)


class TypedSelect(forms.Select):
    """Options that tell whether their model is an MLflow model, which needs no script."""

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **kwargs)
        instance = getattr(value, "instance", None)
        if instance is not None:
            option["attrs"]["data-type"] = instance.type
        return option


class InstanceChoice(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        return _("%(name)s · %(cpu)s CPU · %(mem)s GiB") % {
            "name": obj.name,
            "cpu": f"{obj.cpu_milli / 1000:g}",
            "mem": f"{obj.mem_bytes / 2**30:.3g}",
        }


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Every file of a file input that takes several."""

    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> Any:
        given = data if isinstance(data, list | tuple) else [data] if data else []
        return [super(ManyFilesField, self).clean(each, initial) for each in given]


class DeploymentForm(StudioForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=32,
        min_length=3,
        widget=forms.TextInput(
            attrs={"placeholder": "blue", "autocomplete": "off", "spellcheck": "false", "class": "input mono"}
        ),
    )
    model = VersionChoice(
        label=_("Model"),
        queryset=ModelVersion.objects.none(),
        required=False,
        empty_label=_("Choose a model"),
        widget=TypedSelect,
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
        help_text=_("Per instance."),
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
        widget=forms.TextInput(attrs={"placeholder": "score.py", "class": "input mono"}),
    )
    environment = VersionChoice(
        label=_("Environment"),
        queryset=EnvironmentVersion.objects.none(),
        required=False,
        empty_label=_("The one the model declares"),
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        here = {"asset__workspace": workspace, "is_archived": False, "asset__is_archived": False}
        choices: dict[str, Any] = {
            "model": ModelVersion.objects.filter(**here).select_related("asset").order_by("asset__name", "-created_at"),
            "environment": EnvironmentVersion.objects.filter(**here)
            .select_related("asset")
            .order_by("asset__name", "-created_at"),
            "instance_type": InstanceType.objects.all(),
        }
        for name, rows in choices.items():
            self.fields[name].queryset = rows  # type: ignore[attr-defined]


class ScaleForm(StudioForm):
    instance_count = forms.IntegerField(
        label=_("Instances"),
        min_value=1,
        max_value=limits.RULES["instances_per_deployment"].most,
    )


class ModelForm(StudioForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "input mono"}),
        help_text=_("A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    type = forms.ChoiceField(
        label=_("Type"),
        required=False,
        choices=[("", _("Detect: MLflow when there is an MLmodel file, else custom")), *ModelType.choices],
    )
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)


class EnvironmentForm(StudioForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "input mono"}),
        help_text=_("A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)
    conda_file = forms.CharField(
        label=_("Conda file"),
        max_length=200_000,
        help_text=_("The YAML of conda env export, or one you write."),
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false", "class": "textarea mono"}),
        initial=CONDA_EXAMPLE,
    )


class TokenForm(StudioForm):
    name = forms.CharField(label=_("Name"), max_length=60, help_text=_("What it is for, so that you know later."))
    days = forms.TypedChoiceField(
        label=_("Expires"),
        coerce=int,
        initial=90,
        choices=[(30, _("in 30 days")), (90, _("in 90 days")), (365, _("in a year")), (0, _("never"))],
    )

"""What people type about models, environments, their own account and tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.registry.enums import ModelType
from apps.registry.routes import on_one_port
from apps.studio.forms.base import NAME_INPUT, StudioForm

CONDA_EXAMPLE = """\
name: model
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - scikit-learn
"""


class ModelForm(StudioForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        widget=forms.TextInput(attrs=dict(NAME_INPUT)),
        help_text=_("A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    type = forms.ChoiceField(
        label=_("Type"),
        required=False,
        choices=[("", _("Detect: MLflow when there is an MLmodel file, else custom")), *ModelType.choices],
    )
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)


class RunForm(StudioForm):
    uri = forms.RegexField(
        r"(runs|models):/.+",
        label=_("Address in MLflow"),
        max_length=500,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "runs:/<run id>/model"}),
        help_text=_("Choose one below, or write runs:/<run id>/<path> or models:/<name>/<version>."),
    )
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        widget=forms.TextInput(attrs=dict(NAME_INPUT)),
        help_text=_("A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)


class EnvironmentBase(StudioForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        widget=forms.TextInput(attrs=dict(NAME_INPUT)),
        help_text=_("A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    description = forms.CharField(label=_("Description"), required=False, max_length=2000)
    port = forms.IntegerField(
        label=_("Port"), min_value=1, max_value=65_535, required=False, help_text=_("Where the image's server listens.")
    )
    score_path = forms.CharField(
        label=_("Scoring path"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "/score"}),
        help_text=_("It becomes the endpoint's scoring URI; other paths reach the server too."),
    )
    ready_path = forms.CharField(
        label=_("Readiness path"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "/"}),
        help_text=_("Answers 200 when requests may come."),
    )
    live_path = forms.CharField(
        label=_("Liveness path"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": _("as readiness")}),
        help_text=_("When it is silent for long, the instance is replaced."),
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if any(data.get(name) for name in ("score_path", "ready_path", "live_path")) and not data.get("port"):
            self.add_error("port", _("Say where the server listens."))
        return data


def inference_config(data: dict[str, Any]) -> dict[str, Any] | None:
    """The routes that the fields of a form say; None when the image brings no server."""
    if not data.get("port"):
        return None
    score, ready, live = (data.get(name) or "" for name in ("score_path", "ready_path", "live_path"))
    return on_one_port(data["port"], score=score or "/score", ready=ready or "/", live=live)


class EnvironmentForm(EnvironmentBase):
    unmarked = ("conda_file",)
    image = forms.CharField(
        label=_("Image"),
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "registry.example/team/image:1.0"}),
        help_text=_("For Docker compute. Empty: the image of this installation. Processes use the packages alone."),
    )
    conda_file = forms.CharField(
        label=_("Conda file"),
        required=False,
        max_length=200_000,
        help_text=_("The YAML of conda env export, or one you write. Empty: the image as it is."),
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false", "class": "textarea mono"}),
        initial=CONDA_EXAMPLE,
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if not data.get("image") and data.get("port"):
            self.add_error("image", _("The server's image is missing."))
        elif not data.get("image") and not data.get("conda_file") and not self.errors:
            self.add_error("conda_file", _("Give a conda file, an image, or both."))
        return data


class ContextForm(EnvironmentBase):
    dockerfile_path = forms.CharField(
        label=_("Dockerfile"),
        required=False,
        max_length=400,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "Dockerfile"}),
        help_text=_("Its path in the folder. Empty: Dockerfile."),
    )


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("first_name", "last_name", "email")

    def __init__(self, data: Any = None, *, instance: User) -> None:
        super().__init__(data, instance=instance, label_suffix="")
        for field in self.fields.values():
            field.widget.attrs["class"] = "input"
            field.marked = True  # type: ignore[attr-defined]

    def clean_email(self) -> str:
        """One signs in with it too, so nobody else may have it."""
        email: str = self.cleaned_data["email"]
        others = User.objects.exclude(pk=self.instance.pk)
        if email and others.filter(Q(email__iexact=email) | Q(username__iexact=email)).exists():
            raise forms.ValidationError(_("Somebody else has this address."))
        return email


class TokenForm(StudioForm):
    name = forms.CharField(label=_("Name"), max_length=60, help_text=_("What it is for, so that you know later."))
    days = forms.TypedChoiceField(
        label=_("Expires"),
        coerce=int,
        initial=90,
        choices=[(30, _("in 30 days")), (90, _("in 90 days")), (365, _("in a year")), (0, _("never"))],
    )

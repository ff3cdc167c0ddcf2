"""Where data comes from: an address, or files of the person who fills in the form."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from apps.studio.forms.base import NAME_INPUT, ManyFilesField, ManyFilesInput, StudioForm

PATH, UPLOAD = "path", "upload"
SOURCES = [(PATH, _("An address")), (UPLOAD, _("Files from here"))]


class SourceForm(StudioForm):
    """Asks for the one that is chosen. `path_help`, `upload_help`: what stands below them."""

    unmarked = (PATH, UPLOAD)
    path_help: ClassVar[str | Promise] = ""
    upload_help: ClassVar[str | Promise] = ""

    source = forms.ChoiceField(label=_("Data"), choices=SOURCES, initial=PATH, widget=forms.RadioSelect)
    path = forms.CharField(
        label=_("Address of the data"),
        required=False,
        max_length=2000,
        widget=forms.TextInput(attrs={**NAME_INPUT, "placeholder": "azureml://datastores/workspaceblobstore/paths/"}),
    )
    upload = ManyFilesField(label=_("Files"), required=False, widget=ManyFilesInput(attrs={"multiple": True}))

    def _dress(self, name: str, field: forms.Field) -> None:
        if name in (PATH, UPLOAD):
            field.help_text = str({PATH: self.path_help, UPLOAD: self.upload_help}[name])
        super()._dress(name, field)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("source") == UPLOAD and not data.get("upload"):
            self.add_error("upload", _("Choose the files."))
        if data.get("source") == PATH and not data.get("path"):
            self.add_error("path", _("Say where the data is."))
        return data

"""What people type about data assets and datastores."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.registry.datastores import stored_credentials
from apps.registry.enums import DatastoreType, DataType
from apps.registry.models import Datastore
from apps.studio.forms.base import NAME_INPUT, StudioForm, TagsField
from apps.studio.forms.batch import described
from apps.studio.forms.sources import SourceForm

KINDS = [(str(each), each.label) for each in (DatastoreType.S3, DatastoreType.AZURE_BLOB)]
SETTINGS = {
    DatastoreType.S3: {"bucket_name": "bucketName", "endpoint": "endpoint", "region": "region", "folder": "prefix"},
    DatastoreType.AZURE_BLOB: {
        "account_name": "accountName",
        "container_name": "containerName",
        "endpoint": "endpoint",
        "folder": "prefix",
    },
}
KEEP, REPLACE, NOTHING = "keep", "replace", "none"
CHOICES = [(KEEP, _("Keep those it has")), (REPLACE, _("Replace them")), (NOTHING, _("Without credentials"))]
FIELD_OF = {wire: name for words in SETTINGS.values() for name, wire in words.items()}


class DataForm(SourceForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=255,
        widget=forms.TextInput(attrs=dict(NAME_INPUT)),
        help_text=_("A name that exists gets a new version."),
    )
    version = forms.CharField(label=_("Version"), max_length=64, required=False, help_text=_("Empty: the next number."))
    type = forms.ChoiceField(label=_("Type"), choices=DataType.choices, initial=DataType.FOLDER)
    description = described()
    tags = TagsField()
    path_help = _("A path of a datastore or a public https address. Type to look into datastores.")


def text(label: Any, placeholder: str = "", **more: Any) -> forms.CharField:
    widget = forms.TextInput(attrs={**NAME_INPUT, "placeholder": placeholder})
    return forms.CharField(label=label, required=False, max_length=500, widget=widget, **more)


def secret(label: Any) -> forms.CharField:
    """Write-only: what was typed is sent, never shown again."""
    widget = forms.PasswordInput(attrs={**NAME_INPUT, "autocomplete": "new-password"})
    return forms.CharField(label=label, required=False, max_length=2000, widget=widget)


class SecretsForm(StudioForm):
    """What all forms of datastores have."""

    access_key_id = text(_("Access key id"), help_text=_("Without keys only what is public can be read."))
    key = secret(_("Secret key"))
    sas_token = secret(_("SAS token"))
    description = described()
    tags = TagsField()

    def given(self, type: str) -> dict[str, Any]:  # noqa: A002 -- Azure's word
        """The credentials that were typed, as the domain takes them."""
        data = self.cleaned_data
        if type == DatastoreType.S3:
            given = {"accessKeyId": data["access_key_id"], "key": data["key"]}
        else:
            given = {"sasToken": data["sas_token"]} if data["sas_token"] else {"key": data["key"]}
        given = {name: value for name, value in given.items() if value}
        if not given:
            return {"credentialsType": "None"}
        return {"credentialsType": "Sas" if "sasToken" in given else "AccountKey", **given}


class DatastoreForm(SecretsForm):
    """Of the fields of the other type nothing is taken."""

    name = forms.CharField(
        label=_("Name"), max_length=255, widget=forms.TextInput(attrs={**NAME_INPUT, "autofocus": True})
    )
    type = forms.ChoiceField(label=_("Type"), choices=KINDS, initial=DatastoreType.S3, widget=forms.RadioSelect)
    bucket_name = text(_("Bucket"))
    region = text(_("Region"), "eu-central-1")
    account_name = text(_("Storage account"))
    container_name = text(_("Container"))
    endpoint = text(_("Endpoint"), "https://…", help_text=_("Empty: that of the cloud."))
    folder = text(_("Folder"), help_text=_("Nothing outside of it can be seen. Empty: all of it."))

    def settings(self) -> dict[str, Any]:
        names = SETTINGS[DatastoreType(self.cleaned_data["type"])]
        return {wire: self.cleaned_data[name] for name, wire in names.items() if self.cleaned_data[name]}

    def credentials(self) -> dict[str, Any]:
        return self.given(self.cleaned_data["type"])


class DatastoreEditForm(SecretsForm):
    """The secrets it has are nowhere in the form: they stay, go, or others are typed."""

    choice = forms.ChoiceField(label=_("Credentials"), choices=CHOICES, initial=KEEP, widget=forms.RadioSelect)

    def __init__(self, *args: Any, store: Datastore, **kwargs: Any) -> None:
        self.store = store
        self.kept = stored_credentials(store)
        initial = {"description": store.description, "tags": store.tags}
        super().__init__(*args, initial=initial | {"access_key_id": self.kept.get("accessKeyId", "")}, **kwargs)
        secrets = {DatastoreType.S3: ("access_key_id", "key"), DatastoreType.AZURE_BLOB: ("key", "sas_token")}
        for name in {"access_key_id", "key", "sas_token"} - set(secrets.get(DatastoreType(store.type), ())):
            del self.fields[name]
        if store.type not in secrets:
            del self.fields["choice"]

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        for name in ("access_key_id", "key", "sas_token"):
            data.setdefault(name, "")
        if data.get("choice") == REPLACE and not data["key"] and not data["sas_token"]:
            self.add_error("key", _("Type the new secret."))
        return data

    def credentials(self) -> dict[str, Any]:
        choice = self.cleaned_data.get("choice", NOTHING)
        if choice == REPLACE:
            return self.given(self.store.type)
        return {"credentialsType": self.kept["credentialsType"] if choice == KEEP else "None"}

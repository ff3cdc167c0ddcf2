"""Fields and behaviour that the forms share."""

from __future__ import annotations

import json
import re
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.registry.queries import latest

MAP_LIMIT = 50
REFERENCE = re.compile(r"(?:azureml:)?(?P<name>[^:@/\s]+)(?::(?P<version>[^:@/\s]+)|@latest)?")


class StudioForm(forms.Form):
    """A form whose controls carry the classes of our style sheet.

    `unmarked` names fields that are not called optional though the browser does not demand them: the form itself does.
    """

    unmarked: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            self._dress(name, field)

    def add(self, name: str, field: forms.Field) -> None:
        """One more field, of what only the data says that there is."""
        self.fields[name] = field
        self._dress(name, field)

    def _dress(self, name: str, field: forms.Field) -> None:
        field.marked = not field.required and name not in self.unmarked  # type: ignore[attr-defined]
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
        if isinstance(widget, forms.RadioSelect | forms.CheckboxInput):
            widget.attrs["class"] = ""


class MapField(forms.CharField):
    """One `key=value` per line."""

    widget = forms.Textarea

    def __init__(self, *, placeholder: str = "", **kwargs: Any) -> None:
        super().__init__(
            required=False,
            **{
                "strip": True,
                "help_text": _("One key=value per line; a value with line breaks in quotes, as JSON."),
                **kwargs,
            },
        )
        self.widget.attrs.update(
            {"rows": 2, "placeholder": placeholder, "spellcheck": "false", "class": "textarea mono"}
        )

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{key}={_written(each)}" for key, each in value.items()) if isinstance(value, dict) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        found = {}
        for line in filter(None, map(str.strip, text.replace("\r\n", "\n").split("\n"))):
            key, sign, content = (each.strip() for each in line.partition("="))
            if not sign or not key:
                raise forms.ValidationError(_("“%(line)s” is not key=value."), params={"line": line[:60]})
            if key in found:
                raise forms.ValidationError(_("“%(key)s” is given twice."), params={"key": key[:60]})
            found[key] = _read(content)
        if len(found) > MAP_LIMIT:
            raise forms.ValidationError(_("At most %(limit)s lines."), params={"limit": MAP_LIMIT})
        return found


def _written(value: str) -> str:
    """A value as it stands in its line: in JSON's quotes when it would not survive without them."""
    plain = value == value.strip() and not value.startswith('"') and value.isprintable()
    return value if plain else json.dumps(value)


def _read(text: str) -> str:
    """A value that begins with a quote is JSON's; anything else stands for itself."""
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, str):
        raise forms.ValidationError(_("“%(text)s” is not a text in quotes."), params={"text": text[:60]})
    return value


class TagsField(MapField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("Tags"), placeholder="team=vision", **kwargs)


class VersionField(forms.CharField):
    """An asset's version as `name:version`, `name@latest` or just its name; the form names the workspace's rows.

    Cleaned to the version itself, or None when it may be left out.
    """

    widget = forms.TextInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=330, **kwargs)
        self.rows: QuerySet[Any] | None = None
        self.widget.attrs.update({"class": "input mono", "spellcheck": "false", "placeholder": "name:version"})

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text or self.rows is None:
            return None
        match = REFERENCE.fullmatch(text)
        found = None
        if match is not None:
            named = self.rows.filter(asset__name=match["name"]).select_related("asset")
            if match["version"]:
                found = named.filter(version=match["version"]).first()
            elif (newest := named.first()) is not None:
                found = latest(newest.asset)
        if found is None:
            raise forms.ValidationError(_("There is no %(text)s in this workspace."), params={"text": text[:100]})
        return found


def usable(model: Any, workspace: Workspace) -> QuerySet[Any]:
    """The versions of a kind of asset that may be deployed."""
    rows: QuerySet[Any] = model.objects.filter(asset__workspace=workspace, is_archived=False, asset__is_archived=False)
    return rows


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Every file of a file input that takes several."""

    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> Any:
        given = data if isinstance(data, list | tuple) else [data] if data else []
        return [super(ManyFilesField, self).clean(each, initial) for each in given]


NAME_INPUT = {"autocomplete": "off", "spellcheck": "false", "class": "input mono"}


def differences(form: forms.Form, present: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(label, present value) of each field that somebody else's change has made different from what was typed."""
    found = []
    for name, value in present.items():
        bound = form[name]
        shown = bound.field.prepare_value(value)
        if form.cleaned_data.get(name) != value and bound.value() != shown:
            found.append((bound.label, shown if shown not in (None, "") else "–"))  # noqa: RUF001 -- nothing
    return found

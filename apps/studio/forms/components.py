"""What people type about components, and about deployments of those that are pipelines."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import Workspace
from apps.batch.enums import ProvisioningState
from apps.batch.models import BatchDeployment, Cluster
from apps.core.errors import Problem
from apps.registry import components
from apps.registry.models import ComponentVersion, Datastore
from apps.registry.pipelines.written import LONGEST, Unreadable, Written
from apps.studio.forms.base import (
    NAME_INPUT,
    ManyFilesField,
    ManyFilesInput,
    StudioForm,
    TagsField,
    VersionField,
    usable,
)
from apps.studio.forms.batch import NAME_HELP, described

EXAMPLE = """\
type: pipeline
name: word_count
version: 1
inputs:
  documents: {type: uri_folder}
  longest: {type: integer, default: 20, min: 1}
outputs:
  counts: {type: uri_folder}
jobs:
  split:
    type: command
    component:
      type: command
      environment: azureml:%(environment)s@latest
      inputs:
        documents: {type: uri_folder}
      outputs:
        words: {type: uri_folder}
      command: >-
        cat ${{inputs.documents}}/* | tr -cs '[:alnum:]' '\\n' > ${{outputs.words}}/words.txt
    inputs:
      documents: ${{parent.inputs.documents}}
  count:
    type: command
    component:
      type: command
      environment: azureml:%(environment)s@latest
      inputs:
        words: {type: uri_folder}
        longest: {type: integer}
      outputs:
        counts: {type: uri_folder}
      command: >-
        sort ${{inputs.words}}/words.txt | uniq -c | sort -rn
        | head -n ${{inputs.longest}} > ${{outputs.counts}}/counts.txt
    inputs:
      words: ${{parent.jobs.split.outputs.words}}
      longest: ${{parent.inputs.longest}}
    outputs:
      counts: ${{parent.outputs.counts}}
"""


def at_line(line: int | None, message: Any) -> Any:
    """What is wrong, with the line of the file if one is to blame."""
    return _("Line %(line)s: %(message)s") % {"line": line, "message": message} if line else message


class ComponentForm(StudioForm):
    """`text` is cleaned to what is written there. A file that came along takes its place."""

    unmarked = ("text",)

    text = forms.CharField(
        label=_("YAML"),
        required=False,
        strip=False,
        help_text=_(
            "The file of az ml component create: a command, or a pipeline of commands. Name and version are in it."
        ),
        widget=forms.Textarea(attrs={"rows": 20, "spellcheck": "false", "class": "textarea mono"}),
    )
    file = forms.FileField(label=_("Take it from a file"), required=False)
    code = ManyFilesField(
        label=_("Code"),
        required=False,
        help_text=_("The files that a command component names as code: one zip archive, or any number of files."),
        widget=ManyFilesInput(attrs={"multiple": True}),
    )

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        text = self._text(data)
        if "text" in self.errors:
            return data
        try:
            data["text"] = written = Written(text)
        except Unreadable as error:
            del data["text"]  # as other fields that are wrong are not there
            self.add_error("text", at_line(error.line, error.reason))
            return data
        named = written.document.get("code")
        if not isinstance(written.document.get("name"), str):
            self.add_error("text", at_line(written.line_of("name"), _("Give it a name: a line “name: …”.")))
        if data.get("code") and written.document.get("type") != "command":
            self.add_error("code", _("Only a command component has code of its own."))
        elif isinstance(named, str) and named and not data.get("code") and not named.startswith(("azureml:", "/")):
            line = written.line_of("code")
            self.add_error("code", at_line(line, _("Choose the files of %(code)s.") % {"code": named[:60]}))
        return data

    def _text(self, data: dict[str, Any]) -> str:
        """The text of the file, shown in the editor from here on, or what was typed."""
        file = data.get("file")
        if not file:
            return data.get("text") or ""
        content = file.read(4 * LONGEST + 1)  # bytes of as many characters
        try:
            text = str(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            text = ""
        if not text or len(text) > LONGEST:
            self.add_error("file", _("It must be text in UTF-8, of at most %(limit)s characters.") % {"limit": LONGEST})
            return data.get("text") or ""
        shown: Any = self.data
        self.data = shown.copy()
        self.data["text"] = text  # type: ignore[index]
        return text


class PipelineDeploymentEditForm(StudioForm):
    component = VersionField(
        label=_("Pipeline component"), help_text=_("Its inputs and outputs are those of the jobs.")
    )
    cluster = forms.ModelChoiceField(
        label=_("Default compute"),
        queryset=Cluster.objects.none(),
        required=False,
        empty_label=_("None: every step names its own"),
        help_text=_("The cluster of the steps that name none."),
    )
    default_datastore = forms.ModelChoiceField(
        label=_("Default datastore"),
        queryset=Datastore.objects.none(),
        required=False,
        empty_label=_("That of the workspace"),
        to_field_name="name",
        help_text=_("Where outputs go that a job gives no place."),
    )
    continue_on_step_failure = forms.BooleanField(
        label=_("Continue on step failure"),
        required=False,
        initial=True,
        help_text=_("Steps that do not depend on the failed one still run; the job fails all the same."),
    )
    force_rerun = forms.BooleanField(
        label=_("Force rerun"),
        required=False,
        help_text=_("Run every step, also when the same was done before."),
    )
    description = described()
    tags = TagsField()

    def __init__(self, *args: Any, workspace: Workspace, current: BatchDeployment | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["component"]
        field.rows = usable(ComponentVersion, workspace)
        if current is not None:  # what it has now may stay, even when it was archived meanwhile
            field.rows = field.rows | ComponentVersion.objects.filter(pk=current.component_id)
        clusters = Cluster.objects.filter(workspace=workspace).exclude(state=ProvisioningState.DELETING)
        self.fields["cluster"].queryset = clusters  # type: ignore[attr-defined]
        self.fields["default_datastore"].queryset = Datastore.objects.filter(workspace=workspace)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """A job without any cluster fails: better said here."""
        data: dict[str, Any] = super().clean() or {}
        component = data.get("component")
        if component is None or component.type != "pipeline" or data.get("cluster") or "cluster" in self.errors:
            return data
        try:
            graph = components.graph_of(component)
        except Problem as problem:
            self.add_error("component", problem.message)
            return data
        bare = [name for name, step in graph.steps.items() if not step.compute]
        if bare:
            self.add_error("cluster", _("Step %(step)s names none: choose one.") % {"step": bare[0]})
        return data


class PipelineDeploymentForm(PipelineDeploymentEditForm):
    name = forms.CharField(
        label=_("Name"), min_length=3, max_length=32, help_text=NAME_HELP, widget=forms.TextInput(attrs=NAME_INPUT)
    )
    field_order = ["name"]

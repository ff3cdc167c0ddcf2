"""The settings of a pipeline job (spec 3.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.accounts.models import Workspace
from apps.registry import locations, references
from apps.registry.pipelines import fields

NAMES = ("default_compute", "default_datastore", "continue_on_step_failure", "force_rerun")
FLAGS = {"continue_on_step_failure": True, "force_rerun": False}  # with what each is when nobody says
BESIDE = ("component_description", "component_tags", "_source")  # what is stored or sent with them


@dataclass(frozen=True)
class Options:
    """`compute`: the cluster of steps that name none; may be empty. `datastore`: where outputs go."""

    compute: str
    datastore: str
    continue_on_step_failure: bool
    force_rerun: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], *, workspace: Workspace, compute: str = "") -> Options:
        """`compute`: for want of default_compute. Raises Problem "bad-field" or "unknown-field"."""
        fields.only(dict(given), (*NAMES, *BESIDE), "settings")
        named = fields.text(given.get("default_compute"), "settings.default_compute") or compute
        if named:
            named = references.resource_name(
                named, workspace=workspace, kind="computes", field="settings.default_compute"
            )
        datastore = fields.text(given.get("default_datastore"), "settings.default_datastore")
        if datastore:
            field = "settings.default_datastore"
            datastore = references.resource_name(datastore, workspace=workspace, kind="datastores", field=field)
            locations.datastore_named(workspace, datastore, field)
        return cls(compute=named, datastore=datastore or "workspaceblobstore", **flags_of(given))

    def place(self, job: str, output: str) -> str:
        """Where an output comes to lie when nobody says otherwise."""
        return f"azureml://datastores/{self.datastore}/paths/azureml/{job}/{output}"


def flags_of(given: Mapping[str, Any]) -> dict[str, bool]:
    """The settings that are true or false, by name. Raises Problem "bad-field"."""
    return {name: fields.flag(given.get(name), f"settings.{name}", default=each) for name, each in FLAGS.items()}

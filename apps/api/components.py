"""Components on the wire (wire 5.7)."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from apps.accounts.models import Workspace
from apps.api import serializers as shapes
from apps.api.references import asset_id
from apps.registry import domain
from apps.registry.models import Component, ComponentVersion
from apps.registry.pipelines.interface import INPUT_MODES, OUTPUT_MODES


class ComponentKind:
    kind = "components"
    label = "component"
    series = Component
    versions = ComponentVersion
    body = shapes.ComponentBody
    related = ("asset__workspace", "created_by", "code__asset", "environment__asset")
    workspace: Workspace
    request: Request

    def properties_of(self, version: ComponentVersion) -> dict[str, Any]:
        return {"componentSpec": show_spec(version, self.workspace)}

    def register(self, name: str, version: str, given: dict[str, Any], common: dict[str, Any]) -> tuple[Any, bool]:
        return domain.register_component(
            workspace=self.workspace,
            name=name,
            version=version,
            document=given["componentSpec"],
            actor=self.request.user,
            **common,
        )


def show_spec(version: ComponentVersion, workspace: Workspace) -> dict[str, Any]:
    """The component as the SDK reads it; a PUT of it changes nothing."""
    spec = {key: value for key, value in version.spec.items() if value not in ("", {})}
    shown: dict[str, Any] = {
        **spec,
        "name": version.asset.name,
        "version": version.version,
        "_source": "REMOTE.WORKSPACE.COMPONENT",
        **({"display_name": version.display_name} if version.display_name else {}),
        **({"description": version.description} if version.description else {}),
    }
    for key, kind in (("code", "codes"), ("environment", "environments")):
        if key in shown:
            shown[key] = f"azureml:{asset_id(workspace, kind, getattr(version, key))}"
    if "jobs" in shown:
        shown["jobs"] = {name: _step(name, step, workspace) for name, step in shown["jobs"].items()}
        shown["sourceJobId"] = None
    return shown


def _step(name: str, step: dict[str, Any], workspace: Workspace) -> dict[str, Any]:
    _, component, version = step["component"].split(":")
    shown = {key: value for key, value in step.items() if key not in ("component", "compute", "inputs", "outputs")}
    shown |= {
        "name": name,
        "componentId": f"{workspace.arm_id}/components/{component}/versions/{version}",
        "_source": "REMOTE.WORKSPACE.COMPONENT",
    }
    if "compute" in step:
        shown["computeId"] = f"{workspace.arm_id}/computes/{step['compute']}"
    if "inputs" in step:
        shown["inputs"] = {key: _bound(each, "job_input_type", INPUT_MODES) for key, each in step["inputs"].items()}
    if "outputs" in step:
        shown["outputs"] = {key: _bound(each, "job_output_type", OUTPUT_MODES) for key, each in step["outputs"].items()}
    return shown


def _bound(given: Any, word: str, modes: dict[str, str]) -> dict[str, Any]:
    """A value of a step, a binding or files, as a job has it."""
    if not isinstance(given, dict):
        return {word: "literal", "value": given}
    mode = {"mode": modes[given["mode"]]} if "mode" in given else {}
    path = given.get("path", "")
    if path.startswith("${{"):
        return {word: "literal", "value": path, **mode}
    return {**({word: given["type"]} if given.get("type") else {}), **({"uri": path} if path else {}), **mode}

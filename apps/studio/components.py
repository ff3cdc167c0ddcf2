"""What pages say of components: their steps with where everything comes from, their YAML, what deployments set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.batch.domain.options import Options
from apps.batch.models import BatchDeployment
from apps.core.errors import Problem
from apps.registry import components
from apps.registry.models import ComponentVersion
from apps.registry.pipelines.graph import Graph, Literal, ParentInput, Source, Step, StepOutput
from apps.registry.pipelines.interface import Data, text_of
from apps.studio.ascode import dumped
from apps.studio.graph import Picture, picture

STEPS_SHOWN = 100
STEPS_READ = 2000
"""A pipeline may have more: its YAML has them all."""
KEYS = ("is_deterministic", "inputs", "outputs", "environment", "code", "command", "resources", "jobs")


@dataclass(frozen=True)
class ShownStep:
    """`inputs` and `outputs`: names with what is bound to them, in the words of YAML."""

    name: str
    component: ComponentVersion
    inputs: list[tuple[str, str]]
    outputs: list[tuple[str, str]]
    compute: str


@dataclass(frozen=True)
class Steps:
    """The steps in an order in which they can run; `total` counts those that are not shown too."""

    shown: list[ShownStep]
    picture: Picture | None
    total: int


def steps_of(version: ComponentVersion) -> Steps | None:
    """None for a component without steps, and for one whose parts are not there any more."""
    if version.type != "pipeline":
        return None
    if (count := len(version.spec.get("jobs") or {})) > STEPS_READ:
        return Steps([], None, count)
    try:
        graph = components.graph_of(version)
        order = graph.order()
        first = {name: graph.steps[name] for name in order[:STEPS_SHOWN]}
        parts = components.resolve(Graph(graph.inputs, graph.outputs, first), version.asset.workspace)
    except (KeyError, Problem):
        return None
    whole = len(order) <= STEPS_SHOWN
    notes = {name: parts[name].spec["command"] if parts[name].is_anonymous else str(parts[name]) for name in first}
    shown = [_shown(step, parts[step.name]) for step in first.values()]
    return Steps(shown, picture(graph, notes=notes) if whole else None, len(order))


def _shown(step: Step, part: ComponentVersion) -> ShownStep:
    inputs = sorted((name, _words(source)) for name, source in step.inputs.items())
    outputs = [
        (name, f"${{{{parent.outputs.{each.parent}}}}}" if each.parent else each.path)
        for name, each in sorted(step.outputs.items())
    ]
    return ShownStep(step.name, part, inputs, outputs, step.compute)


def _words(source: Source) -> str:
    match source:
        case ParentInput(name):
            return f"${{{{parent.inputs.{name}}}}}"
        case StepOutput(step, output):
            return f"${{{{parent.jobs.{step}.outputs.{output}}}}}"
        case Data(uri):
            return uri
        case Literal(value):
            return text_of(value)


def as_yaml(version: ComponentVersion, *, versioned: bool = True) -> str:
    """The file that registers it again; `versioned`: as the version it is, else as the next one."""
    head = {"type": version.type, "name": version.asset.name, "version": version.version if versioned else ""}
    about = {"display_name": version.display_name, "description": version.description, "tags": version.tags}
    return dumped({**_said(head | about), **_document(version)})


def _document(version: ComponentVersion) -> dict[str, Any]:
    """What it does, in the order in which people write it; what steps brought along stands in them again."""
    spec: dict[str, Any] = version.spec
    made = {"type": version.type, **{name: spec.get(name) for name in KEYS}}
    made["is_deterministic"] = None if version.is_deterministic else False
    made["resources"] = None if spec.get("resources") == {"instance_count": 1} else spec.get("resources")
    if jobs := spec.get("jobs"):
        own = {components.reference_to(each): each for each in version.parts.select_related("asset__workspace")}
        made["jobs"] = {name: _job(jobs[name], own) for name in _in_order(version, jobs)}
    return _said(made)


def _job(step: dict[str, Any], own: dict[str, ComponentVersion]) -> dict[str, Any]:
    part = own.get(step["component"])
    component = _document(part) if part is not None and part.is_anonymous else step["component"]
    rest = {key: value for key, value in step.items() if key not in ("type", "component")}
    return {"type": step.get("type"), "component": component, **rest}


def _said(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value not in (None, "", {})}


def _in_order(version: ComponentVersion, jobs: dict[str, Any]) -> list[str]:
    """The names of the steps, each after those it reads from: the order of the file is lost in the database."""
    try:
        order = components.graph_of(version).order()
    except (KeyError, Problem):
        return sorted(jobs)
    return list(dict.fromkeys(name.partition(".")[0] for name in order))  # what is nested is named outer.inner


def options_of(deployment: BatchDeployment) -> Options | None:
    """What a pipeline deployment sets; None when what it names is gone."""
    workspace, cluster = deployment.endpoint.workspace, str(deployment.cluster or "")
    try:
        return Options.of(deployment.settings, workspace=workspace, compute=cluster)
    except Problem:
        return None

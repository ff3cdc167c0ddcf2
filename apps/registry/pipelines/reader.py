"""Reading a pipeline into its graph: one level at a time, nested ones put in the place of their step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from apps.core.errors import Problem
from apps.registry.pipelines.documents import DEEPEST, MOST_STEPS
from apps.registry.pipelines.fields import bad, below, unsupported
from apps.registry.pipelines.graph import (
    Find,
    Graph,
    Literal,
    Output,
    ParentInput,
    Source,
    Step,
    StepOutput,
    order_of,
)
from apps.registry.pipelines.interface import Data, Declared, fits, fitting, read_inputs, read_outputs, value_of

WORD = r"[A-Za-z_][A-Za-z0-9_]*"
FROM_PARENT = re.compile(rf"\$\{{\{{\s*parent\.inputs\.(?P<name>{WORD})\s*\}}\}}")
FROM_STEP = re.compile(rf"\$\{{\{{\s*parent\.jobs\.(?P<step>{WORD})\.outputs\.(?P<output>{WORD})\s*\}}\}}")
TO_PARENT = re.compile(rf"\$\{{\{{\s*parent\.outputs\.(?P<name>{WORD})\s*\}}\}}")


@dataclass(frozen=True)
class Part:
    """A component that steps of the pipeline use."""

    inputs: dict[str, Declared]
    outputs: dict[str, Declared]
    graph: Graph | None  # of a pipeline


@dataclass(frozen=True)
class Level:
    """One pipeline while it is read."""

    inputs: dict[str, Declared]
    outputs: dict[str, Declared]
    parts: dict[str, Part]  # by step
    at: str  # the path of its document


class Reader:
    def __init__(self, find: Find) -> None:
        self.find = find
        self.parts: dict[tuple[str, int], Part] = {}

    def read(self, spec: Mapping[str, Any], at: str = "", depth: int = 1) -> Graph:
        if depth > DEEPEST:
            raise unsupported(below(at, "jobs"), f"pipelines are nested more than {DEEPEST} deep")
        jobs: dict[str, Any] = spec["jobs"]
        parts = {name: self._part(raw, below(at, f"jobs.{name}"), depth) for name, raw in jobs.items()}
        if sum(len(each.graph.steps) if each.graph else 1 for each in parts.values()) > MOST_STEPS:
            raise Problem("limit", limit=MOST_STEPS, what="steps of a pipeline", target=below(at, "jobs"))
        level = Level(read_inputs(spec.get("inputs")), read_outputs(spec.get("outputs")), parts, at)
        steps = {name: _step(name, raw, level) for name, raw in jobs.items()}
        _check_outputs(level, steps)
        order = order_of({name: step.after() for name, step in steps.items()}, below(at, "jobs"))
        return Graph(level.inputs, level.outputs, _flatten([steps[name] for name in order], parts))

    def _part(self, raw: Mapping[str, Any], at: str, depth: int) -> Part:
        key = (raw["component"], depth)
        if key not in self.parts:
            spec = self.find(raw["component"], f"{at}.component")
            graph = self.read(spec, f"{at}.component", depth + 1) if spec["type"] == "pipeline" else None
            self.parts[key] = Part(read_inputs(spec.get("inputs")), read_outputs(spec.get("outputs")), graph)
        part = self.parts[key]
        kind = "pipeline" if part.graph else "command"
        if raw.get("type") not in (None, "", kind):
            raise bad(f"{at}.type", f"its component is of type {kind}")
        if part.graph and (raw.get("resources") or raw.get("environment_variables")):
            raise unsupported(f"{at}.resources", "a nested pipeline has none: its steps have their own")
        return part


def _step(name: str, raw: Mapping[str, Any], level: Level) -> Step:
    part = level.parts[name]
    at = below(level.at, f"jobs.{name}.inputs")
    given = raw.get("inputs") or {}
    unknown = given.keys() - part.inputs.keys()
    if unknown:
        there = ", ".join(part.inputs) or "none"
        raise bad(below(at, min(unknown)), f"the component has no such input; it has: {there[:500]}")
    inputs: dict[str, Source] = {}
    modes: dict[str, str] = {}
    for key, declared in part.inputs.items():
        value, mode = _value(given.get(key), below(at, key))
        if mode:
            modes[key] = mode
        if value is not None:
            inputs[key] = _source(value, declared, level, below(at, key))
        elif declared.is_required:
            raise bad(below(at, key), "is required")
    return Step(
        name=name,
        component=raw["component"],
        inputs=inputs,
        outputs=_outputs(raw.get("outputs") or {}, part, level, below(level.at, f"jobs.{name}.outputs")),
        input_modes=modes,
        compute=raw.get("compute", ""),
        environment_variables=raw.get("environment_variables") or {},
        instance_count=(raw.get("resources") or {}).get("instance_count"),
        display_name=raw.get("display_name", ""),
    )


def _value(raw: Any, at: str) -> tuple[Any, str]:
    """The value of a step's input, and the mode it is read in; a binding stays a text."""
    if isinstance(raw, Mapping) and str(raw.get("path", "")).startswith("${{"):
        return raw["path"], raw.get("mode", "")
    value = value_of(raw, at)
    return value, value.mode if isinstance(value, Data) else ""


def _source(value: Any, declared: Declared, level: Level, at: str) -> Source:
    if not isinstance(value, str) or "${{" not in value:
        made = fitting(declared, value, at)
        return made if isinstance(made, Data) else Literal(made)
    match = FROM_PARENT.fullmatch(value)
    if match is not None:
        parent = level.inputs.get(match["name"])
        if parent is None:
            raise bad(at, f"the pipeline has no input {match['name'][:60]}")
        if parent.optional and parent.default is None and declared.is_required:
            raise bad(at, f"the pipeline's input {match['name']} is optional, but this one is required")
        return _fit(ParentInput(match["name"]), parent, declared, at)
    match = FROM_STEP.fullmatch(value)
    if match is None:
        reason = "a binding is ${{parent.inputs.name}} or ${{parent.jobs.step.outputs.name}}, with nothing around it"
        raise bad(at, reason)
    part = level.parts.get(match["step"])
    if part is None:
        raise bad(at, f"the pipeline has no step {match['step'][:60]}")
    output = part.outputs.get(match["output"])
    if output is None:
        raise bad(at, f"step {match['step']} has no output {match['output'][:60]}")
    return _fit(StepOutput(match["step"], match["output"]), output, declared, at)


def _fit(source: Source, given: Declared, wanted: Declared, at: str) -> Source:
    if not fits(given.type, wanted.type):
        raise bad(at, f"takes {wanted.type}, but is bound to {given.type}")
    return source


def _outputs(given: Mapping[str, Any], part: Part, level: Level, at: str) -> dict[str, Output]:
    unknown = given.keys() - part.outputs.keys()
    if unknown:
        there = ", ".join(part.outputs) or "none"
        raise bad(below(at, min(unknown)), f"the component has no such output; it has: {there[:500]}")
    made = {}
    for name, declared in part.outputs.items():
        raw = given.get(name) or {}
        raw = {"path": raw} if isinstance(raw, str) else raw
        path, kind = raw.get("path", ""), raw.get("type") or declared.type
        if not fits(declared.type, kind):
            raise bad(below(at, name), f"is of type {declared.type}, not {kind}")
        parent = ""
        if "${{" in path:
            match = TO_PARENT.fullmatch(path)
            if match is None:
                raise bad(below(at, name), "an output is bound with ${{parent.outputs.name}}, with nothing around it")
            path, parent = "", match["name"]
            if parent not in level.outputs:
                raise bad(below(at, name), f"the pipeline has no output {parent[:60]}")
            if not fits(kind, level.outputs[parent].type):
                raise bad(below(at, name), f"is {kind}, but bound to {level.outputs[parent].type}")
        made[name] = Output(kind, raw.get("mode") or declared.mode, path, parent)
    return made


def _check_outputs(level: Level, steps: Mapping[str, Step]) -> None:
    """Each output of the pipeline is written by just one step."""
    writers: dict[str, str] = {}
    for name, step in steps.items():
        for key, output in step.outputs.items():
            if output.parent and writers.setdefault(output.parent, f"{name}.{key}") != f"{name}.{key}":
                at = below(level.at, f"jobs.{name}.outputs.{key}")
                raise bad(at, f"{writers[output.parent]} writes the pipeline's output {output.parent} already")
    for name in level.outputs:
        if name not in writers:
            raise bad(
                below(level.at, f"outputs.{name}"),
                f"no step writes it: bind one of theirs with ${{{{parent.outputs.{name}}}}}",
            )


def _flatten(ordered: list[Step], parts: Mapping[str, Part]) -> dict[str, Step]:
    """The steps of one level, those of nested pipelines in the place of theirs."""
    steps: dict[str, Step] = {}
    written: dict[StepOutput, StepOutput] = {}  # the output of a nested pipeline is one of a step in it
    for step in ordered:
        sources = {
            key: written.get(each, each) if isinstance(each, StepOutput) else each for key, each in step.inputs.items()
        }
        graph = parts[step.name].graph
        if graph is None:
            steps[step.name] = replace(step, inputs=sources)
            continue
        for inner in graph.steps.values():
            name = f"{step.name}.{inner.name}"
            steps[name] = _placed(inner, name, replace(step, inputs=sources), graph)
            for key, output in inner.outputs.items():
                if output.parent:
                    written[StepOutput(step.name, output.parent)] = StepOutput(name, key)
    return steps


def _placed(inner: Step, name: str, outer: Step, graph: Graph) -> Step:
    """A step of a nested pipeline as one of the pipeline around it."""
    inputs: dict[str, Source] = {}
    modes = dict(inner.input_modes)
    for key, source in inner.inputs.items():
        if isinstance(source, StepOutput):
            inputs[key] = StepOutput(f"{outer.name}.{source.step}", source.output)
        elif not isinstance(source, ParentInput):
            inputs[key] = source
        elif source.name in outer.inputs:
            inputs[key] = outer.inputs[source.name]
            if source.name in outer.input_modes:
                modes.setdefault(key, outer.input_modes[source.name])
        elif (default := graph.inputs[source.name].default) is not None:
            inputs[key] = Literal(default)
    outputs = {key: outer.outputs[each.parent] if each.parent else each for key, each in inner.outputs.items()}
    return replace(
        inner, name=name, inputs=inputs, outputs=outputs, input_modes=modes, compute=inner.compute or outer.compute
    )

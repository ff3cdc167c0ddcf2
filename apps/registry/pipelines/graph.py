"""A pipeline component as the graph of its steps: bindings resolved, nested pipelines flattened, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from apps.registry.pipelines.fields import bad
from apps.registry.pipelines.interface import Data, Declared, Value


@dataclass(frozen=True)
class Literal:
    value: Value


@dataclass(frozen=True)
class ParentInput:
    """`${{parent.inputs.<name>}}`: what the job gives the pipeline."""

    name: str


@dataclass(frozen=True)
class StepOutput:
    """`${{parent.jobs.<step>.outputs.<output>}}`: where another step has written."""

    step: str
    output: str


Source = Literal | ParentInput | StepOutput | Data


@dataclass(frozen=True)
class Output:
    """Where a step writes: into the pipeline's output `parent`, at the URI `path`, or at the default place."""

    type: str
    mode: str = ""
    path: str = ""
    parent: str = ""


@dataclass(frozen=True)
class Step:
    """One command component to run. `component` is a reference; inputs without source take the component's default."""

    name: str
    component: str
    inputs: Mapping[str, Source] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    input_modes: Mapping[str, str] = field(default_factory=dict)
    compute: str = ""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    instance_count: int | None = None
    display_name: str = ""

    def after(self) -> set[str]:
        """The steps whose outputs it reads."""
        return {each.step for each in self.inputs.values() if isinstance(each, StepOutput)}


@dataclass(frozen=True)
class Graph:
    """The steps of a pipeline by name; those of a nested one are named `outer.inner`."""

    inputs: Mapping[str, Declared]
    outputs: Mapping[str, Declared]
    steps: Mapping[str, Step]

    def order(self) -> tuple[str, ...]:
        """The names of the steps, each after those it reads from. Raises Problem "bad-field" for a cycle."""
        return self._order

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return order_of({name: step.after() for name, step in self.steps.items()})

    def ready(
        self, done: Collection[str], failed: Collection[str], *, continue_on_step_failure: bool
    ) -> tuple[list[str], list[str]]:
        """Which steps can run now, and which never will, in order; steps already running are among the first.

        A step never runs when one it depends on failed; without `continue_on_step_failure`, none does after a failure.
        """
        finished, lost = set(done), set(failed)
        runnable, skipped = [], []
        stop = bool(lost) and not continue_on_step_failure
        for name in self._order:
            if name in finished or name in lost:
                continue
            after = self.steps[name].after()
            if stop or after & lost:
                skipped.append(name)
                if not stop:
                    lost.add(name)
            elif after <= finished:
                runnable.append(name)
        return runnable, skipped


def order_of(after: Mapping[str, Collection[str]], at: str = "jobs") -> tuple[str, ...]:
    """Names in an order in which each comes after those it depends on. Raises Problem "bad-field", naming a cycle."""
    try:
        return tuple(TopologicalSorter(after).static_order())
    except CycleError as error:
        cycle: list[str] = error.args[1]
        raise bad(at, f"steps wait for each other: {' → '.join(cycle)}"[:2000]) from None


Find = Callable[[str, str], Mapping[str, Any]]


def parse(spec: Mapping[str, Any], find: Find, at: str = "") -> Graph:
    """The graph of a normalised pipeline component.

    `at`: its path in the document it came with. `find(reference, field)` gives the normalised component of a
    reference, or raises a Problem about that field.

    Raises:
        Problem: "bad-field" for a binding that leads nowhere or does not fit, a required input without one, a cycle,
            an output bound twice or never; "limit" for too many steps, "unsupported" for too deep a nesting.
    """
    from apps.registry.pipelines.reader import Reader  # noqa: PLC0415 -- it makes what this module declares

    return Reader(find).read(spec, at)

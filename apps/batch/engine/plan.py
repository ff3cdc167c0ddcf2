"""A pipeline as its job runs it: frozen in `Job.settings` when the job is made, so that nothing changes on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.registry import components
from apps.registry.models import ComponentVersion
from apps.registry.pipelines.graph import Graph, Step, parse
from apps.registry.pipelines.identity import digest_of
from apps.registry.pipelines.interface import Declared, read_inputs, read_outputs

WIRE = {
    "uri_file": "UriFile",
    "uri_folder": "UriFolder",
    "mltable": "MLTable",
    "mlflow_model": "MLFlowModel",
    "custom_model": "CustomModel",
    "triton_model": "TritonModel",
}
MODELS = {"mlflow_model", "custom_model", "triton_model"}
OURS = {wire: ours for ours, wire in WIRE.items()}


@dataclass(frozen=True)
class Part:
    """A command component. `code` and `environment`: primary keys; `digest`: what it does, whatever its name."""

    spec: Mapping[str, Any]
    code: int | None
    environment: int | None
    digest: str

    @cached_property
    def inputs(self) -> dict[str, Declared]:
        return read_inputs(self.spec["inputs"])

    @cached_property
    def outputs(self) -> dict[str, Declared]:
        return read_outputs(self.spec["outputs"])

    @property
    def deterministic(self) -> bool:
        return bool(self.spec["is_deterministic"])

    @property
    def instance_count(self) -> int:
        return int(self.spec["resources"]["instance_count"])


@dataclass(frozen=True)
class Plan:
    """`pins`: by each reference to data in the graph, what it was when the job was made. `prints`: their contents."""

    graph: Graph
    parts: Mapping[str, Part]
    settings: JobSettings
    compute: str
    datastore: str
    pins: Mapping[str, str]
    prints: Mapping[str, str]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Plan:
        parts = stored["parts"]

        def find(reference: str, _at: str) -> Mapping[str, Any]:
            found: Mapping[str, Any] = parts[reference]["spec"]
            return found

        return cls(
            graph=parse(stored["spec"], find),
            parts={name: Part(**each) for name, each in parts.items()},
            settings=JobSettings.of(dict(stored)),
            compute=stored["compute"],
            datastore=stored["datastore"],
            pins=stored["pins"],
            prints=stored.get("prints", {}),
        )

    def part(self, step: Step) -> Part:
        return self.parts[step.component]

    def place(self, job: str, output: str) -> str:
        """Where an output comes to lie when nobody says otherwise (spec 3.9)."""
        return f"azureml://datastores/{self.datastore}/paths/azureml/{job}/{output}"


def freeze(spec: Mapping[str, Any], *, workspace: Any) -> tuple[Graph, dict[str, Any]]:
    """The graph of a normalised pipeline component, and all components in it as `Plan.of` reads them.

    Raises:
        Problem: "bad-field" for a component that is not there, and what `graph.parse` raises.
    """
    rows: dict[str, ComponentVersion] = {}

    def find(reference: str, at: str) -> Mapping[str, Any]:
        if reference not in rows:
            rows[reference] = components.find(reference, workspace=workspace, field=at)
        found: Mapping[str, Any] = rows[reference].spec
        return found

    graph = parse(spec, find)
    return graph, {reference: _part(row) for reference, row in rows.items()}


def _part(row: ComponentVersion) -> dict[str, Any]:
    command = row.type == "command"
    return {
        "spec": row.spec,
        "code": row.code_id,
        "environment": row.environment_id,
        "digest": components.digest(row) if command else "",
    }


def missing(kind: str, step: str) -> Problem:
    return Problem("not-found", kind=kind, name=f"of step {step} any more")


def step_digest(part: Part, step: Step, places: Mapping[str, str]) -> str:
    """What a step does beside its inputs. `places`: where it was told to write."""
    return digest_of([part.digest, dict(step.environment_variables), dict(places)])

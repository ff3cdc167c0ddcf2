"""One step of a pipeline as a job: its inputs, where it writes, and whether it was done before."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from apps.batch.engine.plan import OURS, WIRE, Part, Plan, missing, step_digest
from apps.batch.enums import JobState, JobType
from apps.batch.models import Cluster, Job
from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.registry import locations
from apps.registry.models import CodeVersion, EnvironmentVersion
from apps.registry.pipelines.graph import Literal, ParentInput, Step, StepOutput
from apps.registry.pipelines.identity import key_of
from apps.registry.pipelines.interface import Data, Declared, fitting, text_of

LONGEST_MS = 21 * 86_400_000  # a job's lifetime, spec 2.1
CANDIDATES = 5  # earlier jobs that are looked at


def name_of(job: Job, step: str) -> str:
    return str(uuid.uuid5(job.pk, step))


def prepare(job: Job, plan: Plan, step: Step, children: Mapping[str, Job]) -> dict[str, Any]:
    """The columns of the step's job; of an ended one when its outputs are there already.

    Raises Problem when something it needs is gone.
    """
    part = plan.part(step)
    inputs, known = _inputs(job, plan, step, part, children)
    outputs = _outputs(job, plan, step)
    told = {name: each["uri"] for name, each in outputs.items() if each.pop("told", False)}
    key = key_of(step_digest(part, step, told), known) if part.deterministic else ""
    settings = JobSettings(
        instance_count=1,
        max_retries=0,
        timeout_ms=LONGEST_MS,
        command=part.spec["command"],
        variables=dict(step.environment_variables),
    )
    values = {
        "settings": settings.as_json(),
        "inputs": inputs,
        "outputs": outputs,
        "reuse_key": key,
        "code": _found(CodeVersion, part.code, "code", step),
        "environment": _found(EnvironmentVersion, part.environment, "environment", step),
        "cluster": _cluster(job, plan, step),
    }
    earlier = _done_before(job, key) if key and not plan.settings.force_rerun else None
    return values if earlier is None else values | _reused(earlier)


def _reused(earlier: Job) -> dict[str, Any]:
    now = timezone.now()
    return {
        "state": JobState.COMPLETED,
        "reused_from": earlier,
        "outputs": earlier.outputs,
        "properties": {"azureml.isreused": "true"},
        "started_at": now,
        "ended_at": now,
    }


def _done_before(job: Job, key: str) -> Job | None:
    """A job of this workspace that did the same, and whose outputs are still there."""
    rows = Job.objects.filter(workspace=job.workspace, type=JobType.COMMAND, reuse_key=key, reused_from=None)
    for each in rows.filter(state=JobState.COMPLETED).order_by("-ended_at")[:CANDIDATES]:
        if all(_there(job, output) for output in each.outputs.values()):
            return each
    return None


def _there(job: Job, output: Mapping[str, Any]) -> bool:
    if output.get("empty"):
        return True
    try:
        return locations.resolve(output["uri"], workspace=job.workspace, actor=None).exists()
    except Problem:  # its datastore is gone, or does not answer
        return False


def _inputs(
    job: Job, plan: Plan, step: Step, part: Part, children: Mapping[str, Job]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(as the job stores them, as they are compared with other runs)."""
    inputs: dict[str, Any] = {}
    known: dict[str, Any] = {}
    for name, declared in part.inputs.items():
        source = step.inputs.get(name)
        if isinstance(source, StepOutput):
            child = children[source.step]
            output = child.outputs[source.output]
            inputs[name] = {"type": output["type"], "uri": output["uri"], "empty": output.get("empty", False)}
            known[name] = {"of": child.reuse_key or str(child.pk), "output": source.output}
            continue
        value = _value(job, plan, source, declared, f"jobs.{step.name}.inputs.{name}")
        if isinstance(value, Data):
            inputs[name] = {"type": WIRE[value.type], "uri": value.uri}
            known[name] = Data(f"{value.uri}#{plan.prints.get(value.uri, '')}", value.type)
        elif value is not None:
            inputs[name] = {"type": "Literal", "value": text_of(value)}
            known[name] = value
    return inputs, known


def _value(job: Job, plan: Plan, source: Any, declared: Declared, at: str) -> Any:
    if isinstance(source, Literal):
        return source.value
    if isinstance(source, Data):
        return Data(plan.pins[source.uri], source.type)
    if isinstance(source, ParentInput) and (given := job.inputs.get(source.name)) is not None:
        if "value" in given:
            return fitting(declared, given["value"], at)
        return Data(given["uri"], OURS[given["type"]])
    return declared.default


def _outputs(job: Job, plan: Plan, step: Step) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, output in step.outputs.items():
        each: dict[str, Any] = {"type": WIRE[output.type], "uri": plan.place(name_of(job, step.name), name)}
        if output.parent:
            bound = job.outputs[output.parent]
            each |= {"uri": bound["uri"], "told": bound.get("told", False)}
        elif output.path:
            each |= {"uri": output.path, "told": True}
        made[name] = each
    return made


def _found(model: type[Any], pk: int | None, kind: str, step: Step) -> Any:
    if pk is None:
        return None
    found = model.objects.select_related("asset").filter(pk=pk).first()
    if found is None:
        raise missing(kind, step.name)
    return found


def _cluster(job: Job, plan: Plan, step: Step) -> Cluster:
    found = Cluster.objects.filter(workspace=job.workspace, name__iexact=step.compute or plan.compute).first()
    if found is None:
        raise missing("cluster", step.name)
    return found

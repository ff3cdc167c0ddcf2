"""What the job of a pipeline shows besides other jobs: its settings, and its steps with what became of them."""

from __future__ import annotations

from typing import Any

from apps.batch.engine.plan import Plan
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.registry.pipelines.graph import Literal, Output, ParentInput, Source, Step, StepOutput
from apps.registry.pipelines.interface import text_of


def pipeline_of(job: Job) -> dict[str, Any]:
    """`jobs` and `settings` of a pipeline job; a step that was not reached yet has no job of its own."""
    plan = Plan.of(job.settings)
    children = {each.step: each for each in job.children.select_related("reused_from").defer("launch", "settings")}
    return {
        "jobs": {name: _step(job, step, children.get(name)) for name, step in plan.graph.steps.items()},
        "settings": {
            "default_compute": plan.compute or None,
            "default_datastore": plan.datastore,
            "continue_on_step_failure": plan.settings.continue_on_step_failure,
            "force_rerun": plan.settings.force_rerun,
        },
    }


def _step(job: Job, step: Step, child: Job | None) -> dict[str, Any]:
    _, component, version = step.component.split(":")
    arm_id = job.workspace.arm_id
    return {
        "name": step.name,
        "type": "command",
        "componentId": f"{arm_id}/components/{component}/versions/{version}",
        "inputs": {name: _input(each) for name, each in step.inputs.items()},
        "outputs": {name: _output(each) for name, each in step.outputs.items()},
        "jobName": child.name if child else None,
        "status": child.state if child else JobState.NOT_STARTED,
        "reusedFrom": child.reused_from.name if child and child.reused_from else None,
    }


def _input(source: Source) -> dict[str, Any]:
    """A value, a binding or files, as a component has it (wire 5.7)."""
    match source:
        case Literal(value):
            shown = text_of(value)
        case ParentInput(name):
            shown = f"${{{{parent.inputs.{name}}}}}"
        case StepOutput(step, output):
            shown = f"${{{{parent.jobs.{step}.outputs.{output}}}}}"
        case _:
            return {"job_input_type": source.type, "uri": source.uri}
    return {"job_input_type": "literal", "value": shown}


def _output(output: Output) -> dict[str, Any]:
    if output.parent:
        return {"job_output_type": "literal", "value": f"${{{{parent.outputs.{output.parent}}}}}"}
    return {"job_output_type": output.type, **({"uri": output.path} if output.path else {})}

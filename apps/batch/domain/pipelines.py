"""Jobs of pipelines: of a deployment, sent by themselves, and turned into components again.

Everything that can be known to fail is refused before a row is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts.models import Workspace
from apps.batch.domain import given
from apps.batch.domain.options import FLAGS, Options
from apps.batch.domain.specs import JobSpec
from apps.batch.engine import lifecycle, prints
from apps.batch.engine.plan import OURS, WIRE, Part, freeze
from apps.batch.enums import JobState, JobType
from apps.batch.models import BatchDeployment, Cluster, Job
from apps.batch.settings import JobSettings
from apps.builds import contract
from apps.core.errors import Problem
from apps.registry import components, references
from apps.registry.models import ComponentVersion
from apps.registry.pipelines import fields
from apps.registry.pipelines.documents import normalise
from apps.registry.pipelines.fields import bad, below, unsupported
from apps.registry.pipelines.graph import Graph, Step
from apps.registry.pipelines.interface import (
    Data,
    Declared,
    bind,
    declared_by,
    fits,
    kind_of,
    literal,
    read_inputs,
    read_outputs,
    text_of,
)

FIELDS = "jobType componentId computeId displayName experimentName description tags properties jobs inputs outputs"
ECHOED = "settings isArchived sourceJobId services status identity"


def job_of(deployment: BatchDeployment, spec: JobSpec) -> Job:
    """The row of a new pipeline job, not saved yet. Raises Problem."""
    workspace = deployment.endpoint.workspace
    if deployment.component is None:
        raise Problem("conflict", reason=f"Deployment {deployment} has no component.")
    options = Options.of(deployment.settings, workspace=workspace, compute=str(deployment.cluster or ""))
    job = _job(deployment.component.spec, spec, options, workspace=workspace)
    for name, value in given.of_deployment(deployment).items():
        setattr(job, name, value)
    return job


def declared_of(deployment: BatchDeployment) -> tuple[dict[str, Declared], dict[str, Declared]]:
    """The inputs that a job of a pipeline deployment takes, and its outputs; as `interface_of` has them."""
    return interface_of(deployment.component.spec if deployment.component else {})


def interface_of(spec: Mapping[str, Any]) -> tuple[dict[str, Declared], dict[str, Declared]]:
    """The inputs of a component, those that must be given first, and its outputs; by name.

    The order in which the component has them is lost: PostgreSQL keeps documents in one of its own.
    """
    takes = sorted(read_inputs(spec.get("inputs")).items(), key=lambda each: (not each[1].is_required, each[0]))
    return dict(takes), dict(sorted(read_outputs(spec.get("outputs")).items()))


def submit(*, workspace: Workspace, document: Mapping[str, Any], name: str, actor: Any) -> Job:
    """A pipeline job that is sent by itself: the `properties` of a job PUT.

    Raises what `draft` does; Problem "limit"; "exists" for the name.
    """
    given.check_limit(workspace)
    job = draft(workspace=workspace, document=document, name=name)
    job.created_by = actor if getattr(actor, "pk", None) else None
    try:
        with transaction.atomic():
            lifecycle.submit(job, actor)
    except IntegrityError:
        raise Problem("exists", kind="Job", name=job.name, target="name") from None
    return job


def draft(*, workspace: Workspace, document: Mapping[str, Any], name: str = "") -> Job:
    """The row of a new job, not saved yet: with `componentId`, `jobs`, or the pipeline job of `sourceJobId` once more.

    Raises:
        Problem: "bad-field", "unknown-field", "unsupported", "input-missing".
    """
    if str(document.get("jobType") or "").lower() != "pipeline":
        reason = "only pipeline jobs can be sent: make a command a step of one; invoke a batch endpoint to run a model"
        raise unsupported("jobType", reason)
    fields.only(document, (*FIELDS.split(), *ECHOED.split()), "")
    before = None
    if document.get("sourceJobId") and not (document.get("jobs") or document.get("componentId")):
        before = _source_of(workspace, fields.text(document["sourceJobId"], "sourceJobId"))
        document = _once_more(before, document)
    compute = fields.text(document.get("computeId"), "computeId")
    options = Options.of(fields.mapping(document.get("settings"), "settings"), workspace=workspace, compute=compute)
    spec = JobSpec(
        inputs=fields.mapping(document.get("inputs"), "inputs"),
        outputs=_outputs_told(workspace, document, options),
        name=name,
        display_name=fields.text(document.get("displayName"), "displayName"),
        experiment_name=fields.text(document.get("experimentName"), "experimentName"),
        description=fields.text(document.get("description"), "description"),
        tags=fields.texts(document.get("tags"), "tags"),
        properties=fields.texts(document.get("properties"), "properties"),
    )
    component = _component_spec(workspace, document) if before is None else before.settings["spec"]
    return _job(component, spec, options, workspace=workspace, at=("inputs", "outputs"))


def _outputs_told(workspace: Workspace, document: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Without the places that the job of `sourceJobId` was given by us: its results must stay as they are."""
    told = fields.mapping(document.get("outputs"), "outputs")
    reference = fields.text(document.get("sourceJobId"), "sourceJobId")
    if not reference:
        return told
    source = references.resource_name(reference, workspace=workspace, kind="jobs", field="sourceJobId")
    before = Job.objects.filter(workspace=workspace, name=source).first()
    had = before.outputs if before is not None else {}
    ours = {name: (options.place(source, name), _place_given(had.get(name, {}))) for name in told}
    return {
        name: {key: value for key, value in each.items() if value not in ours[name]}
        if isinstance(each, Mapping)
        else each
        for name, each in told.items()
    }


def _place_given(output: Mapping[str, Any]) -> Any:
    """Where we put an output, be it that of an earlier job whose step was not run again; None for a told place."""
    return None if output.get("told") else output.get("uri")


def _source_of(workspace: Workspace, reference: str) -> Job:
    """The job to be made once more. Raises Problem "bad-field"."""
    source = references.resource_name(reference, workspace=workspace, kind="jobs", field="sourceJobId")
    before = Job.objects.filter(workspace=workspace, name=source, type=JobType.PIPELINE).first()
    if before is None:
        raise bad("sourceJobId", f"there is no pipeline job {source[:60]!r} in this workspace")
    return before


def _once_more(before: Job, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a job as `before` was, except for what this one says: inputs, outputs and settings by name.

    An empty text says nothing: the SDK sends an `experimentName` that is one.
    """
    was = {
        "displayName": before.display_name,
        "experimentName": before.experiment_name,
        "description": before.description,
        "tags": before.tags,
        "properties": before.properties,
        "computeId": before.settings["compute"],
    }
    settings = {name: before.settings[name] for name in FLAGS} | {"default_datastore": before.settings["datastore"]}
    return {
        **was,
        **_said(document),
        "inputs": before.inputs | fields.mapping(document.get("inputs"), "inputs"),
        "outputs": _outputs_once_more(before, fields.mapping(document.get("outputs"), "outputs")),
        "settings": settings | _said(fields.mapping(document.get("settings"), "settings")),
    }


def _said(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in document.items() if each not in (None, "")}


def _outputs_once_more(before: Job, given: Mapping[str, Any]) -> dict[str, Any]:
    """Places that people told stay as they are; those that we gave to `before` are not given again."""
    made = {name: {"uri": each["uri"]} for name, each in before.outputs.items() if each.get("told")}
    for name, each in given.items():
        told = fields.mapping(each, below("outputs", name[:60]))
        place = told.pop("uri", None) or told.pop("path", None)
        if place and place != before.outputs.get(name, {}).get("uri"):
            made[name] = {"uri": place}
        made[name] = told | made.get(name, {})
    return made


def _component_spec(workspace: Workspace, document: Mapping[str, Any]) -> dict[str, Any]:
    reference = fields.text(document.get("componentId"), "componentId")
    if reference and document.get("jobs"):
        raise bad("componentId", "give componentId or jobs, not both")
    if reference:
        found = references.find(ComponentVersion, "components", reference, workspace=workspace, field="componentId")
        if found.type != "pipeline":
            raise unsupported("componentId", f"{found} is a {found.type} component")
        spec: dict[str, Any] = found.spec
        return spec
    declared = declared_by(fields.mapping(document.get("inputs"), "inputs"))
    outputs = {name: _output_kind(raw, name) for name, raw in fields.named(document.get("outputs"), "outputs").items()}
    body = {"inputs": {name: each.as_dict() for name, each in declared.items()}, "outputs": outputs}
    spec = normalise({"type": "pipeline", **body, "jobs": document.get("jobs")})
    spec["inputs"] |= _as_used(spec, declared, workspace)
    return components.prepare(spec, workspace=workspace, register=_refuse).spec


def _refuse(_: dict[str, Any], field: str) -> ComponentVersion:
    raise unsupported(field, "register the components of a job's steps first")


def _output_kind(raw: Any, name: str) -> dict[str, Any]:
    told = fields.mapping(raw, f"outputs.{name}")
    return {"type": kind_of(told.get("jobOutputType") or told.get("type") or "uri_folder", f"outputs.{name}")}


def _as_used(spec: dict[str, Any], declared: Mapping[str, Declared], workspace: Workspace) -> dict[str, Any]:
    """A literal travels as text: it is of the type that the first step to use it declares."""
    made: dict[str, Any] = {}
    for name, step in spec["jobs"].items():
        for key, value in step.get("inputs", {}).items():
            bound = value.removeprefix("${{parent.inputs.").removesuffix("}}") if isinstance(value, str) else ""
            each = declared.get(bound)
            if each is None or bound in made or each.type != "string":
                continue
            at = f"jobs.{name}.component"
            part = components.find(step["component"], workspace=workspace, field=at)
            kind = part.spec["inputs"].get(key, {}).get("type", "string")
            if kind in ("number", "integer", "boolean"):
                default = literal(Declared(kind), each.default, f"inputs.{bound}")
                made[bound] = Declared(kind, default=default).as_dict()
    return made


def from_job(workspace: Workspace, name: str) -> Mapping[str, Any] | None:
    """The component that a finished pipeline job amounts to: its literals become the defaults.

    Raises Problem "conflict" for a job that has not completed, "unsupported" for one of another type.
    """
    job = Job.objects.filter(workspace=workspace, name=name).first()
    if job is None:
        return None
    if job.type != JobType.PIPELINE:
        raise unsupported("sourceJobId", f"{name} is no pipeline job")
    if job.state != JobState.COMPLETED:
        raise Problem("conflict", reason=f"Job {name} is {job.get_state_display().lower()}; only one that completed")
    spec: dict[str, Any] = job.settings["spec"]
    inputs = {key: dict(each) for key, each in spec["inputs"].items()}
    for key, value in job.inputs.items():
        if "value" in value:
            inputs[key]["default"] = value["value"]
    return {**spec, "inputs": inputs}


components.from_job_with(from_job)


# -- the row


def _job(
    component: Mapping[str, Any],
    spec: JobSpec,
    options: Options,
    *,
    workspace: Workspace,
    at: tuple[str, str] = ("InputData", "OutputData"),
) -> Job:
    graph, parts = freeze(component, workspace=workspace)
    pins: dict[str, str] = {}
    bound = bind(graph.inputs, spec.inputs, at[0])
    described = given.described(spec)
    for step in graph.steps.values():
        _check_step(step, Part(**parts[step.component]), options, workspace)
        for key, source in step.inputs.items():
            if isinstance(source, Data) and source.uri not in pins:
                pins[source.uri] = _pinned(source, workspace, f"jobs.{step.name}.inputs.{key}")
        for key, output in step.outputs.items():
            if output.path:
                given.output_uri(workspace, output.path, f"jobs.{step.name}.outputs.{key}")
    settings = JobSettings(
        force_rerun=options.force_rerun, continue_on_step_failure=options.continue_on_step_failure, max_retries=0
    )
    frozen = {"spec": component, "parts": parts, "pins": pins}
    return Job(
        workspace=workspace,
        type=JobType.PIPELINE,
        settings=settings.as_json() | frozen | {"compute": options.compute, "datastore": options.datastore},
        inputs={
            name: _stored(value, workspace, below(at[0], name)) for name, value in bound.items() if value is not None
        },
        outputs=_outputs(graph, spec.outputs, options, described["name"], workspace, at[1]),
        total=len(graph.steps),
        **described,
    )


def _stored(value: Any, workspace: Workspace, field: str) -> dict[str, Any]:
    if isinstance(value, Data):
        return {"type": WIRE[value.type], "uri": _pinned(value, workspace, field)}
    text = text_of(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise bad(field, "is not Unicode") from None
    return {"type": "Literal", "value": text}


def _pinned(data: Data, workspace: Workspace, field: str) -> str:
    """A reference that means the same for ever, to what is there. Raises Problem."""
    if prints.is_model(data.type, data.uri):
        return components.reference_to(prints.model(data.uri, workspace, field))
    uri = given.pinned(data.uri, workspace, field)
    given.check_data(workspace, {"uri": uri, "type": WIRE[data.type]}, field)
    return uri


def _outputs(
    graph: Graph, asked: Mapping[str, Any], options: Options, job: str, workspace: Workspace, at: str
) -> dict[str, Any]:
    unknown = asked.keys() - graph.outputs.keys()
    if unknown:
        there = ", ".join(graph.outputs) or "none"
        raise bad(below(at, str(min(unknown))[:60]), f"there is no such output; there are: {there[:500]}")
    made: dict[str, Any] = {}
    for name, declared in graph.outputs.items():
        field = below(at, name)
        told = fields.mapping(asked.get(name), field)
        kind = told.get("type") or told.get("jobOutputType")
        if kind and not fits(declared.type, OURS.get(kind) or kind_of(kind, field)):
            raise bad(field, f"is of type {declared.type}, not {kind}")
        made[name] = {"type": WIRE[declared.type], "uri": options.place(job, name)}
        if uri := told.get("uri") or told.get("path"):
            made[name] |= {"uri": given.output_uri(workspace, fields.text(uri, field), field), "told": True}
    return made


def _check_step(step: Step, part: Part, options: Options, workspace: Workspace) -> None:
    at = f"jobs.{step.name}"
    name = step.compute or options.compute
    if not name:
        raise bad(f"{at}.compute", "names no cluster, and there is no default_compute")
    cluster = Cluster.objects.filter(workspace=workspace, name__iexact=name).first()
    if cluster is None:
        raise bad(f"{at}.compute", f"there is no cluster {name[:60]!r} in this workspace")
    count = step.instance_count or part.instance_count
    if count > cluster.max_nodes:
        raise bad(f"{at}.resources", f"asks for {count} nodes; cluster {cluster} has at most {cluster.max_nodes}")
    if count > 1:
        raise unsupported(f"{at}.resources", "a command runs on one node; split the work into steps")
    contract.check_variables(dict(step.environment_variables))

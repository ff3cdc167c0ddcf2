"""Components between their documents and the rows of a workspace: references found, graphs made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as made_by
from typing import Any

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import references
from apps.registry.models import CodeVersion, ComponentVersion, EnvironmentVersion
from apps.registry.pipelines.documents import normalise
from apps.registry.pipelines.fields import bad, below, unsupported
from apps.registry.pipelines.graph import Graph, parse
from apps.registry.pipelines.identity import digest_of

ANONYMOUS = "azureml_anonymous"
OF_A_JOB = "1"  # the version of every component that is made from a job (wire 11, quirk 8)
MOST_PARTS = 1000  # different components in one pipeline
JOB = re.compile(r"(?:azureml:)?(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,254})")

FromJob = Callable[[Workspace, str], Mapping[str, Any] | None]
_sources: list[FromJob] = []


def from_job_with(function: FromJob) -> None:
    """Have `function(workspace, job name)` give the pipeline component that a job amounts to; None for no such job."""
    _sources[:] = [function]


@dataclass
class Prepared:
    """A component whose references are those of rows."""

    spec: dict[str, Any]
    code: CodeVersion | None = None
    environment: EnvironmentVersion | None = None
    parts: list[ComponentVersion] = made_by(default_factory=list)


def document_of(given: Mapping[str, Any], workspace: Workspace) -> Mapping[str, Any]:
    """The document itself, or the one of the job it names as `sourceJobId`.

    Raises:
        Problem: "bad-field" for what names no job, "not-found" for a job that is not there.
    """
    named = [given[key] for key in ("sourceJobId", "source_job_id") if given.get(key) is not None]
    if not named:
        return given
    if any(each != named[0] for each in named) or given.get("jobs"):
        raise bad("sourceJobId", "names one job, and stands instead of the jobs")
    match = JOB.fullmatch(named[0]) if isinstance(named[0], str) else None
    if match is None:
        raise bad("sourceJobId", "must be the name of a job")
    found = _sources[0](workspace, match["name"]) if _sources else None
    if found is None:
        raise Problem("not-found", kind="job", name=match["name"], target="sourceJobId")
    return {**found, **{key: given[key] for key in ("display_name", "description") if given.get(key)}}


def prepare(
    spec: dict[str, Any],
    *,
    workspace: Workspace,
    register: Callable[[dict[str, Any], str], ComponentVersion],
    field: str = "",
) -> Prepared:
    """A normalised component with all it refers to found in the workspace, and its graph checked.

    `register(component, field)` stores a component that a step brings along, itself normalised. `field`: the path of
    this component in the document it came with.

    Raises:
        Problem: "bad-field" for what is not in the workspace; what `graph.parse` raises.
    """
    if spec["type"] == "command":
        return _prepare_command(spec, workspace, field)
    found: dict[str, ComponentVersion] = {}
    jobs = {}
    for name, step in spec["jobs"].items():
        at = below(field, f"jobs.{name}")
        given = step["component"]
        if isinstance(given, dict):
            row = register(given, f"{at}.component")
        elif (known := found.get(given)) is not None:
            row = known
        else:
            row = found[given] = find(given, workspace=workspace, field=f"{at}.component")
        found[reference_to(row)] = row
        if len(found) > 2 * MOST_PARTS:  # by how it was named, and by its name
            raise Problem("limit", limit=MOST_PARTS, what="different components of one pipeline", target=at)
        jobs[name] = {**step, "type": row.type, "component": reference_to(row)}
        if "compute" in step:
            jobs[name]["compute"] = references.resource_name(
                step["compute"], workspace=workspace, kind="computes", field=f"{at}.compute"
            )
    _graph({**spec, "jobs": jobs}, workspace, found, field)
    spec = {**spec, "jobs": {name: _without_names_alone(step) for name, step in jobs.items()}}
    return Prepared(spec, parts=list({row.pk: row for row in found.values()}.values()))


def _without_names_alone(step: dict[str, Any]) -> dict[str, Any]:
    """The step without outputs of which it only says that they are there."""
    kept = {name: each for name, each in step.pop("outputs", {}).items() if each is not None}
    return {**step, "outputs": kept} if kept else step


def _prepare_command(spec: dict[str, Any], workspace: Workspace, field: str) -> Prepared:
    at = below(field, "environment")
    if not spec["environment"]:
        raise bad(at, "is required")
    environment = references.find(
        EnvironmentVersion, "environments", spec["environment"], workspace=workspace, field=at
    )
    code = None
    if spec["code"]:
        code = references.find(CodeVersion, "codes", spec["code"], workspace=workspace, field=below(field, "code"))
    pinned = {"code": reference_to(code) if code else "", "environment": reference_to(environment)}
    return Prepared({**spec, **pinned}, code, environment)


def reference_to(version: Any) -> str:
    return f"azureml:{version.asset.name}:{version.version}"


def find(reference: str, *, workspace: Workspace, field: str) -> ComponentVersion:
    """The component that a reference names. Raises Problem "bad-field"."""
    found: ComponentVersion = references.find(
        ComponentVersion, "components", reference, workspace=workspace, field=field
    )
    if (found.asset.name, found.version) == (ANONYMOUS, OF_A_JOB):
        raise bad(field, "the component of a job is replaced by that of the next one; register it under a name")
    return found


def graph_of(version: ComponentVersion) -> Graph:
    """The graph of a registered pipeline component.

    Raises:
        Problem: "bad-field" for a component of another type, and when one of its parts is not there any more.
    """
    if version.type != "pipeline":
        raise bad("component", f"{version} is no pipeline component")
    return _graph(version.spec, version.asset.workspace, {})


def graph_of_job(document: Mapping[str, Any], *, workspace: Workspace) -> Graph:
    """The graph of a pipeline job that brings its own steps, all of them references to registered components.

    Raises what `normalise` and `prepare` do, and "unsupported" for a step with a component of its own.
    """

    def refuse(_: dict[str, Any], field: str) -> ComponentVersion:
        raise unsupported(field, "register the components of a job's steps first")

    prepared = prepare(normalise(document), workspace=workspace, register=refuse)
    return _graph(prepared.spec, workspace, {})


def _graph(spec: dict[str, Any], workspace: Workspace, known: dict[str, ComponentVersion], field: str = "") -> Graph:
    rows = dict(known)

    def spec_of(reference: str, at: str) -> dict[str, Any]:
        if reference not in rows:
            rows[reference] = find(reference, workspace=workspace, field=at)
        found: dict[str, Any] = rows[reference].spec
        return found

    return parse(spec, spec_of, field)


def resolve(graph: Graph, workspace: Workspace) -> dict[str, ComponentVersion]:
    """The component of each step, by the step's name. Raises Problem "bad-field" for one that is not there."""
    rows: dict[str, ComponentVersion] = {}
    for step in graph.steps.values():
        if step.component not in rows:
            rows[step.component] = find(step.component, workspace=workspace, field=f"jobs.{step.name}.component")
    return {step.name: rows[step.component] for step in graph.steps.values()}


def digest(version: ComponentVersion) -> str:
    """What a command component does, as sha256 in hexadecimal: its text, its code's files, its environment's content.

    For `identity.key_of`; names and versions do not count, so a component registered again is the same.
    """
    code, environment = version.code, version.environment
    what = {key: value for key, value in version.spec.items() if key not in ("display_name", "code", "environment")}
    what["code"] = [code.tree_id, code.path] if code else None
    if environment:
        what["environment"] = [
            environment.image,
            environment.conda_file,
            environment.requirements,
            environment.build_context_id,
            environment.dockerfile_path,
        ]
    return digest_of(what)

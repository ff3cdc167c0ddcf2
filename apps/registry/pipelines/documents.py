"""A component as a document: a YAML file's shape or the wire's, made into one shape of ours.

Ours is the YAML file's, without what means nothing: names and defaults are spelled one way, so that equal content
compares equal. References and files stay as they were given; who knows the workspace resolves them.
"""

from __future__ import annotations

from typing import Any

from apps.core.errors import Problem
from apps.registry.pipelines import command
from apps.registry.pipelines.fields import (
    bad,
    below,
    flag,
    mapping,
    named,
    only,
    text,
    texts,
    unsupported,
)
from apps.registry.pipelines.interface import (
    DATA,
    INPUT_MODES,
    LONGEST_URI,
    OUTPUT_MODES,
    Data,
    kind_of,
    mode_of,
    read_inputs,
    read_outputs,
    value_of,
)

MOST_STEPS = 30_000
MOST_INSTANCES = 100
DEEPEST = 5  # pipelines in pipelines
# of every component; the SDK sends the second line without the user's doing (wire 3.5)
COMMON = ("type", "display_name", "description", "tags", "is_deterministic", "inputs", "outputs")
ECHOED = ("$schema", "_source", "name", "version", "sourceJobId", "source_job_id")
COMMAND = ("command", "code", "environment", "resources")
REFUSED = ("distribution", "additional_includes", "environment_variables", "properties")
STEP = ("type", "component", "componentId", "inputs", "outputs", "compute", "computeId", "environment_variables")
STEP_MORE = ("resources", "display_name", "description", "tags", "name", "_source", "comment")
STEP_TOLD = ("jobName", "status", "reusedFrom")  # what a job shows of its steps, and the SDK sends back
STEP_REFUSED = ("distribution", "identity", "services", "limits", "queue_settings", "properties", "experiment_name")


def normalise(document: Any, field: str = "", depth: int = 1) -> dict[str, Any]:
    """The component in our shape; its references are as they were given. `depth`: in how many pipelines it is, and one.

    Raises:
        Problem: "bad-field", "unknown-field" or "unsupported", with the path of the field.
    """
    given = mapping(document, field)
    kind = given.get("type")
    kind = kind.lower() if isinstance(kind, str) else ""
    if kind == "pipeline" and depth > DEEPEST:
        raise unsupported(below(field, "jobs"), f"pipelines are nested more than {DEEPEST} deep")
    if kind not in ("command", "pipeline"):
        raise _no_kind(given.get("type"), below(field, "type"))
    own = COMMAND if kind == "command" else ("jobs",)
    only(given, (*COMMON, *ECHOED, *own, *REFUSED), field)
    _empty(given, REFUSED, field)
    inputs = read_inputs(given.get("inputs"), below(field, "inputs"))
    outputs = read_outputs(given.get("outputs"), below(field, "outputs"))
    made: dict[str, Any] = {
        "type": kind,
        "display_name": text(given.get("display_name"), below(field, "display_name"), longest=255),
        "is_deterministic": flag(given.get("is_deterministic"), below(field, "is_deterministic"), default=True),
        "inputs": {name: each.as_dict() for name, each in inputs.items()},
        "outputs": {name: each.as_dict() for name, each in outputs.items()},
    }
    if kind == "pipeline":
        return made | {"jobs": _steps(given.get("jobs"), below(field, "jobs"), depth)}
    line = text(given.get("command"), below(field, "command"))
    command.check(line, inputs, outputs, below(field, "command"))
    return made | {
        "command": line,
        "code": text(given.get("code"), below(field, "code"), longest=LONGEST_URI),
        "environment": text(given.get("environment"), below(field, "environment"), longest=LONGEST_URI),
        "resources": {"instance_count": _instances(given.get("resources"), below(field, "resources"))},
    }


def _no_kind(value: Any, field: str) -> Exception:
    if isinstance(value, str) and value:
        reason = "components and steps are of type command or pipeline"
        return Problem("unsupported", what=f"{field} {value[:60]}", reason=reason, target=field)
    return bad(field, "must be command or pipeline")


def _empty(given: dict[str, Any], refused: tuple[str, ...], field: str) -> None:
    for name in refused:
        if given.get(name) not in (None, "", {}, []):
            raise unsupported(below(field, name), "Portway would have to ignore it")


def _instances(value: Any, field: str) -> int:
    given = mapping(value, field)
    only(given, ("instance_count", "instanceCount", "properties", "instance_type", "shm_size", "docker_args"), field)
    _empty(given, ("properties", "instance_type", "shm_size", "docker_args"), field)
    count = given.get("instance_count", given.get("instanceCount"))
    if count is None:
        return 1
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_INSTANCES:
        raise bad(below(field, "instance_count"), f"must be a whole number from 1 to {MOST_INSTANCES}")
    return count


def _steps(value: Any, field: str, depth: int) -> dict[str, Any]:
    given = named(value, field)
    if not given:
        raise bad(field, "a pipeline needs at least one step")
    if len(given) > MOST_STEPS:
        raise bad(field, f"has {len(given)} steps, more than {MOST_STEPS}")
    return {name: _step(raw, below(field, name), depth) for name, raw in given.items()}


def _step(raw: Any, field: str, depth: int) -> dict[str, Any]:
    given = mapping(raw, field)
    kind = given.get("type")
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind not in (None, "", "command", "pipeline"):
        raise _no_kind(given["type"], below(field, "type"))
    if given.get("command") is not None:
        raise bad(below(field, "component"), "give the step's command in a component: component: {type: command, …}")
    only(given, (*STEP, *STEP_MORE, *STEP_TOLD, *STEP_REFUSED), field)
    _empty(given, STEP_REFUSED, field)
    made = {
        "component": _component(given, field, depth),
        "inputs": _inputs(given.get("inputs"), below(field, "inputs")),
        "outputs": _outputs(given.get("outputs"), below(field, "outputs")),
        "compute": _either(given, "compute", "computeId", field),
        "environment_variables": texts(given.get("environment_variables"), below(field, "environment_variables")),
        "display_name": text(given.get("display_name"), below(field, "display_name"), longest=255),
    }
    if given.get("resources"):
        made["resources"] = {"instance_count": _instances(given["resources"], below(field, "resources"))}
    return {"type": kind or "", **{key: value for key, value in made.items() if value not in ("", {})}}


def _component(given: dict[str, Any], field: str, depth: int) -> Any:
    inline = given.get("component")
    if isinstance(inline, dict) and not given.get("componentId"):
        return normalise(inline, below(field, "component"), depth + 1)
    reference = _either(given, "component", "componentId", field)
    if not reference:
        raise bad(below(field, "component"), "is required")
    return reference


def brought_by(spec: dict[str, Any]) -> int:
    """How many components the steps of a normalised one bring along, those of theirs too."""
    inline = [step["component"] for step in spec.get("jobs", {}).values() if isinstance(step["component"], dict)]
    return len(inline) + sum(brought_by(each) for each in inline)


def _either(given: dict[str, Any], yaml: str, wire: str, field: str) -> str:
    if given.get(yaml) is not None and given.get(wire) is not None:
        raise bad(below(field, yaml), f"give {yaml} or {wire}, not both")
    return text(given.get(wire) if given.get(yaml) is None else given[yaml], below(field, yaml), longest=LONGEST_URI)


def _inputs(value: Any, field: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, raw in named(value, field).items():
        at = below(field, name)
        found = value_of(raw, at)
        if isinstance(found, Data):
            mode = {"mode": found.mode} if found.mode else {}
            if found.uri.startswith("${{"):
                made[name] = {"path": found.uri, **mode} if mode else found.uri
            else:
                made[name] = {"path": found.uri, **({"type": found.type} if found.type else {}), **mode}
        elif isinstance(raw, dict) and raw.get("mode") is not None and isinstance(found, str):
            # how the SDK sends a binding that has a mode
            made[name] = {"path": found, "mode": mode_of(raw["mode"], INPUT_MODES, below(at, "mode"))}
        elif found is not None:
            made[name] = found
    return made


def _outputs(value: Any, field: str) -> dict[str, Any]:
    """Outputs of a step: bound to the pipeline's, put somewhere, or left where they come to lie by themselves."""
    made: dict[str, Any] = {}
    for name, raw in named(value, field).items():
        at = below(field, name)
        made[name] = None
        if raw is None:
            continue
        given = {"path": raw} if isinstance(raw, str) else mapping(raw, at)
        plain = {key.replace("_", "").lower(): each for key, each in given.items() if each is not None}
        only(plain, ("type", "joboutputtype", "path", "uri", "value", "mode", "description"), at)
        places = [plain[key] for key in ("path", "uri", "value") if key in plain]
        if len(places) > 1:
            raise bad(at, "give one of path, uri and value")
        kind = plain.get("joboutputtype", plain.get("type"))
        found = {
            "path": text(places[0], at, longest=LONGEST_URI) if places else "",
            "type": "" if kind is None or str(kind).lower() == "literal" else kind_of(kind, below(at, "type")),
            "mode": mode_of(plain.get("mode"), OUTPUT_MODES, below(at, "mode")),
        }
        if found["type"] and found["type"] not in DATA:
            raise bad(below(at, "type"), f"must be one of {', '.join(DATA)}")
        kept = {key: each for key, each in found.items() if each}
        if kept:
            made[name] = kept["path"] if list(kept) == ["path"] else kept
    return made

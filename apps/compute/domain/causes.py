"""Why a replica ended or never became ready, in the catalogue's words, with the line that proves it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from apps.compute import doctor
from apps.compute.domain.recipes import Recipe, logs
from apps.compute.drivers.base import Observation
from apps.compute.models import Replica
from apps.compute.probe import Answer
from apps.core.errors import Problem

log = structlog.get_logger(__name__)

PERMANENT = {"script-import", "script-function", "script-init", "model-load"}  # trying again changes nothing
SAID_AS_IT_IS = PERMANENT | {"out-of-memory"}
RUNTIME_CODES = {
    "UserScriptImportError": "script-import",
    "UserScriptFunctionNotFound": "script-function",
    "UserScriptInitFailed": "script-init",
    "ModelLoadFailed": "model-load",
}
NOT_FOUND = 404
MOST_NAMED = 12  # files of a model
AT_IMPORT = "Correct the line that is named: it is run when the script is imported."


def why_ended(replica: Replica, seen: Observation) -> Problem:
    ready = replica.ready_at is not None
    return told(seen, replica.set.owner_key, _lines(replica), recipe=Recipe.from_json(replica.set.spec), ready=ready)


def told(seen: Observation, name: str, lines: Sequence[str], *, recipe: Recipe, ready: bool) -> Problem:
    """`lines`: the end of its log. `ready`: whether it has been, in this life."""
    last = _last(lines)
    if seen.oom:
        return Problem("out-of-memory", deployment=name, limit=f"{recipe.mem_bytes // 2**20} MiB", evidence=last)
    if seen.failure is not None:
        code = RUNTIME_CODES.get(seen.failure.code, "start-failed")
        reason, evidence = seen.failure.message, seen.failure.evidence
        found = doctor.diagnose(evidence, [] if evidence else lines)  # it knows better than its log
        evidence = evidence or last
    else:
        code = "server-ended" if ready else "start-failed"
        reason, evidence = doctor.ended_by(seen.exit_code), last
        found = doctor.diagnose(evidence, lines)
    if found is None:
        hint = "" if code != "script-import" or "ImportError" in evidence else AT_IMPORT
        return Problem(code, evidence=evidence, reason=reason, hint=hint, deployment=name)
    return Problem(
        found.code if found.code and code in RETOLD else code,
        evidence=found.evidence,
        reason=found.reason or reason,
        hint=f"{found.hint} {_files_of_model(recipe)}" if found.lists_model else found.hint,
        deployment=name,
    )


def _files_of_model(recipe: Recipe) -> str:
    """What the server finds in AZUREML_MODEL_DIR, as a sentence; "" without a model."""
    target = recipe.env.get("AZUREML_MODEL_DIR", "")
    source = next((source for source, mounted in recipe.mounts if mounted == target), "")
    if not target or not source:
        return ""
    names: list[str] = []
    for folder, folders, files in os.walk(source):
        folders.sort()
        names += [Path(folder, each).relative_to(source).as_posix() for each in sorted(files)]
        if len(names) > MOST_NAMED:
            break
    more = ", …" if len(names) > MOST_NAMED else ""
    return f"In AZUREML_MODEL_DIR there is: {', '.join(names[:MOST_NAMED])}{more}."


RETOLD = {"start-failed", "script-import", "script-init", "model-load"}  # what a diagnosis may call by another name


def refused(replica: Replica, said: str) -> Problem:
    """For what the back end does not even start."""
    found = doctor.diagnose(said, ())
    hint = found.hint if found else ""
    return Problem("start-failed", deployment=replica.set.owner_key, reason=said, evidence=said, hint=hint)


def never_ready(replica: Replica, ready: Answer) -> Problem:
    """For a server that runs and does not answer as it should."""
    limit = int(replica.set.spec["start_deadline_s"])
    lines = _lines(replica)
    found = doctor.diagnose("", lines)
    hint = found.hint if found else ""
    if ready.status == NOT_FOUND:
        hint = "The server runs, but has nothing at this path: correct the readiness route of the inference_config."
    elif ready.refused:
        hint = (
            "Nothing listens on this port: let the server listen there, on 0.0.0.0 and not on 127.0.0.1, "
            "or correct the port in the inference_config."
        )
    evidence = "; ".join(filter(None, [ready.said, found.evidence if found else _last(lines)]))
    return Problem("not-ready", deployment=replica.set.owner_key, seconds=limit, evidence=evidence, hint=hint)


def _last(lines: Sequence[str]) -> str:
    return next((line[:400] for line in reversed(lines) if line.strip()), "")


def _lines(replica: Replica) -> list[str]:
    """The end of its log; nothing when that cannot be read now: the reason must not hang on it."""
    try:
        return [line.text for line in logs(replica, tail=doctor.LOOKED_AT)]
    except Problem as problem:
        log.warning("replica.log_unread", replica=replica.name, owner=replica.set.owner_key, reason=problem.message)
        return []

"""The problem catalogue: every error a user can meet, whose fault it is, and what to do next. Texts live here only.

`azure` is the code on the wire (spec 6.5 and wire 3.3); the key of the catalogue is ours and stable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Fault(StrEnum):
    USER = "user"
    CAPACITY = "capacity"
    SYSTEM = "system"


@dataclass(frozen=True)
class Entry:
    status: int
    azure: str
    fault: Fault
    message: str | Promise
    next_step: str | Promise = ""


USER, CAPACITY, SYSTEM = Fault.USER, Fault.CAPACITY, Fault.SYSTEM

CATALOGUE: dict[str, Entry] = {
    "unauthenticated": Entry(401, "Unauthorized", USER, _("Sign in, or send a valid bearer token."), _("Make a token under Account, Tokens.")),
    "forbidden": Entry(403, "AuthorizationFailed", USER, _("Your role in workspace {workspace} does not allow this: {permission}."), _("Ask an owner of the workspace for a role that does.")),
    "not-found": Entry(404, "ResourceNotFound", USER, _("There is no {kind} {name}.")),
    "bad-json": Entry(400, "BadArgument", USER, _("The body is not valid JSON: {reason}.")),
    "bad-field": Entry(400, "BadArgument", USER, _("{field}: {reason}"), _("Correct {field}, then try again.")),
    "unknown-field": Entry(400, "BadArgument", USER, _("Unknown or unsupported field {field}."), _("Remove it. Portway refuses what it would have to ignore.")),
    "bad-name": Entry(400, "BadArgument", USER, _("{name!r} is not a valid {kind} name: {rule}.")),
    "conflict": Entry(409, "Conflict", USER, _("{reason}")),
    "exists": Entry(409, "Conflict", USER, _("{kind} {name} exists already."), _("Choose another name.")),
    "output-exists": Entry(409, "Conflict", USER, _("There is something at {uri} already. Nothing is ever overwritten."), _("Choose another place, or delete what is there.")),
    "busy": Entry(409, "Conflict", USER, _("Another operation on {subject} is still running: {kind}."), _("Wait until it has ended.")),
    "searching": Entry(429, "TooManyRequests", CAPACITY, _("Another search of yours is still running."), _("Wait until it has ended, then search again.")),
    "stale": Entry(412, "PreconditionFailed", USER, _("{subject} was changed by somebody else meanwhile."), _("Look at the new state, then try again.")),
    "in-use": Entry(409, "ResourceInUse", USER, _("{kind} {name} is used by {users}."), _("Delete those first.")),
    "last-owner": Entry(409, "Conflict", USER, _("{user} is the only owner of {workspaces}."), _("Name another member as the new owner.")),
    "last-administrator": Entry(409, "Conflict", USER, _("{user} is the only administrator of this installation."), _("Make somebody else administrator first.")),
    "own-account": Entry(409, "Conflict", USER, _("You cannot do this to your own account: {what}."), _("Ask another administrator.")),
    "weak-password": Entry(400, "BadArgument", USER, _("This password is not good enough: {reason}")),
    "held": Entry(503, "InternalServerError", CAPACITY, _("An administrator stopped this instance: {reason}"), _("An administrator can start it again in the console.")),
    "immutable": Entry(409, "Conflict", USER, _("{kind} {name} exists already with other content. Versions are immutable."), _("Register a new version.")),
    "traffic-sum": Entry(400, "BadArgument", USER, _("Traffic must sum to 0 or 100 percent, not {total}.")),
    "traffic-value": Entry(400, "BadArgument", USER, _("Traffic of {deployment} must be a whole number from 0 to 100, not {value}.")),
    "traffic-unknown": Entry(400, "BadArgument", USER, _("Traffic names deployment {deployment}, which endpoint {endpoint} does not have.")),
    "traffic-at-create": Entry(400, "BadArgument", USER, _("Traffic cannot be set when an endpoint is created: it has no deployments yet.")),
    "traffic-not-ready": Entry(409, "DeploymentNotReady", USER, _("Deployment {deployment} has never come up, so it cannot take traffic."), _("Mend or replace it first.")),
    "mirror-value": Entry(400, "BadArgument", USER, _("Mirrored traffic must be a whole number from 0 to 50 percent, not {value}.")),
    "mirror-many": Entry(400, "BadArgument", USER, _("Only one deployment can receive mirrored traffic.")),
    "mirror-live": Entry(400, "BadArgument", USER, _("Deployment {deployment} takes live traffic, so it cannot be the mirror target too.")),
    "has-traffic": Entry(409, "DeploymentHasTraffic", USER, _("Deployment {deployment} receives {percent} % of the {kind} traffic."), _("Move its traffic to 0 first.")),
    "no-keys": Entry(400, "BadArgument", USER, _("Endpoint {endpoint} does not use keys for authentication.")),
    "no-tokens": Entry(400, "BadArgument", USER, _("Endpoint {endpoint} does not use tokens for authentication.")),
    "limit": Entry(400, "OutOfQuota", CAPACITY, _("The limit of {limit} {what} is reached."), _("Delete what is not needed, or ask the operator to raise the limit.")),
    "no-capacity": Entry(409, "OutOfQuota", CAPACITY, _("Not enough {what} on {place}: {asked} asked, {free} free."), _("Choose a smaller instance type or fewer instances, or delete a deployment.")),
    "quota": Entry(409, "OutOfQuota", CAPACITY, _("The quota of workspace {workspace} does not allow it: {asked} {what} asked, {free} of {limit} free."), _("Choose a smaller instance type or fewer instances, delete a deployment, or ask an administrator for a larger quota.")),
    "no-target": Entry(400, "BadArgument", CAPACITY, _("No compute target of this installation can run it: {reason}."), _("Choose another environment or instance type, or ask an administrator to enable a target that can.")),
    "target-unfit": Entry(400, "BadArgument", USER, _("Workspace {workspace} runs on {place}, which cannot run it: {reason}."), _("Choose another environment or instance type, or ask an administrator for another target for this workspace.")),
    "upload-refused": Entry(400, "BadArgument", USER, _("The upload was refused: {reason}")),
    "upload-too-large": Entry(413, "BadArgument", USER, _("The upload is larger than {limit}.")),
    "disk-full": Entry(507, "InternalServerError", CAPACITY, _("The disk of this installation is full."), _("Free space below the state folder, then try again.")),
    "model-invalid": Entry(400, "BadArgument", USER, _("This is not a valid {kind}: {reason}"), _("Correct its files, then register it again.")),
    "script-missing": Entry(400, "BadArgument", USER, _("The scoring script {script} is not in the code folder."), _("Check scoring_script; paths are relative to the code folder.")),
    "script-syntax": Entry(400, "BadArgument", USER, _("The scoring script {script} has a syntax error."), _("Correct that line, then register the code again.")),
    "environment-needed": Entry(400, "BadArgument", USER, _("This deployment needs an environment."), _("Only MLflow models can be deployed without one.")),
    "unsupported": Entry(400, "BadArgument", USER, _("{what} is not supported: {reason}"), _("Ask for something that is supported.")),
    "environment-failed": Entry(400, "ImageBuildFailure", USER, _("The environment could not be built: {reason}"), _("Read the build's log.")),
    "build-unavailable": Entry(503, "ImageBuildFailure", SYSTEM, _("The environment could not be built: {reason}"), _("Check that the package index can be reached, then try again.")),
    "image-missing": Entry(400, "ImageBuildFailure", USER, _("Image {image} cannot be had: no registry has it, or not for Portway."), _("Check its name and tag. A private image has to be on the machine already: docker pull or docker load.")),
    "image-unavailable": Entry(503, "ImageBuildFailure", SYSTEM, _("Image {image} cannot be had: {reason}."), _("Check that its registry can be reached, or put it on the machine with docker load, then try again.")),
    "start-failed": Entry(400, "ResourceNotReady", USER, _("The model server of {deployment} ended while starting: {reason}"), _("Read the deployment's log.")),
    "server-ended": Entry(400, "ResourceNotReady", USER, _("The model server of {deployment} ended: {reason}"), _("Read the deployment's log.")),
    "script-import": Entry(400, "UserScriptImportError", USER, _("{reason}"), _("Fix the import, or add the package to the environment.")),
    "script-function": Entry(400, "UserScriptFunctionNotFound", USER, _("{reason}"), _("The script needs init() and run(data).")),
    "script-init": Entry(400, "UserScriptInitFailed", USER, _("{reason}"), _("Fix init(), then deploy again.")),
    "model-load": Entry(400, "ResourceNotReady", USER, _("{reason}"), _("Compare the package versions of the model with those of the environment.")),
    "out-of-memory": Entry(400, "ResourceNotReady", USER, _("The model server of {deployment} was ended because it used more than its {limit} of memory."), _("Choose an instance type with more memory.")),
    "crash-loop": Entry(400, "ResourceNotReady", USER, _("The model server of {deployment} ended {count} times in a row: {reason}"), _("Read the deployment's log.")),
    "not-ready": Entry(400, "ResourceNotReady", USER, _("The model server of {deployment} did not become ready within {seconds} s."), _("Read the deployment's log; a slow init() needs a longer deadline.")),
    "not-yet": Entry(503, "ResourceNotReady", SYSTEM, _("It does not answer yet: {reason}")),
    "unresponsive": Entry(400, "ResourceNotReady", USER, _("The model server of {deployment} did not answer for {seconds} s and was restarted."), _("Read the deployment's log; a longer liveness probe waits longer.")),
    "driver-unavailable": Entry(503, "InternalServerError", SYSTEM, _("The compute back end does not answer: {reason}"), _("See portway doctor.")),
    "gateway-refused": Entry(500, "InternalServerError", SYSTEM, _("The gateway refused the new configuration; the previous one keeps serving."), _("Report this with the evidence line; see portway logs gateway.")),
    "gateway-down": Entry(503, "InternalServerError", SYSTEM, _("The gateway did not confirm the change in time."), _("See portway status; the change is applied as soon as the gateway is back.")),
    "job-script": Entry(400, "UserScriptFailed", USER, _("{reason}"), _("Correct the script, the environment or the input, then submit the job again.")),
    "job-errors": Entry(400, "ErrorThresholdExceeded", USER, _("{failed} files failed, more than the {threshold} that error_threshold allows."), _("Look at the failed mini-batches; retry only those when the cause is mended.")),
    "job-no-results": Entry(400, "NoSucceededItem", USER, _("No succeeded mini batch item returned from run()."), _("Look at the failed mini-batches and at what run() returns.")),
    "job-preempted": Entry(409, "Preempted", CAPACITY, _("All nodes of the low-priority cluster {cluster} were taken away."), _("Submit the job again, or use a dedicated cluster.")),
    "job-ended": Entry(409, "Conflict", USER, _("Job {job} is {state}; {what}."), _("Look at the job; submit it again to run it anew.")),
    "step-failed": Entry(400, "UserScriptFailed", USER, _("Step {step} did not complete: {reason}"), _("Look at the logs of the step's job; what was done is used again when the pipeline is sent again.")),
    "step-skipped": Entry(409, "OperationCanceled", USER, _("Step {step} was not run, because a step before it did not complete."), _("Look at the step that failed.")),
    "node-waiting": Entry(503, "OutOfQuota", CAPACITY, _("No worker host has room for a node of this size."), _("Choose a smaller instance type, or start a worker on another host.")),
    "input-empty": Entry(400, "BadArgument", USER, _("The input has no files: {uri}"), _("Check the path; folders inside of it are not looked into for MLflow models.")),
    "input-missing": Entry(400, "BadArgument", USER, _("The input does not exist: {uri}"), _("Check the path and the datastore.")),
    "input-type": Entry(400, "BadArgument", USER, _("File type {extension!r} is not supported."), _("MLflow models score csv, parquet and image files; give the deployment a scoring script for others.")),
    "canceled": Entry(409, "OperationCanceled", USER, _("The operation was canceled.")),
    "not-cancelable": Entry(409, "Conflict", USER, _("An operation of kind {kind} cannot be canceled, or has ended."), _("Start the change that undoes it.")),
    "attempts": Entry(500, "InternalServerError", SYSTEM, _("The operation was interrupted {count} times and is given up."), _("Start it again; if it happens again see portway doctor.")),
    "internal": Entry(500, "InternalServerError", SYSTEM, _("Portway failed. This is not your fault."), _("Try again; if it happens again report the request id to your operator.")),
    "unavailable": Entry(503, "ServiceUnavailable", SYSTEM, _("{what} is not available just now."), _("Try again in a few seconds; see portway status.")),
}  # fmt: skip


class Problem(Exception):  # noqa: N818 -- the word the whole code base and its users know
    """An error from the catalogue, with its parameters, the line that proves it, and the field or object it is about."""

    def __init__(
        self, code: str, *, evidence: str = "", target: str = "", details: Sequence[Problem] = (), **params: Any
    ) -> None:
        self.code = code
        self.entry = CATALOGUE[code]
        self.params = {key: str(value) if isinstance(value, Promise) else value for key, value in params.items()}
        self.evidence = evidence
        self.target = target
        self.details = tuple(details)
        super().__init__(code)

    @property
    def message(self) -> str:
        return str(self.entry.message).format_map({"target": self.target, **self.params})

    @property
    def next_step(self) -> str:
        """What to do: the hint of who raised it, when there is one, for it knows more than the catalogue."""
        if self.params.get("hint"):
            return str(self.params["hint"]).strip()
        return str(self.entry.next_step).format_map({"target": self.target, **self.params}).strip()

    def __str__(self) -> str:
        return self.message

    def as_json(self) -> dict[str, Any]:
        """What is stored with an operation and what the studio draws."""
        return {
            "code": self.code,
            "azure": self.entry.azure,
            "fault": str(self.entry.fault),
            "message": self.message,
            "evidence": self.evidence,
            "next": self.next_step,
            "target": self.target,
        }

    def as_envelope(self) -> dict[str, Any]:
        """The body on the wire (wire 3.3)."""
        return envelope(self.as_json(), details=[detail.as_json() for detail in self.details])


def envelope(error: dict[str, Any], details: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The ARM error body of an error stored by `Problem.as_json`."""
    inner: dict[str, Any] = {"code": error["azure"], "message": error["message"]}
    if error.get("target"):
        inner["target"] = error["target"]
    inner["details"] = [{"code": each["azure"], "message": each["message"]} for each in details]
    if error.get("evidence"):
        inner["details"].append({"code": "Evidence", "message": error["evidence"]})
    if error.get("next"):
        inner["details"].append({"code": "NextStep", "message": error["next"]})
    inner["additionalInfo"] = [{"type": "Portway", "info": {"code": error["code"], "fault": error["fault"]}}]
    return {"error": inner}


def stored_problem(data: dict[str, Any]) -> Problem:
    """A Problem again from what `Problem.as_json` stored; its text is kept as it was."""
    code = data["code"] if data["code"] in CATALOGUE else "internal"
    return Stored(code, data)


class Stored(Problem):
    """A problem read back from the database."""

    def __init__(self, code: str, data: dict[str, Any]) -> None:
        super().__init__(code, evidence=data.get("evidence", ""), target=data.get("target", ""))
        self._data = data

    @property
    def message(self) -> str:
        return str(self._data["message"])

    @property
    def next_step(self) -> str:
        return str(self._data.get("next", ""))

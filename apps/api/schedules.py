"""Schedules on the wire: a cron expression or a recurrence that invokes a batch endpoint or makes a pipeline job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission
from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.invocations import job_spec
from apps.api.online import ANY
from apps.api.views import PAGE, WorkspaceView, listing, one
from apps.batch import domain
from apps.batch.domain import JobSpec, ScheduleSpec, triggers
from apps.batch.domain.schedules import upcoming
from apps.batch.models import BatchEndpoint
from apps.batch.models import Schedule as Row
from apps.core.durations import duration
from apps.core.errors import Problem
from apps.registry import references

ENDPOINT = "properties.action.endpointInvocationDefinition.batchEndpoint"
OURS = ("lastJob", "nextRuns", "lastError")  # of `properties`: told, never taken
NEXT = 3  # times that are told
INVOKE, CREATE = "InvokeBatchEndpoint", "CreateJob"
PARTS = {INVOKE: ("endpointInvocationDefinition",), CREATE: ("jobDefinition",)}
TRIGGERS = {"Cron": ("expression",), "Recurrence": ("frequency", "interval", "schedule")}
IDLE = ("services", "status", "identity", "isArchived")  # of a job that was read, and mean nothing in a definition
CLOCK = "%Y-%m-%dT%H:%M:%S"
VIEWS = {"enabledonly": {"enabled": True}, "disabledonly": {"enabled": False}, "all": {}}


def show_schedule(row: Row) -> dict[str, Any]:
    properties = {
        "displayName": row.display_name or None,
        "description": row.description,
        "tags": row.tags,
        "properties": _told(row),
        "isEnabled": row.enabled,
        "provisioningState": "Succeeded",
        "trigger": _trigger(row),
        "action": _action(row),
    }
    return arm.resource(row.workspace, f"schedules/{row.name}", "schedules", row, properties)


def _trigger(row: Row) -> dict[str, Any]:
    times = {name: each for name, each in (("startTime", row.starts_at), ("endTime", row.ends_at)) if each is not None}
    shown = {name: f"{each.astimezone(triggers.zone_of(row.time_zone)):{CLOCK}}" for name, each in times.items()}
    if row.recurrence:
        return {"triggerType": "Recurrence", **row.recurrence, "timeZone": row.time_zone, **shown}
    return {"triggerType": "Cron", "expression": row.cron, "timeZone": row.time_zone, **shown}


def _action(row: Row) -> dict[str, Any]:
    if row.endpoint is None:
        return {"actionType": CREATE, "jobDefinition": row.definition}
    definition = {
        "batchEndpoint": row.endpoint.name,
        "deploymentName": row.deployment_name or None,
        "properties": show_spec(JobSpec(**row.body)),
    }
    return {"actionType": INVOKE, "endpointInvocationDefinition": definition}


def _told(row: Row) -> dict[str, str]:
    """As texts: the map holds nothing else."""
    times = upcoming(row, NEXT) if row.enabled else []
    return {
        "lastJob": row.last_job.name if row.last_job else "",
        "nextRuns": ",".join(f"{each.isoformat()}" for each in times),
        "lastError": row.last_error["message"] if row.last_error else "",
    }


def show_spec(spec: JobSpec) -> dict[str, Any]:
    """The `properties` of an invocation, as `invocations.job_spec` reads them."""
    given = spec.overrides
    retries = {"maxRetries": given.get("max_retries")}
    if given.get("timeout_ms") is not None:
        retries["timeout"] = duration(given["timeout_ms"])
    shown = {
        "inputData": {name: _data(each, "jobInputType") for name, each in spec.inputs.items()},
        "outputData": {name: _data(each, "jobOutputType") for name, each in spec.outputs.items()},
        "displayName": spec.display_name,
        "experimentName": spec.experiment_name,
        "description": spec.description,
        "tags": spec.tags,
        "properties": spec.properties,
        "compute": _filled({"instanceCount": given.get("instance_count")}),
        "miniBatchSize": given.get("mini_batch_size"),
        "errorThreshold": given.get("error_threshold"),
        "retrySettings": _filled(retries),
        "outputFileName": given.get("output_file_name"),
        "loggingLevel": given.get("logging_level"),
    }
    return _filled(shown)


def _data(value: dict[str, Any], kind: str) -> dict[str, Any]:
    return {kind: value["type"], **{name: each for name, each in value.items() if name != "type"}}


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", {})}


class ScheduleView(WorkspaceView):
    def schedules(self) -> Any:
        related = ("workspace", "endpoint", "last_job", "created_by", "modified_by")
        return Row.objects.filter(workspace=self.workspace).select_related(*related)

    def schedule(self, name: str) -> Row:
        found: Row = one(self.schedules().filter(name=name), "schedule", name)
        return found

    def spec(self, body: dict[str, Any]) -> ScheduleSpec:
        given = body["properties"]
        _check_properties(given)
        return ScheduleSpec(
            **_when(given["trigger"]),
            **self._what(given["action"]),
            display_name=given.get("displayName") or "",
            description=given.get("description") or "",
            tags=given.get("tags") or {},
            enabled=True if given.get("isEnabled") is None else given["isEnabled"],
        )

    def _what(self, action: dict[str, Any]) -> dict[str, Any]:
        """The fields of a `ScheduleSpec` that say what it does."""
        _check_fits(action, PARTS, action["actionType"], "properties.action")
        if action["actionType"] == CREATE:
            made = action["jobDefinition"]
            return {"endpoint": None, "definition": {name: each for name, each in made.items() if name not in IDLE}}
        invoked = action["endpointInvocationDefinition"]
        return {
            "endpoint": self._endpoint(invoked["batchEndpoint"]),
            "job": job_spec({"properties": invoked.get("properties") or {}}),
            "deployment": invoked.get("deploymentName") or "",
        }

    def _endpoint(self, text: str) -> BatchEndpoint:
        name = references.resource_name(text, workspace=self.workspace, kind="batchEndpoints", field=ENDPOINT)
        rows = BatchEndpoint.objects.filter(workspace=self.workspace, name__iexact=name)
        found = rows.select_related("workspace").first()
        if found is None:
            reason = f"there is no batch endpoint {name[:60]!r} in this workspace"
            raise Problem("bad-field", field=ENDPOINT, reason=reason, target=ENDPOINT)
        return found


def _when(trigger: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `ScheduleSpec` that say when it is due."""
    zone = trigger.get("timeZone") or "UTC"
    clock = triggers.zone_of(zone)
    found: dict[str, Any] = {
        "time_zone": zone,
        "starts_at": triggers.moment(trigger.get("startTime"), clock, "startTime"),
        "ends_at": triggers.moment(trigger.get("endTime"), clock, "endTime"),
    }
    _check_fits(trigger, TRIGGERS, trigger["triggerType"], "properties.trigger")
    if trigger["triggerType"] == "Cron":
        return found | {"cron": trigger["expression"]}
    pattern = {name: each for name, each in (trigger.get("schedule") or {}).items() if each}
    recurrence = {"frequency": trigger["frequency"], "interval": trigger["interval"], "schedule": pattern}
    return found | {"recurrence": recurrence}


def _check_fits(given: dict[str, Any], kinds: Mapping[str, tuple[str, ...]], kind: str, at: str) -> None:
    """That the fields are those of the kind, the first of which it must have."""
    for name in {each for names in kinds.values() for each in names} - set(kinds[kind]):
        if given.get(name) is not None:
            what = f"{at}.{name}"
            raise Problem("unsupported", what=what, reason=f"{kind} has none", target=what)
    for name in kinds[kind][:2]:
        if given.get(name) is None:
            what = f"{at}.{name}"
            raise Problem("bad-field", field=what, reason=f"is required: {kind} needs it", target=what)


def _check_properties(given: dict[str, Any]) -> None:
    """What is told there can be sent back; a schedule keeps nothing else in it."""
    if (given.get("properties") or {}).keys() - set(OURS):
        what = "properties.properties"
        raise Problem("unsupported", what=what, reason="a schedule has tags", target=what)


class Schedules(ScheduleView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        """All of them, unless `listViewType` says otherwise."""
        view = VIEWS.get(request.query_params.get("listViewType", "All").lower())
        if view is None:
            reason = "must be EnabledOnly, DisabledOnly or All"
            raise Problem("bad-field", field="listViewType", reason=reason, target="listViewType")
        return listing(show_schedule(each) for each in self.schedules().filter(**view)[:PAGE])


class Schedule(ScheduleView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, **_: Any) -> Response:
        return Response(show_schedule(self.schedule(name)))

    @extend_schema(request=shapes.ScheduleBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, name: str, **_: Any) -> Response:
        """Its jobs are made in the name of who saves it."""
        spec = self.spec(self.valid(shapes.ScheduleBody, request.data))
        found = self.schedules().filter(name=name).first()
        if found is None:
            domain.create_schedule(workspace=self.workspace, name=name, spec=spec, actor=request.user)
        else:
            domain.update_schedule(schedule=found, spec=spec, actor=request.user)
        return Response(show_schedule(self.schedule(name)), status=200 if found else 201)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, name: str, **_: Any) -> Response:
        found = self.schedules().filter(name=name).first()
        if found is not None:
            domain.delete_schedule(schedule=found, actor=request.user)
        return Response(status=204)


class ScheduleTrigger(ScheduleView):
    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.SCORE}

    @extend_schema(request=shapes.TriggerOnce, responses=ANY)
    def post(self, request: Request, name: str, **_: Any) -> Response:
        """Do once, now, what it does when it is due."""
        self.valid(shapes.TriggerOnce, request.data)
        schedule = self.schedule(name)
        job = domain.trigger_schedule(schedule=schedule, actor=request.user)
        return Response({"scheduleActionType": INVOKE if schedule.endpoint else CREATE, "submissionId": job.name})

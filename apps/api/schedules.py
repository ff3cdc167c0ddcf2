"""Schedules on the wire: a cron trigger that invokes a batch endpoint."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.invocations import job_spec
from apps.api.online import ANY
from apps.api.views import PAGE, WorkspaceView, listing, one
from apps.batch import domain
from apps.batch.domain import JobSpec, ScheduleSpec
from apps.batch.domain.schedules import upcoming
from apps.batch.models import BatchEndpoint
from apps.batch.models import Schedule as Row
from apps.core.durations import duration
from apps.core.errors import Problem
from apps.registry import references

ENDPOINT = "properties.action.endpointInvocationDefinition.batchEndpoint"
OURS = ("lastJob", "nextRuns", "lastError")  # of `properties`: told, never taken
NEXT = 3  # times that are told


def show_schedule(row: Row) -> dict[str, Any]:
    properties = {
        "displayName": row.display_name or None,
        "description": row.description,
        "tags": row.tags,
        "properties": _told(row),
        "isEnabled": row.enabled,
        "provisioningState": "Succeeded",
        "trigger": {"triggerType": "Cron", "expression": row.cron, "timeZone": row.time_zone},
        "action": {
            "actionType": "InvokeBatchEndpoint",
            "endpointInvocationDefinition": {
                "batchEndpoint": row.endpoint.name,
                "deploymentName": row.deployment_name or None,
                "properties": show_spec(JobSpec(**row.body)),
            },
        },
    }
    return arm.resource(row.workspace, f"schedules/{row.name}", "schedules", row, properties)


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
        trigger = given["trigger"]
        for moment in ("startTime", "endTime"):
            if trigger.get(moment):
                what = f"properties.trigger.{moment}"
                reason = "a schedule is in force while it is enabled"
                raise Problem("unsupported", what=what, reason=reason, target=what)
        definition = given["action"]["endpointInvocationDefinition"]
        return ScheduleSpec(
            endpoint=self._endpoint(definition["batchEndpoint"]),
            cron=trigger["expression"],
            time_zone=trigger.get("timeZone") or "UTC",
            job=job_spec({"properties": definition.get("properties") or {}}),
            deployment=definition.get("deploymentName") or "",
            display_name=given.get("displayName") or "",
            description=given.get("description") or "",
            tags=given.get("tags") or {},
            enabled=True if given.get("isEnabled") is None else given["isEnabled"],
        )

    def _endpoint(self, text: str) -> BatchEndpoint:
        name = references.resource_name(text, workspace=self.workspace, kind="batchEndpoints", field=ENDPOINT)
        rows = BatchEndpoint.objects.filter(workspace=self.workspace, name__iexact=name)
        found = rows.select_related("workspace").first()
        if found is None:
            reason = f"there is no batch endpoint {name[:60]!r} in this workspace"
            raise Problem("bad-field", field=ENDPOINT, reason=reason, target=ENDPOINT)
        return found


def _check_properties(given: dict[str, Any]) -> None:
    """What is told there can be sent back; a schedule keeps nothing else in it."""
    if (given.get("properties") or {}).keys() - set(OURS):
        what = "properties.properties"
        raise Problem("unsupported", what=what, reason="a schedule has tags", target=what)


class Schedules(ScheduleView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        return listing(show_schedule(each) for each in self.schedules()[:PAGE])


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

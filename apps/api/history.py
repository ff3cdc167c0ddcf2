"""Run history: what the SDK asks for to stream and download jobs (wire 10)."""

from __future__ import annotations

import uuid
from itertools import islice
from typing import Any, ClassVar

from django.core import signing
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission
from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.artifacts import logs_of
from apps.api.job_files import MOST_OFFSET, log_text, log_url
from apps.api.jobs import RELATED, JobView, run_of
from apps.api.online import ANY
from apps.api.views import PAGE, WorkspaceView, number
from apps.batch.engine.plan import OURS as DATA_TYPES
from apps.batch.enums import JobState, JobType
from apps.batch.models import Job
from apps.core.errors import Problem
from apps.registry import locations
from apps.registry.enums import DataType

SALT = "portway.job-log"
LINK_S = 3600  # how long a link to a log is good; each look at a run gives a new one
STEP = "batchscoring"


def _link(job: Job, name: str) -> str:
    return log_url(signing.dumps({"job": str(job.pk), "log": name}, salt=SALT, compress=True))


@require_GET
def job_log(request: HttpRequest, token: str) -> HttpResponse:
    """A log by a signed link: who was given it may read that one log until it expires."""
    try:
        given = signing.loads(token, salt=SALT, max_age=LINK_S)
        job = Job.objects.get(pk=given["job"])
        after = number(request.GET.get("after") or "0", "after", most=MOST_OFFSET)
        return log_text(job, given["log"], after)
    except (signing.BadSignature, Job.DoesNotExist):
        problem = Problem("not-found", kind="log", name="of this link; it may have expired")
    except Problem as raised:
        problem = raised
    return JsonResponse(problem.as_envelope(), status=problem.entry.status)


class RunView(JobView):
    """A run is a job, or the one step of a model's job."""

    def run(self, run_id: str) -> tuple[Job, bool]:
        """(the job, whether the run is its step). Raises Problem "not-found"."""
        found = run_of(self.workspace, run_id)
        if found is None:
            raise Problem("not-found", kind="run", name=run_id[:255])
        return found, found.name != run_id


class RunDetails(RunView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, run: str, **_: Any) -> Response:
        job, _step = self.run(run)
        files = {shown: _link(job, name) for shown, (name, _size) in islice(logs_of(job).items(), PAGE)}
        return Response(
            {
                "runId": run,
                "target": job.cluster.name if job.cluster is not None else None,
                "status": job.state,
                "startTimeUtc": arm.stamp(job.started_at) if job.started_at else None,
                "endTimeUtc": arm.stamp(job.ended_at) if job.ended_at else None,
                "properties": {},
                "inputDatasets": [],
                "outputDatasets": [],
                "logFiles": files,
                "submittedBy": job.created_by.username if job.created_by else "",
                **({"error": {"error": _error(job.error)}} if job.error else {}),
            }
        )


def _error(error: dict[str, Any]) -> dict[str, Any]:
    return {"code": error["azure"], "message": error["message"]}


class RunChildren(RunView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, run: str, **_: Any) -> Response:
        job, step = self.run(run)
        if step:
            children = []
        elif job.type == JobType.SCORING:
            children = [_child(job, job, job.run_id, STEP)]
        else:
            rows = job.children.select_related(*RELATED).order_by("created_at")[:PAGE]
            children = [_child(each, job, each.name, each.step) for each in rows]
        return Response({"value": children, "nextLink": None})


def _child(job: Job, parent: Job, run_id: str, name: str) -> dict[str, Any]:
    return {
        "runId": run_id,
        "parentRunId": parent.name,
        "rootRunId": parent.name,
        "status": job.state,
        "runType": "azureml.StepRun",
        "displayName": name,
        "experimentId": str(uuid.uuid5(uuid.NAMESPACE_URL, parent.experiment_name)),
        "properties": {},
        "tags": {},
        "createdUtc": arm.stamp(job.created_at),
    }


class RunServices(RunView):
    """What a job serves while it runs: nothing."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, run: str, **_: Any) -> Response:
        self.run(run)
        return Response({"instances": {}})


class RunData(RunView):
    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.READ}

    @extend_schema(request=shapes.RunData, responses=ANY)
    def post(self, request: Request, **_: Any) -> Response:
        """Of a scoring job without outputs: the SDK then looks where results are by custom, and so do we write them."""
        run_id = self.valid(shapes.RunData, request.data)["runId"]
        job, _step = self.run(run_id)
        known = str(uuid.uuid5(uuid.NAMESPACE_URL, run_id))
        metadata = {
            "runId": run_id,
            "status": job.state,
            "runUuid": known,
            "rootRunUuid": str(job.pk),
            "experimentId": str(uuid.uuid5(uuid.NAMESPACE_URL, job.experiment_name)),
            "dataContainerId": known,
            "outputs": {} if job.type == JobType.SCORING else _outputs(job),
            "tags": {},
            "properties": {},
        }
        return Response({"runMetadata": metadata})


def _outputs(job: Job) -> dict[str, dict[str, str]]:
    """What a pipeline or a step has written, by ids that `ResolvedData` knows."""
    if job.state != JobState.COMPLETED:
        return {}
    written = {name: each for name, each in job.outputs.items() if each.get("uri") and not each.get("empty")}
    return {
        name: {"assetId": f"azureml://jobs/{job.name}/outputs/{name}", "type": DATA_TYPES[each["type"]]}
        for name, each in written.items()
    }


class ResolvedData(WorkspaceView):
    """Where data is that the SDK has an id of: outputs of jobs."""

    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.READ}

    @extend_schema(request=shapes.ResolvedData, responses=ANY)
    def post(self, request: Request, **_: Any) -> Response:
        asked = self.valid(shapes.ResolvedData, request.data)["values"]
        return Response({"values": {each: self._resolved(each) for each in asked}})

    def _resolved(self, address: str) -> dict[str, str]:
        location = locations.resolve(address, workspace=self.workspace, actor=self.request.user, field="values")
        kind = DataType.FILE if location.kind() == "file" else DataType.FOLDER
        here = self.workspace
        lead = f"azureml://subscriptions/{here.subscription_id}/resourcegroups/{here.resource_group}/workspaces/{here.name}/"
        return {"uri": location.uri.replace("azureml://", lead, 1), "type": kind}

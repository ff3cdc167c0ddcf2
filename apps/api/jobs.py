"""Jobs on the wire (wire 5.6, 5.9): what runs, what ran, and how far it is."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.policy import Permission, require
from apps.api import arm
from apps.api import batch_shapes as shapes
from apps.api.clusters import compute_id
from apps.api.online import ANY
from apps.api.pipeline_jobs import pipeline_of
from apps.api.views import PAGE, WorkspaceView, number, one
from apps.batch import domain
from apps.batch.domain import JobChange, pipelines
from apps.batch.enums import JobState, JobType, MiniBatchState
from apps.batch.models import Job as Row
from apps.batch.models import MiniBatch as Part
from apps.batch.models import marked
from apps.core.errors import Problem, envelope

RELATED = ("workspace", "cluster", "parent", "created_by")
TYPES = {JobType.SCORING: "Pipeline", JobType.PIPELINE: "Pipeline", JobType.COMMAND: "Command"}
ASSET_TYPES = {  # of invocations → of jobs
    "UriFolder": "uri_folder",
    "UriFile": "uri_file",
    "MLTable": "mltable",
    "Literal": "literal",
    "MLFlowModel": "mlflow_model",
    "CustomModel": "custom_model",
    "TritonModel": "triton_model",
}
OURS = ("azureml.batchrun", "azureml.deploymentname", "azureml.endpointname", "azureml.jobtype")  # tags that we add
MOST_SKIP = 10**9


def studio_url(job: Row) -> str:
    return f"{settings.BASE_URL}/w/{job.workspace.name}/jobs/{job.name}"


def interaction(job: Row) -> dict[str, Any]:
    return {"Studio": {"endpoint": studio_url(job), "jobServiceType": "Studio"}}


def progress(job: Row) -> dict[str, str]:
    """How far it is, as texts: the map holds nothing else."""
    counts = {
        "files": job.files,
        "failedFiles": job.failed_files,
        "miniBatches": job.total,
        "done": job.done,
        "failed": job.failed,
        "rows": job.rows,
    }
    times = {"queuedTime": job.queued_at, "startTime": job.started_at, "endTime": job.ended_at}
    return {
        **{name: str(value) for name, value in counts.items()},
        **{name: arm.stamp(value) for name, value in times.items() if value is not None},
    }


def show_job(job: Row) -> dict[str, Any]:
    batch = job.type == JobType.SCORING or bool(job.endpoint_name)
    tags = dict(job.tags)
    if batch:
        kind = "azureml.pipelinejob" if job.type == JobType.PIPELINE else "batch"  # tells the SDK where results are
        values = ("true", job.deployment_name, job.endpoint_name, kind)
        tags |= dict(zip(OURS, values, strict=True))
    properties = {
        "jobType": TYPES[JobType(job.type)],
        "status": job.state,
        "displayName": job.display_name or job.name,
        "experimentName": job.experiment_name or job.endpoint_name or "Default",
        "description": job.description,
        "isArchived": job.is_archived,
        "services": interaction(job),
        "interactionEndpoints": interaction(job),
        "tags": tags,
        "properties": {**job.properties, "azureml.runsource": "azureml.PipelineRun", **progress(job)},
        "inputs": {name: _data(value, "jobInputType") for name, value in job.inputs.items()},
        "outputs": {name: _data(value, "jobOutputType") for name, value in job.outputs.items()},
        "jobs": {},
        "settings": {},
        "computeId": compute_id(job.workspace, job.cluster) if job.cluster is not None else None,
        "sourceJobId": None,
        **({"error": envelope(job.error)["error"]} if job.error else {}),
    }
    return arm.resource(job.workspace, f"jobs/{job.name}", "jobs", job, properties)


def show_whole(job: Row) -> dict[str, Any]:
    """The job with its steps, which lists leave out."""
    shown = show_job(job)
    if job.type == JobType.PIPELINE:
        more = pipeline_of(job)
        compute = more["settings"]["default_compute"]
        shown["properties"] |= more
        shown["properties"]["computeId"] = f"{job.workspace.arm_id}/computes/{compute}" if compute else None
    return shown


def _data(value: dict[str, Any], kind: str) -> dict[str, Any]:
    shown = {name: value[name] for name in ("uri", "value") if value.get(name) is not None}
    return {kind: ASSET_TYPES.get(value.get("type", ""), "uri_folder"), "mode": None, **shown}


def show_invocation(job: Row) -> dict[str, Any]:
    """A job as the data plane of batch endpoints shows it."""
    properties = {
        "inputData": {name: {"jobInputType": each.get("type"), **_where(each)} for name, each in job.inputs.items()},
        "outputData": {name: {"jobOutputType": each.get("type"), **_where(each)} for name, each in job.outputs.items()},
        "status": job.state,
        "provisioningState": "Succeeded",
        "interactionEndpoints": interaction(job),
        "name": job.name,
        "properties": {"experimentName": job.experiment_name} if job.experiment_name else {},
        **({"error": envelope(job.error)["error"]} if job.error else {}),
    }
    path = f"batchEndpoints/{job.endpoint_name}/jobs/{job.name}"
    return arm.resource(job.workspace, path, "batchEndpoints/jobs", job, properties)


def _where(value: dict[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("uri", "value") if name in value}


def choose(rows: QuerySet[Row], asked: Any) -> QuerySet[Row]:
    """The jobs that a query asks for."""
    view = asked.get("listViewType", "ActiveOnly").lower()
    if view != "all":
        rows = rows.filter(is_archived=view == "archivedonly")
    for name, states in (("jobType", JobType), ("status", JobState)):
        if asked.get(name):
            rows = rows.filter(**_named(name, asked[name], states))
    for name in ("endpoint", "deployment"):
        if asked.get(name):
            rows = rows.filter(**{f"{name}_name__iexact": asked[name]})
    if asked.get("search"):
        words = asked["search"][:100]
        rows = rows.filter(Q(name__icontains=words) | Q(display_name__icontains=words))
    return rows


def _named(name: str, value: str, states: Any) -> dict[str, Any]:
    wanted = [word.strip().lower() for word in value.split(",")]
    known = [state for state in states.values if state.lower() in wanted]
    if len(known) != len(set(wanted)):
        reason = f"must be of {', '.join(states.values)}"
        raise Problem("bad-field", field=name, reason=reason, target=name)
    return {"type__in" if states is JobType else "state__in": known}


def page_of(request: Request, rows: QuerySet[Row], show: Any) -> Response:
    """One page of a list, with the address of the next one when there is more."""
    asked = request.query_params
    top = number(asked.get("$top") or str(PAGE), "$top", most=PAGE) or PAGE
    skip = number(asked.get("$skip") or asked.get("skip") or "0", "$skip", most=MOST_SKIP)
    found = list(rows[skip : skip + top + 1])
    following = None
    if len(found) > top:
        rest = {name: value for name, value in asked.items() if name not in {"$skip", "skip"}}
        following = f"{settings.BASE_URL}{request.path}?{urlencode({**rest, '$skip': skip + top})}"
    return Response({"value": [show(each) for each in found[:top]], "nextLink": following})


def run_of(workspace: Any, run_id: str) -> Row | None:
    """The job of a run, which is a job, or the one step of a model's job."""
    rows = Row.objects.filter(workspace=workspace).select_related(*RELATED)
    found = rows.filter(name=run_id).first()
    if found is not None:
        return found
    try:
        key = marked(uuid.UUID(run_id))
    except ValueError:
        return None
    return rows.filter(type=JobType.SCORING, pk=key).first()


class JobView(WorkspaceView):
    def jobs(self) -> QuerySet[Row]:
        return Row.objects.filter(workspace=self.workspace).select_related(*RELATED)

    def job(self, name: str) -> Row:
        found: Row = one(self.jobs().filter(name=name), "job", name)
        return found


class Jobs(JobView):
    """Steps of pipelines are listed with their pipeline only."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, **_: Any) -> Response:
        rows = choose(self.jobs().filter(parent=None).defer("launch", "settings"), request.query_params)
        return page_of(request, rows.order_by("-created_at", "-pk"), show_job)


class Job(JobView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, job: str, **_: Any) -> Response:
        return Response(show_whole(self.job(job)))

    @extend_schema(request=shapes.NewJobBody, responses={200: ANY, 201: ANY})
    def put(self, request: Request, job: str, **_: Any) -> Response:
        """Send a pipeline job; of a job that exists change what can be: the SDK sends back what it has read."""
        if self.jobs().filter(name=job).exists():
            return self.patch(request, job)
        require(request.user, Permission.SCORE, self.workspace)
        document = self.valid(shapes.NewJobBody, request.data)["properties"]
        made = pipelines.submit(workspace=self.workspace, document=document, name=job, actor=request.user)
        return Response(show_whole(made), status=201)

    @extend_schema(request=shapes.JobBody, responses=ANY)
    def patch(self, request: Request, job: str, **_: Any) -> Response:
        given = self.valid(shapes.JobBody, request.data)["properties"]
        tags = given.get("tags")
        change = JobChange(
            display_name=given.get("displayName"),
            description=given.get("description"),
            tags=None if tags is None else {name: value for name, value in tags.items() if name not in OURS},
            is_archived=given.get("isArchived"),
        )
        return Response(show_whole(domain.update_job(job=self.job(job), change=change, actor=request.user)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, job: str, **_: Any) -> Response:
        found = self.jobs().filter(name=job).first()
        if found is not None:
            domain.delete_job(job=found, actor=request.user)
        return Response(status=204)


class JobScoreView(JobView):
    """For who may submit jobs."""

    permissions: ClassVar[dict[str, Permission]] = {**WorkspaceView.permissions, "POST": Permission.SCORE}


class JobCancel(JobScoreView):
    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, job: str, **_: Any) -> Response:
        return Response(show_whole(domain.cancel(job=self.job(job), actor=request.user)))


class JobRetry(JobScoreView):
    @extend_schema(request=None, responses=ANY)
    def post(self, request: Request, job: str, **_: Any) -> Response:
        """Run the failed mini-batches of an ended job again."""
        return Response(show_job(domain.retry_failed(job=self.job(job), actor=request.user)))


def show_part(part: Part) -> dict[str, Any]:
    return {
        "number": part.number,
        "state": part.state,
        "files": part.file_count,
        "rows": part.rows,
        "attempts": part.attempt,
        "losses": part.losses,
        "node": part.node or None,
        "process": part.process,
        "durationMs": part.duration_ms,
        "startTime": arm.stamp(part.started_at) if part.started_at else None,
        "endTime": arm.stamp(part.ended_at) if part.ended_at else None,
        "error": envelope(part.error)["error"] if part.error else None,
    }


class MiniBatches(JobView):
    """Page by page: `after` is the last number of the page before."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, job: str, **_: Any) -> Response:
        asked = request.query_params
        rows = Part.objects.filter(job=self.job(job)).defer("files").order_by("number")
        state = asked.get("state", "").lower()
        if state:
            if state not in MiniBatchState.values:
                reason = f"must be one of {', '.join(MiniBatchState.values)}"
                raise Problem("bad-field", field="state", reason=reason, target="state")
            rows = rows.filter(state=state)
        if asked.get("after"):
            rows = rows.filter(number__gt=number(asked["after"], "after", most=MOST_SKIP))
        top = number(asked.get("$top") or str(PAGE), "$top", most=PAGE) or PAGE
        found = list(rows[: top + 1])
        following = None
        if len(found) > top:
            rest = {name: value for name, value in asked.items() if name != "after"}
            query = urlencode({**rest, "after": found[top - 1].number})
            following = f"{settings.BASE_URL}{request.path}?{query}"
        return Response({"value": [show_part(each) for each in found[:top]], "nextLink": following})


class MiniBatch(JobView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, job: str, number: int, **_: Any) -> Response:
        row = one(Part.objects.filter(job=self.job(job), number=number), "mini-batch", f"{job}/{number}")
        return Response({**show_part(row), "paths": row.files})

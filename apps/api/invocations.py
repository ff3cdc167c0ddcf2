"""Submitting jobs to batch endpoints and polling them: the data plane (spec 7.1, D7)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.policy import Permission, require, visible_workspaces
from apps.api import batch_shapes as shapes
from apps.api.batch_deployments import BatchDeploymentView, timeout_ms
from apps.api.jobs import JobView, choose, page_of, show_invocation
from apps.api.online import ANY
from apps.api.views import one
from apps.batch import domain
from apps.batch.domain import JobSpec
from apps.batch.models import BatchEndpoint, Job
from apps.core.errors import Problem

PICK = "azureml-model-deployment"
REQUEST_ID = "repeatability-request-id"  # the SDK writes an underscore, which the gateway makes a dash
EXPERIMENT = "experimentName"


def job_spec(body: dict[str, Any]) -> JobSpec:
    given = body["properties"]
    _check_inputs(given.get("inputData") or {})
    retries = given.get("retrySettings") or {}
    compute = given.get("compute") or {}
    overrides = {
        "instance_count": compute.get("instanceCount"),
        "mini_batch_size": given.get("miniBatchSize"),
        "max_retries": retries.get("maxRetries"),
        "timeout_ms": timeout_ms(retries, "properties.retrySettings.timeout"),
        "error_threshold": given.get("errorThreshold"),
        "output_file_name": given.get("outputFileName") or None,
        "logging_level": given.get("loggingLevel"),
    }
    properties = dict(given.get("properties") or {})
    experiment = properties.pop(EXPERIMENT, "")
    return JobSpec(
        inputs={name: _data(each, "jobInputType") for name, each in (given.get("inputData") or {}).items()},
        outputs={name: _data(each, "jobOutputType") for name, each in (given.get("outputData") or {}).items()},
        overrides={name: value for name, value in overrides.items() if value is not None},
        name=given.get("name") or "",
        display_name=given.get("displayName") or "",
        experiment_name=given.get(EXPERIMENT) or experiment,
        description=given.get("description") or "",
        tags=given.get("tags") or {},
        properties=properties,
    )


def _data(given: dict[str, Any], kind: str) -> dict[str, Any]:
    shown = {name: given[name] for name in ("uri", "value", "mode") if given.get(name) is not None}
    return {"type": given.get(kind) or "UriFolder", **shown}


def _check_inputs(inputs: dict[str, Any]) -> None:
    if len(inputs) > shapes.MOST_INPUTS:
        reason = f"a job takes at most {shapes.MOST_INPUTS} inputs"
        raise Problem("bad-field", field="InputData", reason=reason, target="InputData")
    for name, each in inputs.items():
        literal, field = each["jobInputType"] == "Literal", f"InputData.{name}"
        if each["jobInputType"] == "MLTable":
            raise Problem("unsupported", what="MLTable", reason="give a folder or a file", target=field)
        if literal and each.get("value") is None:
            raise Problem("bad-field", field=field, reason="a literal needs a value", target=field)
        if not literal and not each.get("uri"):
            raise Problem("bad-field", field=field, reason="needs a uri", target=field)


class InvokeView(APIView):
    """An endpoint by its name alone, for those who may know of it."""

    def endpoint(self, request: Request, name: str, permission: Permission) -> BatchEndpoint:
        rows = BatchEndpoint.objects.filter(workspace__in=visible_workspaces(request.user), name__iexact=name)
        found: BatchEndpoint = one(rows.select_related("workspace"), "batch endpoint", name)
        require(request.user, permission, found.workspace)
        return found

    def jobs(self, endpoint: BatchEndpoint) -> Any:
        rows = Job.objects.filter(workspace=endpoint.workspace, endpoint=endpoint, parent=None)
        return rows.select_related("workspace", "created_by")


class Invoke(InvokeView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str) -> Response:
        rows = choose(self.jobs(self.endpoint(request, endpoint, Permission.READ)), request.query_params)
        return page_of(request, rows.order_by("-created_at", "-pk"), show_invocation)

    @extend_schema(request=shapes.Invocation, responses={200: ANY, 201: ANY})
    def post(self, request: Request, endpoint: str) -> Response:
        found = self.endpoint(request, endpoint, Permission.SCORE)
        parsed = shapes.Invocation(data=request.data)
        parsed.is_valid(raise_exception=True)
        job, new = domain.invoke(
            endpoint=found,
            deployment=request.headers.get(PICK) or None,
            spec=job_spec(parsed.validated_data),
            actor=request.user,
            request_id=request.headers.get(REQUEST_ID, ""),
        )
        return Response(show_invocation(job), status=201 if new else 200)


class Invocation(InvokeView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, job: str) -> Response:
        found = self.endpoint(request, endpoint, Permission.READ)
        return Response(show_invocation(one(self.jobs(found).filter(name=job), "job", f"{endpoint}/{job}")))


class EndpointJobs(BatchDeploymentView):
    """The jobs of an endpoint, the newest first."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        return self.listed(request, Job.objects.filter(endpoint=self.endpoint(endpoint)))

    def listed(self, request: Request, rows: Any) -> Response:
        rows = rows.filter(workspace=self.workspace, parent=None).select_related("workspace", "created_by")
        return page_of(request, choose(rows, request.query_params).order_by("-created_at", "-pk"), show_invocation)


class DeploymentJobs(EndpointJobs):
    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, deployment: str = "", **_: Any) -> Response:
        return self.listed(request, Job.objects.filter(deployment=self.deployment(endpoint, deployment)))


class EndpointJob(JobView):
    """A job by the id that its endpoint gave it."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, endpoint: str, job: str, **_: Any) -> Response:
        rows = self.jobs().filter(endpoint_name__iexact=endpoint, name=job)
        return Response(show_invocation(one(rows, "job", f"{endpoint}/{job}")))

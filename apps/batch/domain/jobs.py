"""Verbs on jobs: submit, cancel, try the failed parts again, archive."""

from __future__ import annotations

import re
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.batch.domain import pipelines
from apps.batch.domain.given import BLOBS, check_data, check_limit, described, of_deployment, output_uri, pinned
from apps.batch.domain.specs import JobSpec, settings_of
from apps.batch.engine import folders, lifecycle, wake
from apps.batch.enums import DeploymentType, JobState, JobType, MiniBatchState, ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint, Job
from apps.core import audit
from apps.core.errors import Problem

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,100}")
DATA_INPUTS = {"UriFolder", "UriFile"}


def invoke(
    *, endpoint: BatchEndpoint, deployment: str | None, spec: JobSpec, actor: Any, request_id: str = ""
) -> tuple[Job, bool]:
    """Submit a job to an endpoint; (the job, whether it is new). The same `request_id` gives the same job.

    Raises:
        Problem: "not-found" for the deployment, "conflict" without any or for one that is not ready, "bad-field",
            "input-missing", "exists".
    """
    if request_id and not REQUEST_ID.fullmatch(request_id):
        reason = "must be 1 to 100 printable characters without spaces"
        raise Problem("bad-field", field="repeatability-request-id", reason=reason)
    if request_id and (found := _of_request(endpoint, request_id)) is not None:
        return found, False
    chosen = _deployment(endpoint, deployment)
    check_limit(endpoint.workspace)
    job = _scoring_job(chosen, spec) if chosen.type == DeploymentType.MODEL else pipelines.job_of(chosen, spec)
    job.request_id = request_id
    job.created_by = actor if getattr(actor, "pk", None) else None
    try:
        with transaction.atomic():
            lifecycle.submit(job, actor)
    except IntegrityError:
        if request_id and (found := _of_request(endpoint, request_id)) is not None:
            return found, False
        raise Problem("exists", kind="Job", name=job.name, target="name") from None
    return job, True


def _of_request(endpoint: BatchEndpoint, request_id: str) -> Job | None:
    rows = Job.objects.filter(workspace=endpoint.workspace, endpoint_name=endpoint.name)
    return rows.filter(request_id=request_id).first()


def _deployment(endpoint: BatchEndpoint, name: str | None) -> BatchDeployment:
    rows = endpoint.deployments.select_related("endpoint__workspace", "cluster", "model", "code", "environment")
    if name:
        found = rows.filter(name__iexact=name).first()
        if found is None:
            there = ", ".join(rows.values_list("name", flat=True)) or "no deployments"
            raise Problem("not-found", kind="deployment", name=f"{endpoint.name}/{name}; this endpoint has {there}")
    else:
        found = rows.filter(pk=endpoint.default_deployment_id or 0).first()
        if found is None:
            reason = f"Endpoint {endpoint.name} has no default deployment; name one, or set the default."
            raise Problem("conflict", reason=reason)
    if found.state != ProvisioningState.SUCCEEDED:
        raise Problem("conflict", reason=f"Deployment {found} is not ready: it is {found.get_state_display().lower()}.")
    return found


def _scoring_job(deployment: BatchDeployment, spec: JobSpec) -> Job:
    endpoint = deployment.endpoint
    inputs = _one_input(endpoint.workspace, spec)
    settings = settings_of(deployment, spec.overrides)
    if deployment.cluster is None:
        raise Problem("conflict", reason=f"Deployment {deployment} has no compute.")
    if settings.instance_count > deployment.cluster.max_nodes:
        reason = (
            f"is {settings.instance_count}; cluster {deployment.cluster} has at most {deployment.cluster.max_nodes}"
        )
        raise Problem("bad-field", field="resources.instanceCount", reason=reason, target="resources.instanceCount")
    job = Job(
        workspace=endpoint.workspace,
        type=JobType.SCORING,
        cluster=deployment.cluster,
        model=deployment.model,
        code=deployment.code,
        environment=deployment.environment,
        settings=settings.as_json(),
        inputs=inputs,
        **of_deployment(deployment),
        **described(spec),
    )
    job.outputs = {"score": _score_output(job, spec)}
    return job


def _one_input(workspace: Workspace, spec: JobSpec) -> dict[str, dict[str, Any]]:
    """A model's job has exactly one input, of files (spec 7.1)."""
    if len(spec.inputs) != 1:
        reason = f"a model deployment takes exactly one input, not {len(spec.inputs)}"
        raise Problem("bad-field", field="InputData", reason=reason, target="InputData")
    name, given = next(iter(spec.inputs.items()))
    if given.get("type") not in DATA_INPUTS:
        reason = f"a model deployment takes UriFolder or UriFile, not {given.get('type')}"
        raise Problem("bad-field", field=f"InputData.{name}", reason=reason, target=f"InputData.{name}")
    given = given | {"uri": pinned(str(given.get("uri") or ""), workspace, f"InputData.{name}")}
    check_data(workspace, given, f"InputData.{name}")
    return {name: given}


def _score_output(job: Job, spec: JobSpec) -> dict[str, Any]:
    """Where the results go: what the job asks for, else a folder of its own in the default datastore (wire 10)."""
    if any(name != "score" for name in spec.outputs):
        reason = "a model deployment has one output, named score"
        raise Problem("bad-field", field="OutputData", reason=reason, target="OutputData")
    given = spec.outputs.get("score") or {}
    if not given.get("uri"):
        return {"type": given.get("type") or "UriFolder", "uri": f"{BLOBS}/azureml/{job.run_id}/score"}
    uri = output_uri(job.workspace, given["uri"], "OutputData.score")
    return {"type": given.get("type") or "UriFolder", "uri": uri}


@transaction.atomic
def cancel(*, job: Job, actor: Any) -> Job:
    """Ask a job to stop; what is done is kept. Nothing happens when it is stopping already.

    Raises Problem "job-ended".
    """
    if not job.live:
        raise _ended(job, "there is nothing to cancel")
    lifecycle.cancel(job, actor)
    job.refresh_from_db()
    return job


@transaction.atomic
def retry_failed(*, job: Job, actor: Any) -> Job:
    """Run only the failed mini-batches of an ended job again; what is done stays as it is.

    When all are done and only the results could not be written, they are written again.

    Raises Problem "job-ended" when there is nothing to retry or the job is not a model's, "busy" while it still ends.
    """
    if job.live or job.type != JobType.SCORING:
        raise _ended(job, "only an ended job of a model can be retried")
    again = job.mini_batches.exclude(state=MiniBatchState.DONE)
    count = again.count()
    if not count and job.state == JobState.FAILED and job.rows:
        return _deliver_again(job, actor)
    if job.cluster is None or job.cluster.state == ProvisioningState.DELETING:
        raise _ended(job, "its cluster is gone")
    if not count:
        raise _ended(job, "it has no failed mini-batches")
    if job.launch is None:
        raise _ended(job, "it failed before anything could run")
    values = {"failed": 0, "failed_files": 0, "error": None, "outcome": "", "ended_at": None}
    if not lifecycle.move(job, JobState.QUEUED, expect=JobState.ended(), queued_at=timezone.now(), **values):
        job.refresh_from_db()
        raise _ended(job, "somebody else has retried it")
    _check_kept(job)  # now that its row is ours: see `apps.batch.retention`
    again.update(state=MiniBatchState.QUEUED, attempt=0, losses=0, error=None)
    audit.record(actor, "job.retry", workspace=job.workspace.name, target=job.topic, mini_batches=count)
    wake.schedule()
    return job


def _deliver_again(job: Job, actor: Any) -> Job:
    values = {"error": None, "outcome": JobState.COMPLETED, "ended_at": None}
    if lifecycle.move(job, JobState.FINALIZING, expect=[JobState.FAILED], **values):
        _check_kept(job)
        lifecycle.start_finish(job)
        audit.record(actor, "job.retry", workspace=job.workspace.name, target=job.topic, mini_batches=0)
    return job


def _check_kept(job: Job) -> None:
    if folders.is_swept(job):
        raise _ended(job, "its working files were removed since")


def _ended(job: Job, what: str) -> Problem:
    return Problem("job-ended", job=job.name, state=job.get_state_display().lower(), what=what)

"""Batch jobs: the list, and the page of one job with its mini-batches."""

from __future__ import annotations

import gzip
from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.engine import joblogs
from apps.batch.enums import JobState, JobType, MiniBatchState
from apps.batch.models import Job, MiniBatch
from apps.batch.settings import JobSettings
from apps.core.errors import Problem
from apps.monitoring.text import clean
from apps.studio.graph import picture_of
from apps.studio.jobs import jobs_of, letters, map_of, operations_of, progress_of
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import Page, one

FAILED_SHOWN = 5
STEPS_SHOWN = 200
FILES_SHOWN = 200
LOG_TAIL = 60  # lines
LOG_READ = 32 * 1024  # bytes

COLUMNS = (
    Column(_lazy("Job"), "display_name"),
    Column(_lazy("State"), "state"),
    Column(_lazy("Progress")),
    Column(_lazy("Deployment"), "endpoint_name"),
    Column(_lazy("Cluster"), kind="fold"),
    Column(_lazy("By"), kind="fold"),
    Column(_lazy("Created"), "created_at", "fold"),
)
BATCH_COLUMNS = (
    Column(_lazy("Mini-batch"), "number"),
    Column(_lazy("State"), "state"),
    Column(_lazy("Files"), "file_count", "number"),
    Column(_lazy("Attempts"), "attempt", "number"),
    Column(_lazy("Took"), "duration_ms", "number"),
    Column(_lazy("Node"), "node", "fold"),
    Column(_lazy("Error"), kind="fold"),
)


class Jobs(Page):
    """Steps of pipelines are on the page of their pipeline. `type`, `endpoint` and `archived` narrow the list."""

    section = "jobs"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = jobs_of(self.workspace).filter(parent=None, is_archived="archived" in request.GET)
        query, state = query_of(request), request.GET.get("state", "")
        kind, endpoint = request.GET.get("type", ""), request.GET.get("endpoint", "")[:32]
        if query:
            texts = ("name", "display_name", "endpoint_name", "deployment_name", "experiment_name")
            rows = rows.filter(Q(*((f"{name}__icontains", query) for name in texts), _connector=Q.OR))
        if state in JobState.values:
            rows = rows.filter(state=state)
        if kind in JobType.values:
            rows = rows.filter(type=kind)
        if endpoint:
            rows = rows.filter(endpoint_name=endpoint)
        narrowed = bool(kind or endpoint or "archived" in request.GET)
        listed = listing(request, rows, COLUMNS, default="-created_at", states=JobState.choices, narrowed=narrowed)
        names = Job.objects.filter(workspace=self.workspace).exclude(endpoint_name="").order_by("endpoint_name")
        return self.page(
            "jobs",
            listing=listed,
            kind=kind,
            kinds=[each for each in JobType.choices if each[0] != JobType.COMMAND],
            endpoint=endpoint,
            endpoints=names.values_list("endpoint_name", flat=True).distinct()[:200],
            archived="archived" in request.GET,
        )


class JobPage(Page):
    """A page of one job, found in this workspace only."""

    section = "jobs"
    tab: ClassVar[str] = "overview"
    permissions: ClassVar = {}
    job: Job

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        rows = jobs_of(self.workspace).filter(name=kwargs["job"]).select_related("workspace", "parent", "reused_from")
        self.job = one(rows, "job", kwargs["job"])

    def context(self) -> dict[str, Any]:
        job = self.job
        model_job = job.type == JobType.SCORING
        top = model_job or (job.type == JobType.PIPELINE and job.parent_id is None)
        return {
            **super().context(),
            "job": job,
            "tab": self.tab,
            "can_cancel": job.live and job.state not in (JobState.CANCEL_REQUESTED, JobState.FINALIZING),
            "can_retry": model_job and not job.live and job.done < job.total,
            "can_clone": top and bool(job.deployment_id),
        }


class Overview(JobPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        job = self.job
        failed = job.mini_batches.filter(state=MiniBatchState.FAILED)[:FAILED_SHOWN] if job.failed else []
        return self.page(
            "job",
            progress=progress_of(job),
            letters=letters(),
            settings=JobSettings.of(job.settings),
            operations=operations_of(job)[:10],
            failed=failed,
            picture=picture_of(job) if job.type == JobType.PIPELINE else None,
            steps=job.children.all().order_by("created_at")[:STEPS_SHOWN] if job.type == JobType.PIPELINE else [],
        )


class JobMap(JobPage):
    """One letter per mini-batch, in order: q, r, d or f. `<batch-map>` draws them."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        data = map_of(self.job).encode()
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            data = gzip.compress(data, 3)
            headers["Content-Encoding"] = "gzip"
        return HttpResponse(data, content_type="text/plain; charset=utf-8", headers=headers)


class MiniBatches(JobPage):
    """The table behind the map."""

    tab = "mini-batches"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = self.job.mini_batches.defer("files")
        query, state = query_of(request), request.GET.get("state", "")
        if query.isascii() and query.isdigit():
            rows = rows.filter(number=int(query[:9]))
        elif query:
            rows = rows.filter(node__icontains=query)
        if state in MiniBatchState.values:
            rows = rows.filter(state=state)
        listed = listing(request, rows, BATCH_COLUMNS, default="number", states=MiniBatchState.choices)
        listed.rows = [(each, MiniBatchState(each.state).tone) for each in listed.rows]
        return self.page("job_batches", listing=listed)


class MiniBatchPage(JobPage):
    """One mini-batch: a page of its own, and a panel beside the map."""

    tab = "mini-batches"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, number: int, **_: Any) -> HttpResponse:
        batch = one(self.job.mini_batches.filter(number=number), "mini-batch", f"{self.job.name}/{number}")
        return self.page(
            "mini_batch",
            batch=batch,
            tone=MiniBatchState(batch.state).tone,
            files=batch.files[:FILES_SHOWN],
            more_files=len(batch.files) - FILES_SHOWN,
            logs=_said(self.job, batch),
        )


def _said(job: Job, batch: MiniBatch) -> list[tuple[str, str]]:
    """(file, its last lines) of the process that had the mini-batch last."""
    if batch.process is None or not batch.node:
        return []
    found = []
    for stream in ("stdout", "stderr"):
        name = f"logs/user/{stream}/{batch.node}/process{batch.process}.{stream}.txt"
        path = joblogs.path_of(job, name)
        if path is not None:
            lines = joblogs.read(job, name, after=max(0, path.stat().st_size - LOG_READ))[0].splitlines()
            found.append((name, "\n".join(map(clean, lines[-LOG_TAIL:]))))
    return found


class JobVerb(JobPage):
    permissions: ClassVar = {"POST": Permission.WRITE}

    def do(self) -> None:
        raise NotImplementedError

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        self.do()
        return self.go("studio:job", self.workspace.name, self.job.name)


class JobCancel(JobVerb):
    def do(self) -> None:
        domain.cancel(job=self.job, actor=self.request.user)


class JobRetry(JobVerb):
    def do(self) -> None:
        domain.retry_failed(job=self.job, actor=self.request.user)


class JobArchive(JobVerb):
    """Archive a job that has ended, or bring an archived one back."""

    def do(self) -> None:
        if self.job.live:
            raise Problem("conflict", reason=f"Job {self.job.name} has not ended.")
        change = domain.JobChange(is_archived=not self.job.is_archived)
        domain.update_job(job=self.job, change=change, actor=self.request.user)

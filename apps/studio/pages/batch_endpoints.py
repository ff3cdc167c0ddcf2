"""Batch endpoints: the list, and the tabs of one of them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import BatchEndpointSpec
from apps.batch.domain.options import Options
from apps.batch.domain.pipelines import declared_of
from apps.batch.enums import DeploymentType, ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.studio import ascode_batch
from apps.studio.ascode import Writer
from apps.studio.components import Steps, options_of, steps_of
from apps.studio.forms.jobs import examples
from apps.studio.jobs import jobs_of
from apps.studio.listing import Column, listing, query_of
from apps.studio.pages.jobs import COLUMNS as JOB_COLUMNS
from apps.studio.views import Page, one

HISTORY = 50
JOBS_SHOWN = 5
COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("State"), "state"),
    Column(_lazy("Default deployment")),
    Column(_lazy("Deployments"), "deployment_count", "number"),
    Column(_lazy("Jobs"), "job_count", "fold number"),
    Column(_lazy("Created"), "created_at", "fold"),
)


def endpoints_of(workspace: Workspace) -> QuerySet[BatchEndpoint]:
    rows = BatchEndpoint.objects.filter(workspace=workspace)
    return rows.select_related("workspace", "default_deployment", "created_by")


def deployments_of(endpoint: BatchEndpoint) -> QuerySet[BatchDeployment]:
    assets = ("model__asset", "environment__asset", "code__asset", "component__asset__workspace")
    return BatchDeployment.objects.filter(endpoint=endpoint).select_related("endpoint__workspace", "cluster", *assets)


class BatchEndpoints(Page):
    section = "endpoints"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        counts = {
            "deployment_count": Count("deployments", distinct=True),
            "job_count": Count("jobs", distinct=True, filter=Q(jobs__parent=None)),
        }
        rows = endpoints_of(self.workspace).annotate(**counts)
        query, state = query_of(request), request.GET.get("state", "")
        if query:
            rows = rows.filter(Q(name__icontains=query) | Q(description__icontains=query))
        if state in ProvisioningState.values:
            rows = rows.filter(state=state)
        listed = listing(request, rows, COLUMNS, default="name", states=ProvisioningState.choices)
        return self.page("batch_endpoints", listing=listed)


class BatchEndpointPage(Page):
    """A page of one batch endpoint, found in this workspace only."""

    section = "endpoints"
    tab: ClassVar[str] = "overview"
    endpoint: BatchEndpoint
    permissions: ClassVar = {}

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        rows = endpoints_of(self.workspace).filter(name=kwargs["endpoint"])
        self.endpoint = one(rows, "batch endpoint", kwargs["endpoint"])

    def context(self) -> dict[str, Any]:
        return {**super().context(), "endpoint": self.endpoint, "tab": self.tab}


class Overview(BatchEndpointPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        jobs = jobs_of(self.workspace).filter(endpoint=self.endpoint, parent=None)
        deployments = [(each, *_pipeline(each)) for each in deployments_of(self.endpoint)]
        return self.page("batch_endpoint", deployments=deployments, jobs=jobs[:JOBS_SHOWN])


def _pipeline(deployment: BatchDeployment) -> tuple[Steps | None, Options | None]:
    """The steps of a pipeline deployment and what it sets; nothing of another one."""
    if deployment.type != DeploymentType.PIPELINE or deployment.component is None:
        return None, None
    return steps_of(deployment.component), options_of(deployment)


class EndpointJobs(BatchEndpointPage):
    tab = "jobs"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = jobs_of(self.workspace).filter(endpoint=self.endpoint, parent=None)
        return self.page("batch_endpoint_jobs", listing=listing(request, rows, JOB_COLUMNS, default="-created_at"))


class Consume(BatchEndpointPage):
    tab = "consume"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        writer = Writer(self.workspace.name)
        uri = "azureml://datastores/workspaceblobstore/paths/FOLDER"
        chosen = self.endpoint.default_deployment
        inputs = {"data": {"type": "UriFolder", "uri": uri}}
        if chosen is not None and chosen.type == DeploymentType.PIPELINE:
            inputs = examples(declared_of(chosen)[0], uri)
        ascode_batch.job(writer, {"endpoint": self.endpoint.name, "inputs": inputs})
        code = writer.done()
        python = ascode_batch.python(self.endpoint.name, inputs)
        tabs = [("curl", "curl", code.curl), ("python", "Python", python), ("cli", "CLI", code.cli)]
        return self.page("batch_endpoint_consume", tabs=tabs, yaml=code.yaml)


class Activity(BatchEndpointPage):
    tab = "activity"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        mine = Q(target=self.endpoint.topic) | Q(target__startswith=f"batch-deployment/{self.endpoint.name}/")
        rows = Operation.objects.filter(mine, workspace=self.workspace.name).select_related("actor")
        records = AuditRecord.objects.filter(mine, workspace=self.workspace.name).select_related("actor")
        return self.page("batch_endpoint_activity", operations=rows[:HISTORY], records=records[:HISTORY])


class DefaultSet(BatchEndpointPage):
    """Which deployment runs the jobs that name none."""

    permissions: ClassVar = {"POST": Permission.WRITE}

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        name = request.POST.get("deployment", "")[:32]
        if not name:
            raise Problem("bad-field", field=_("Deployment"), reason=_("choose one"))
        spec = BatchEndpointSpec(default_deployment=name)
        return self.to_operation(domain.update_endpoint(endpoint=self.endpoint, spec=spec, actor=request.user))


class BatchEndpointDelete(BatchEndpointPage):
    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page()

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        if request.POST.get("name", "") != self.endpoint.name:
            reason = _("type the name of the endpoint to delete it")
            return self._page(Problem("bad-field", field=_("Name"), reason=reason))
        try:
            return self.to_operation(domain.delete_endpoint(endpoint=self.endpoint, actor=request.user))
        except Problem as problem:
            return self._page(problem)

    def _page(self, problem: Problem | None = None) -> HttpResponse:
        return self.page("batch_endpoint_delete", problem=problem, deployments=self.endpoint.deployments.all())

"""Creating and changing batch endpoints and model deployments."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import BatchDeploymentSpec, BatchEndpointSpec, deployment_spec_of
from apps.batch.enums import DeploymentType
from apps.batch.models import BatchDeployment, BatchEndpoint
from apps.core.errors import Problem
from apps.registry.models import Upload
from apps.studio import ascode_batch
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms.batch import (
    BatchDeploymentEditForm,
    BatchDeploymentForm,
    BatchEndpointEditForm,
    BatchEndpointForm,
)
from apps.studio.pages.batch_endpoints import BatchEndpointPage, deployments_of
from apps.studio.pages.code_files import CodePage
from apps.studio.views import FormPage, one

SAME = (
    "model",
    "environment",
    "environment_variables",
    "mini_batch_size",
    "max_retries",
    "error_threshold",
    "output_action",
    "output_file_name",
    "cluster",
    "instance_count",
    "max_concurrency_per_instance",
    "description",
    "tags",
)
FIELD_OF = {
    "codeConfiguration": "scoring_script",
    "environmentId": "environment",
    "environmentVariables": "environment_variables",
    "compute": "cluster",
    "resources.instanceCount": "instance_count",
    "maxConcurrencyPerInstance": "max_concurrency_per_instance",
    "miniBatchSize": "mini_batch_size",
    "retrySettings.maxRetries": "max_retries",
    "retrySettings.timeout": "timeout_s",
    "errorThreshold": "error_threshold",
    "outputAction": "output_action",
    "outputFileName": "output_file_name",
}
NAMES = ("blue", "green", "red", "yellow", "purple", "teal")


def free_name(endpoint: BatchEndpoint) -> str:
    """A name that no deployment of the endpoint has, to begin with."""
    taken = set(endpoint.deployments.values_list("name", flat=True))
    return next((each for each in NAMES if each not in taken), "")


class BatchEndpointCreate(FormPage):
    section = "endpoints"
    template = "batch_endpoint_create"

    def form(self, data: Any = None, files: Any = None) -> BatchEndpointForm:
        return BatchEndpointForm(data)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        spec = BatchEndpointSpec(description=data["description"], tags=data["tags"])
        made = domain.create_endpoint(workspace=self.workspace, name=data["name"], spec=spec, actor=self.request.user)
        return self.to_operation(made[1])

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_batch.endpoint(writer, data)
        return writer.done()


class BatchEndpointEdit(FormPage, BatchEndpointPage):
    template = "batch_endpoint_edit"

    def form(self, data: Any = None, files: Any = None) -> BatchEndpointEditForm:
        initial = {"description": self.endpoint.description, "tags": self.endpoint.tags}
        return BatchEndpointEditForm(data, initial=initial)

    def save(self, form: Any) -> HttpResponse:
        spec = BatchEndpointSpec(**form.cleaned_data)
        return self.to_operation(domain.update_endpoint(endpoint=self.endpoint, spec=spec, actor=self.request.user))

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_batch.endpoint(writer, {**data, "name": self.endpoint.name}, verb="update")
        return writer.done()


class DeploymentForms(CodePage, BatchEndpointPage):
    """What creating and changing a deployment share."""

    field_of = FIELD_OF

    def context(self) -> dict[str, Any]:
        return {**super().context(), "way": "model"}

    def values(
        self, data: dict[str, Any], upload: Upload | None, name: str, before: BatchDeployment | None = None
    ) -> dict[str, Any]:
        """The fields of a spec; code that was not sent again stays as it is."""
        values = {each: data[each] for each in SAME} | {"timeout_ms": data["timeout_s"] * 1000}
        values |= {"logging_level": data["logging_level"] or "Info", "scoring_script": data["scoring_script"]}
        code = None
        if data["scoring_script"]:
            code = self.code_of(upload, f"{self.endpoint.name}-{name}") if upload else before.code if before else None
        return {**values, "code": code}

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        files = [each.name for each in data.get("code") or []]
        more = {"endpoint": self.endpoint.name, "files": files}
        ascode_batch.deployment(writer, {"name": self.kwargs.get("deployment"), **data, **more}, verb=self.verb)
        return writer.done()

    verb: ClassVar[str] = "create"


class BatchDeploymentCreate(DeploymentForms):
    template = "batch_deployment_create"

    def form(self, data: Any = None, files: Any = None) -> BatchDeploymentForm:
        initial = {"name": free_name(self.endpoint), "model": self.request.GET.get("model", "")}
        return BatchDeploymentForm(data, files, workspace=self.workspace, initial={} if data else initial)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        upload = self.received_code(data)
        with transaction.atomic():  # a version of the code only if there is a deployment of it
            spec = BatchDeploymentSpec(**self.values(data, upload, data["name"]))
            made = domain.create_deployment(
                endpoint=self.endpoint, name=data["name"], spec=spec, actor=self.request.user
            )
        return self.to_operation(made[1])


class BatchDeploymentPage(BatchEndpointPage):
    permissions: ClassVar = {}
    type: ClassVar[str] = ""  # when the page is only for deployments of one
    deployment: BatchDeployment

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name = kwargs["deployment"]
        rows = deployments_of(self.endpoint).filter(name=name)
        rows = rows.filter(type=self.type) if self.type else rows
        self.deployment = one(rows, "deployment", f"{self.endpoint}/{name}")

    def context(self) -> dict[str, Any]:
        return {**super().context(), "deployment": self.deployment}


class BatchDeploymentEdit(DeploymentForms, BatchDeploymentPage):
    template = "batch_deployment_edit"
    type = DeploymentType.MODEL
    verb = "update"

    def form(self, data: Any = None, files: Any = None) -> BatchDeploymentEditForm:
        here = self.deployment
        initial = {each: getattr(here, each) for each in (*SAME, "scoring_script", "logging_level")}
        initial |= {"timeout_s": max(1, here.timeout_ms // 1000), "cluster": here.cluster_id}
        initial |= {"model": str(here.model or ""), "environment": str(here.environment or "")}
        return BatchDeploymentEditForm(data, files, workspace=self.workspace, current=here, initial=initial)

    def save(self, form: Any) -> HttpResponse:
        upload = self.received_code(form.cleaned_data)
        with transaction.atomic():
            changes = self.values(form.cleaned_data, upload, self.deployment.name, self.deployment)
            spec = deployment_spec_of(self.deployment, **changes)
            operation = domain.update_deployment(deployment=self.deployment, spec=spec, actor=self.request.user)
        return self.to_operation(operation)


class BatchDeploymentDelete(BatchDeploymentPage):
    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("batch_deployment_delete")

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        try:
            operation = domain.delete_deployment(deployment=self.deployment, actor=request.user)
        except Problem as problem:
            return self.page("batch_deployment_delete", problem=problem)
        return self.to_operation(operation)

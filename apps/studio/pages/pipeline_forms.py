"""Creating and changing batch deployments of pipeline components."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse

from apps.batch import domain
from apps.batch.domain import BatchDeploymentSpec, deployment_spec_of
from apps.batch.domain.options import FLAGS, flags_of
from apps.batch.enums import DeploymentType
from apps.batch.models import Cluster
from apps.studio import ascode_batch
from apps.studio.ascode import AsCode, Writer
from apps.studio.components import options_of
from apps.studio.forms.components import PipelineDeploymentEditForm, PipelineDeploymentForm
from apps.studio.pages.batch_endpoints import BatchEndpointPage
from apps.studio.pages.batch_forms import BatchDeploymentPage, free_name
from apps.studio.views import FormPage

FIELD_OF = {"deploymentConfiguration.componentId": "component", "settings.default_compute": "cluster"}
# Azure's own words about the component in a deployment, which REST stores among the settings
WORDS: dict[str, Any] = {"component_description": "", "component_tags": {}}


class PipelineForms(FormPage, BatchEndpointPage):
    """What creating and changing such a deployment share."""

    field_of = FIELD_OF
    verb: ClassVar[str] = "create"

    def context(self) -> dict[str, Any]:
        return {**super().context(), "way": "pipeline"}

    def values(self, data: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
        """The fields of a spec; settings are texts, as in a request. `before`: those it has, whose words stay."""
        cluster, store = data["cluster"], data["default_datastore"]
        named = {"default_compute": cluster, "default_datastore": store}
        settings = {name: each.name for name, each in named.items() if each is not None}
        settings |= {name: str(data[name]) for name in FLAGS}
        kept = {name: (before or {}).get(name, each) for name, each in WORDS.items()}
        return {
            "type": DeploymentType.PIPELINE,
            "component": data["component"],
            "cluster": cluster,
            "settings": settings | kept,
            "description": data["description"],
            "tags": data["tags"],
        }

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        more = {"name": self.kwargs.get("deployment"), **data, "endpoint": self.endpoint.name}
        ascode_batch.pipeline_deployment(writer, more, verb=self.verb)
        return writer.done()


class PipelineDeploymentCreate(PipelineForms):
    """`component` names one to begin with."""

    template = "batch_deployment_create"

    def form(self, data: Any = None, files: Any = None) -> PipelineDeploymentForm:
        first = Cluster.objects.filter(workspace=self.workspace).order_by("name").first()
        initial = {
            "name": free_name(self.endpoint),
            "component": self.request.GET.get("component", "")[:330],
            "cluster": first and first.pk,
        }
        return PipelineDeploymentForm(data, workspace=self.workspace, initial={} if data else initial)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        spec = BatchDeploymentSpec(**self.values(data))
        made = domain.create_deployment(endpoint=self.endpoint, name=data["name"], spec=spec, actor=self.request.user)
        return self.to_operation(made[1])


class PipelineDeploymentEdit(PipelineForms, BatchDeploymentPage):
    template = "batch_deployment_edit"
    type = DeploymentType.PIPELINE
    verb = "update"

    def form(self, data: Any = None, files: Any = None) -> PipelineDeploymentEditForm:
        here, options = self.deployment, options_of(self.deployment)
        initial: dict[str, Any] = {"component": str(here.component or ""), "description": here.description}
        initial |= {"tags": here.tags, **flags_of(here.settings)}
        cluster = here.cluster
        if options is not None:
            cluster = Cluster.objects.filter(workspace=self.workspace, name__iexact=options.compute).first()
            initial["default_datastore"] = options.datastore if here.settings.get("default_datastore") else None
        initial["cluster"] = cluster and cluster.pk
        return PipelineDeploymentEditForm(data, workspace=self.workspace, current=here, initial=initial)

    def save(self, form: Any) -> HttpResponse:
        spec = deployment_spec_of(self.deployment, **self.values(form.cleaned_data, self.deployment.settings))
        operation = domain.update_deployment(deployment=self.deployment, spec=spec, actor=self.request.user)
        return self.to_operation(operation)

"""A new job of a batch deployment: which, over what data, with which settings of its own, and where results go."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse

from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import JobSpec
from apps.batch.enums import DeploymentType
from apps.batch.models import BatchDeployment, Job
from apps.core.errors import Problem
from apps.registry import locations, uploads
from apps.registry.domain import register_data
from apps.registry.enums import DataType
from apps.studio import ascode_batch
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms.jobs import INPUT, OUTPUT, DeploymentJobForm, JobForm, PipelineJobForm, deployments_in, examples
from apps.studio.forms.sources import PATH, UPLOAD
from apps.studio.jobs import jobs_of
from apps.studio.views import FormPage, number

FIELD_OF = {
    "InputData": "path",
    "InputData.data": "path",
    "OutputData": "output_path",
    "OutputData.score": "output_path",
    "resources.instanceCount": "instance_count",
    "miniBatchSize": "mini_batch_size",
    "retrySettings.maxRetries": "max_retries",
    "retrySettings.timeout": "timeout_s",
    "errorThreshold": "error_threshold",
    "outputFileName": "output_file_name",
}
OVERRIDES = ("mini_batch_size", "instance_count", "max_retries", "error_threshold", "output_file_name")


class JobCreate(FormPage):
    """`endpoint` and `deployment` choose one; `from` names a job that is done again with changes.

    A deployment may also be chosen by its key alone, as the page's own list does.
    """

    section = "jobs"
    template = "job_create"
    permissions: ClassVar = {"GET": Permission.SCORE, "POST": Permission.SCORE}
    field_of = FIELD_OF
    before: Job | None
    chosen: BatchDeployment | None

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        asked = request.GET
        self.before = jobs_of(self.workspace).filter(name=asked["from"]).first() if "from" in asked else None
        self.deployments = list(deployments_in(self.workspace))
        self.chosen = self._chosen()

    def _chosen(self) -> BatchDeployment | None:
        if self.request.method == "POST":
            key = number(self.request.POST.get("deployment", ""))
            return next((each for each in self.deployments if each.pk == key), None)
        asked = self.request.GET
        key, endpoint, name = number(asked.get("deployment", "")), asked.get("endpoint", ""), asked.get("deployment")
        if self.before is not None:
            key = self.before.deployment_id or 0
        for each in sorted(self.deployments, key=lambda each: each.pk != each.endpoint.default_deployment_id):
            if endpoint and each.endpoint.name == endpoint and (not name or each.name == name):
                return each
            if each.pk == key and not endpoint:
                return each
        named = endpoint or key or self.before is not None  # the deployment of `before` may be gone
        return self.deployments[0] if self.deployments and not named else None

    @property
    def pipeline(self) -> bool:
        return self.chosen is not None and self.chosen.type == DeploymentType.PIPELINE

    def context(self) -> dict[str, Any]:
        return {
            **super().context(),
            "deployments": self.deployments,
            "chosen": self.chosen,
            "pipeline": self.pipeline,
            "data": self.request.GET.get("data", "")[:2000],
        }

    def form(self, data: Any = None, files: Any = None) -> DeploymentJobForm:
        initial = {} if data else {"deployment": self.chosen.pk if self.chosen else None}
        if self.chosen is not None and self.pipeline:
            form = PipelineJobForm(data, workspace=self.workspace, chosen=self.chosen, initial=initial)
            if not data:
                form.initial = {**form.initial, **self._pipeline_initial(form)}
            return form
        initial |= {} if data else self._initial()
        return JobForm(data, files, workspace=self.workspace, initial=initial)

    def _initial(self) -> dict[str, Any]:
        return _again(self.before) if self.before else {"path": self.request.GET.get("data", "")[:2000]}

    def _pipeline_initial(self, form: PipelineJobForm) -> dict[str, Any]:
        if self.before is not None:
            given = {f"{INPUT}{name}": each.get("uri", each.get("value")) for name, each in self.before.inputs.items()}
            return given | {"display_name": self.before.display_name}
        first = next((field.name for field, is_data in form.input_fields if is_data), "")
        return {first: self.request.GET.get("data", "")[:2000]}

    def field_named(self, target: str) -> str:
        for beginning, ours in (("InputData.", INPUT), ("OutputData.", OUTPUT)):
            if self.pipeline and target.startswith(beginning):
                return ours + target.removeprefix(beginning)
        return super().field_named(target)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        deployment: BatchDeployment = data["deployment"]
        spec = self._pipeline_spec(form) if self.pipeline else self._spec(data, deployment)
        job, _new = domain.invoke(
            endpoint=deployment.endpoint, deployment=deployment.name, spec=spec, actor=self.request.user
        )
        return self.go("studio:job", self.workspace.name, job.name)

    def _pipeline_spec(self, form: PipelineJobForm) -> JobSpec:
        data = form.cleaned_data
        return JobSpec(inputs=form.inputs(data), outputs=form.outputs(data), display_name=data["display_name"])

    def _spec(self, data: dict[str, Any], deployment: BatchDeployment) -> JobSpec:
        given = self._uploaded(data, deployment) if data["source"] == UPLOAD else data["path"].strip()
        overrides = {name: data[name] for name in OVERRIDES if data[name] not in (None, "")}
        if data["timeout_s"] is not None:
            overrides["timeout_ms"] = data["timeout_s"] * 1000
        output = {"score": {"type": "UriFolder", "uri": data["output_path"]}} if data["output_path"] else {}
        return JobSpec(
            inputs={"data": {"type": self._type(given), "uri": given}},
            outputs=output,
            overrides=overrides,
            display_name=data["display_name"],
        )

    def _type(self, uri: str) -> str:
        """Whether it is a folder or a file, so that nobody has to say. Raises Problem "input-missing"."""
        place = locations.resolve(uri, workspace=self.workspace, actor=self.request.user, field="InputData")
        kind = place.kind()
        if kind is None:
            raise Problem("input-missing", uri=uri, target="InputData")
        return "UriFile" if kind == "file" else "UriFolder"

    def _uploaded(self, data: dict[str, Any], deployment: BatchDeployment) -> str:
        """The files as a new version of a data asset: uploads go after a day, and jobs are done again later."""
        files = data["upload"]
        archive = files[0] if len(files) == 1 and files[0].name.lower().endswith(".zip") else None
        upload = uploads.receive(
            workspace=self.workspace,
            archive=archive,
            files=[] if archive else files,
            paths=[],
            actor=self.request.user,
        )
        version, _new = register_data(
            workspace=self.workspace,
            name=f"{deployment.endpoint.name}-input",
            uri=upload.uri,
            type=DataType.FOLDER,
            actor=self.request.user,
        )
        return f"azureml:{version}"

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        names = {"endpoint": "", "deployment": None}
        if self.chosen is not None:
            names = {"endpoint": self.chosen.endpoint.name, "deployment": self.chosen.name}
        ascode_batch.job(writer, {**data, **names, **self._given(data)})
        return writer.done()

    def _given(self, data: dict[str, Any]) -> dict[str, Any]:
        """Inputs and outputs as code has them."""
        if self.chosen is not None and self.pipeline:
            form = PipelineJobForm(workspace=self.workspace, chosen=self.chosen)
            types = {name: each.type for name, each in form.takes.items()}
            return {"inputs": examples(form.takes) | form.inputs(data), "outputs": form.outputs(data), "types": types}
        upload, output = data.get("source") == UPLOAD, data.get("output_path")
        return {
            "inputs": {"data": {"type": "UriFolder", "uri": "" if upload else data.get("path")}},
            "outputs": {"score": {"type": "UriFolder", "uri": output}} if output else {},
            "files": upload,
        }


def _again(before: Job) -> dict[str, Any]:
    """A form filled in as a job was, but for its output: that is written once."""
    settings = before.settings
    given: dict[str, Any] = next(iter(before.inputs.values()), {})
    values = {name: settings.get(name) for name in OVERRIDES}
    timeout = settings.get("timeout_ms")
    return values | {
        "source": PATH,
        "path": given.get("uri", ""),
        "timeout_s": max(1, timeout // 1000) if timeout else None,
        "display_name": before.display_name,
    }

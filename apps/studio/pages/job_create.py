"""A new job of a batch deployment: which, over what data, with which settings of its own, and where results go."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse

from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import JobSpec
from apps.batch.models import BatchDeployment, Job
from apps.core.errors import Problem
from apps.registry import locations, uploads
from apps.registry.domain import register_data
from apps.registry.enums import DataType
from apps.studio import ascode_batch
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms.batch import PATH, UPLOAD, JobForm
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
    """`endpoint` and `deployment` choose one; `from` names a job that is done again with changes."""

    section = "jobs"
    template = "job_create"
    permissions: ClassVar = {"GET": Permission.SCORE, "POST": Permission.SCORE}
    field_of = FIELD_OF

    def form(self, data: Any = None, files: Any = None) -> JobForm:
        return JobForm(data, files, workspace=self.workspace, initial={} if data else self._initial())

    def context(self) -> dict[str, Any]:
        ready = JobForm(workspace=self.workspace).fields["deployment"].queryset.exists()  # type: ignore[attr-defined]
        return {**super().context(), "ready": ready}

    def _initial(self) -> dict[str, Any]:
        asked = self.request.GET
        before = jobs_of(self.workspace).filter(name=asked["from"]).first() if "from" in asked else None
        if before is not None:
            return _again(before)
        rows = BatchDeployment.objects.filter(endpoint__workspace=self.workspace)
        chosen = rows.filter(endpoint__name=asked.get("endpoint", "")).select_related("endpoint")
        if asked.get("deployment"):
            chosen = chosen.filter(name=asked["deployment"])
        found = sorted(chosen, key=lambda each: each.pk != each.endpoint.default_deployment_id)
        return {"deployment": found[0].pk if found else None, "path": asked.get("data", "")[:2000]}

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        deployment: BatchDeployment = data["deployment"]
        given = self._uploaded(data, deployment) if data["source"] == UPLOAD else data["path"].strip()
        overrides = {name: data[name] for name in OVERRIDES if data[name] not in (None, "")}
        if data["timeout_s"] is not None:
            overrides["timeout_ms"] = data["timeout_s"] * 1000
        output = {"score": {"type": "UriFolder", "uri": data["output_path"]}} if data["output_path"] else {}
        spec = JobSpec(
            inputs={"data": {"type": self._type(given), "uri": given}},
            outputs=output,
            overrides=overrides,
            display_name=data["display_name"],
        )
        job, _new = domain.invoke(
            endpoint=deployment.endpoint, deployment=deployment.name, spec=spec, actor=self.request.user
        )
        return self.go("studio:job", self.workspace.name, job.name)

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
        chosen = data.get("deployment")
        if not isinstance(chosen, BatchDeployment):
            rows = BatchDeployment.objects.filter(endpoint__workspace=self.workspace).select_related("endpoint")
            chosen = rows.filter(pk=number(str(chosen or ""))).first()
        upload = data.get("source") == UPLOAD
        output = data.get("output_path")
        more = {
            "endpoint": chosen.endpoint.name if chosen else "",
            "deployment": chosen.name if chosen else None,
            "inputs": {"data": {"type": "UriFolder", "uri": "" if upload else data.get("path")}},
            "outputs": {"score": {"type": "UriFolder", "uri": output}} if output else {},
        }
        ascode_batch.job(writer, {**data, **more, "files": upload})
        return writer.done()


def _again(before: Job) -> dict[str, Any]:
    """A form filled in as a job was, but for its output: that is written once."""
    settings = before.settings
    given: dict[str, Any] = next(iter(before.inputs.values()), {})
    values = {name: settings.get(name) for name in OVERRIDES}
    timeout = settings.get("timeout_ms")
    return values | {
        "deployment": before.deployment_id,
        "source": PATH,
        "path": given.get("uri", ""),
        "timeout_s": max(1, timeout // 1000) if timeout else None,
        "display_name": before.display_name,
    }

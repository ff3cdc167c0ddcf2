"""From a model to a live endpoint on one page, and changing a deployment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from django.utils.dateparse import parse_datetime

from apps.builds.models import package_of
from apps.compute import quantities
from apps.core.durations import duration, duration_ms
from apps.core.errors import Problem
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec, EndpointSpec
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.endpoints.servers import GRPC_PORT, PROPERTY
from apps.registry.models import Upload
from apps.studio import ascode_online
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms import EXISTING, NEW, DeployForm, DeploymentEditForm, initial_of
from apps.studio.forms.base import differences
from apps.studio.pages.code_files import CodePage
from apps.studio.pages.deployments import DeploymentPage
from apps.studio.queries import endpoints_of

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = ("blue", "green", "red", "yellow", "purple", "teal")
SAME = (
    "description",
    "model",
    "environment_variables",
    "model_mount_path",
    "instance_count",
    "request_timeout_ms",
    "max_concurrent_requests",
    "tags",
)
FIELD_OF = {
    "codeConfiguration": "scoring_script",
    "environmentId": "environment",
    "sku.capacity": "instance_count",
    "requestSettings.requestTimeout": "request_timeout_ms",
    "requestSettings.maxConcurrentRequestsPerInstance": "max_concurrent_requests",
    "environmentVariables": "environment_variables",
    "modelMountPath": "model_mount_path",
    f"properties.{PROPERTY}": "server",
    f"properties.{GRPC_PORT}": "grpc_port",
}


class DeploymentForms(CodePage):
    """What creating and changing a deployment share."""

    field_of = FIELD_OF

    def spec(
        self, data: dict[str, Any], upload: Upload | None, *, code_name: str, before: OnlineDeployment | None = None
    ) -> dict[str, Any]:
        """The fields of a DeploymentSpec; code that was not sent again stays as it is."""
        values = {name: data[name] for name in SAME} | {
            "instance_type": data["instance_type"].name,
            "liveness_probe": _probe(data, before),
            "environment": data["environment"],
            "properties": _properties(data, before.properties if before else {}),
        }
        if package_of(data["environment"]) is not None:  # what it has itself cannot be given too: the domain says so
            code = self.code_of(upload, code_name) if upload else None
            return values | {"code": code, "scoring_script": data["scoring_script"]}
        if data["scoring_script"]:
            code = self.code_of(upload, code_name) if upload else before.code if before else None
            values |= {"code": code, "scoring_script": data["scoring_script"]}
        else:
            values |= {"code": None, "scoring_script": ""}
        return values

    def _documented(self, data: dict[str, Any]) -> dict[str, Any]:
        """A form's data as `ascode_online.deployment` takes it."""
        probe = _probe(data)
        on_file = {"failure_threshold": probe.get("failureThreshold"), "period": data.get("probe_period")}
        code = data.get("code") or []
        return {
            **data,
            "instance_type": getattr(data.get("instance_type"), "name", data.get("instance_type")),
            "files": [each.name for each in code],
            "properties": _properties(data, {}),
            "liveness_probe": on_file if probe else None,
            "liveness_wire": probe,
        }


def _properties(data: dict[str, Any], before: dict[str, str]) -> dict[str, str]:
    """The deployment's properties with what the form says of the server; others stay."""
    said = {PROPERTY: data.get("server") or "", GRPC_PORT: str(data.get("grpc_port") or "")}
    return {name: text for name, text in ({**before, **said}).items() if text or name not in said}


def _probe(data: dict[str, Any], before: OnlineDeployment | None = None) -> dict[str, Any]:
    """The liveness probe with what the form says of it; what the form does not know stays."""
    probe = dict(before.liveness_probe) if before else {}
    period, failures = data.get("probe_period"), data.get("probe_failures")
    if period != _period_of(probe):
        probe["period"] = duration(period * 1000) if period else None
    probe["failureThreshold"] = failures
    return {name: value for name, value in probe.items() if value is not None}


def _period_of(probe: dict[str, Any]) -> int | None:
    """In whole seconds, as the form shows it."""
    return max(1, duration_ms(probe["period"]) // 1000) if probe.get("period") else None


class Deploy(DeploymentForms):
    section = "endpoints"
    template = "deploy"

    def form(self, data: Any = None, files: Any = None) -> DeployForm:
        return DeployForm(data, files, workspace=self.workspace, initial={} if data else self._initial())

    def context(self) -> dict[str, Any]:
        return {**super().context(), "has_endpoints": endpoints_of(self.workspace).exists()}

    def _initial(self) -> dict[str, Any]:
        """Three clicks for an MLflow model: everything it takes is filled in."""
        asked = self.request.GET
        endpoint = endpoints_of(self.workspace).filter(name=asked.get("endpoint", "")).first()
        taken = set(endpoint.deployments.values_list("name", flat=True)) if endpoint else set()
        model, environment = asked.get("model", ""), asked.get("environment", "")
        return {
            "model": model,
            "environment": environment,
            "target": EXISTING if endpoint else NEW,
            "endpoint": endpoint.name if endpoint else "",
            "new_name": "" if endpoint else free_name((model or environment).partition(":")[0]),
            "name": next((each for each in NAMES if each not in taken), ""),
            "share": 0 if endpoint and endpoint.traffic else 100,
        }

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        target = data.get("found") or (data["new_name"], EndpointSpec(auth_mode=data["auth_mode"] or None))
        name = target.name if isinstance(target, OnlineEndpoint) else target[0]
        upload = self.received_code(data)
        with transaction.atomic():  # a version of the code only if there is a deployment of it
            spec = DeploymentSpec(**self.spec(data, upload, code_name=f"{name}-{data['name']}"))
            made = domain.deploy(
                workspace=self.workspace,
                endpoint=target,
                name=data["name"],
                spec=spec,
                share=data["share"],
                actor=self.request.user,
            )
        return self.to_operation(made[1])

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        new = data.get("target") != EXISTING
        endpoint = (data.get("new_name") if new else data.get("endpoint")) or "ENDPOINT"
        if new:
            ascode_online.endpoint(writer, {"name": endpoint, "auth_mode": data.get("auth_mode")})
        ascode_online.deployment(writer, {**self._documented(data), "endpoint": endpoint})
        share, name = data.get("share"), data.get("name") or "blue"
        found = None if new else endpoints_of(self.workspace).filter(name=endpoint).first()
        if share and name:
            split = domain.split_with(found, name, share) if found and found.traffic else {name: 100}
            ascode_online.traffic(writer, endpoint, split, on_file=False)
        return writer.done()


class DeploymentEdit(DeploymentForms, DeploymentPage):
    template = "deployment_edit"
    theirs: Sequence[tuple[Any, Any]] = ()

    def context(self) -> dict[str, Any]:
        return {**super().context(), "theirs": self.theirs, "seen": self.deployment.modified_at.isoformat()}

    def form(self, data: Any = None, files: Any = None) -> DeploymentEditForm:
        return DeploymentEditForm(
            data, files, workspace=self.workspace, current=self.deployment, initial=self._initial()
        )

    def _initial(self) -> dict[str, Any]:
        return initial_of(self.deployment) | {"probe_period": _period_of(self.deployment.liveness_probe)}

    def save(self, form: Any) -> HttpResponse:
        """What somebody else changed meanwhile is shown, not written over."""
        upload = self.received_code(form.cleaned_data)
        names = f"{self.endpoint.name}-{self.deployment.name}"
        try:
            with transaction.atomic():
                changes = self.spec(form.cleaned_data, upload, code_name=names, before=self.deployment)
                operation = domain.update_deployment(
                    deployment=self.deployment,
                    spec=domain.spec_of(self.deployment, **changes),
                    actor=self.request.user,
                    if_match=parse_datetime(self.request.POST.get("seen", "")[:40]) or LONG_AGO,
                )
        except Problem as problem:
            if problem.code == "stale":
                self.deployment.refresh_from_db()
                self.theirs = differences(
                    form, {name: self._initial()[name] for name in form.fields if name in self._initial()}
                )
            raise
        return self.to_operation(operation)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        here = self.deployment
        kept = {
            "readinessProbe": here.readiness_probe,
            "containerResourceRequirements": quantities.as_wire(here.resources),
            "egressPublicNetworkAccess": "Enabled" if here.egress else "Disabled",
        }
        code = {"codeId": f"azureml:{here.code}", "scoringScript": data.get("scoring_script")} if here.code else None
        more = {"endpoint": self.endpoint.name, "name": here.name, "kept": kept, "code_in_use": code}
        shown = self._documented(data) | {"properties": _properties(data, here.properties)}
        probe = _probe(data, here)
        ascode_online.deployment(writer, {**shown, **more, "liveness_wire": probe}, verb="update")
        if here.resources:
            writer.note("resources of its own stay with the curl command only: YAML of a managed deployment has none")
        return writer.done()


def free_name(text: str) -> str:
    """A name for a new endpoint, made of a model's: what the rule of names forbids is a dash, and nobody has it yet."""
    base = re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")[:26]
    base = base if re.match(r"[a-zA-Z]", base) else f"model-{base}".strip("-")
    base = base if len(base) > 2 else f"{base}-endpoint"  # noqa: PLR2004 -- spec 2.1
    taken = {
        each.lower() for each in OnlineEndpoint.objects.filter(name__istartswith=base).values_list("name", flat=True)
    }
    tries = [base, *(f"{base}-{number}" for number in range(2, 1000))]
    return next((each for each in tries if each.lower() not in taken), "")

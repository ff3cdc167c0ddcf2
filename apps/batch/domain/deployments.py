"""Verbs on batch deployments. Each is one transaction: rows, audit record and operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from apps.accounts.models import Workspace
from apps.batch.domain.common import begin, locked
from apps.batch.domain.options import Options
from apps.batch.domain.specs import RANGES, check_settings
from apps.batch.enums import DeploymentType, OutputAction, ProvisioningState
from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster
from apps.builds import contract
from apps.builds.models import package_of
from apps.core import limits
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.endpoints import preflight
from apps.endpoints.rules import check_name
from apps.registry import scripts
from apps.registry.enums import ModelType
from apps.registry.models import CodeVersion, ComponentVersion, EnvironmentVersion, ModelVersion

FILE_NAME = "predictions.csv"  # the SDK sends it in any case

limits.count_with("deployments", BatchDeployment.objects.count)


@dataclass(frozen=True)
class BatchDeploymentSpec:
    """What a user says about a batch deployment, with Azure's defaults (spec 3.5). Times in milliseconds."""

    type: str = DeploymentType.MODEL
    model: ModelVersion | None = None
    code: CodeVersion | None = None
    scoring_script: str = ""
    environment: EnvironmentVersion | None = None
    environment_variables: dict[str, str] = field(default_factory=dict)
    component: ComponentVersion | None = None
    cluster: Cluster | None = None
    instance_count: int = 1
    max_concurrency_per_instance: int = 1
    mini_batch_size: int = 10
    max_retries: int = 3
    timeout_ms: int = 30_000
    error_threshold: int = -1
    output_action: str = OutputAction.APPEND_ROW
    output_file_name: str = FILE_NAME
    logging_level: str = "Info"
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    model_mount_path: str = ""  # a batch deployment has none; what looks at scripts asks for it


COLUMNS = [name for name in BatchDeploymentSpec.__dataclass_fields__ if name != "model_mount_path"]


def deployment_spec_of(deployment: BatchDeployment, **changes: Any) -> BatchDeploymentSpec:
    """The deployment as a spec, with some fields changed."""
    return BatchDeploymentSpec(**{name: getattr(deployment, name) for name in COLUMNS} | changes)


@transaction.atomic
def create_deployment(
    *, endpoint: BatchEndpoint, name: str, spec: BatchDeploymentSpec, actor: Any
) -> tuple[BatchDeployment, Operation]:
    """Raises Problem "bad-name", "not-found", "exists", "busy", "limit", or what `check_spec` raises."""
    check_name("deployment", name)
    check_spec(spec, endpoint.workspace)
    endpoint = locked(endpoint)
    if endpoint.deployments.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Deployment", name=f"{endpoint.name}/{name}", target="name")
    if endpoint.deployments.count() >= (most := limits.get("deployments_per_endpoint")):
        raise Problem("limit", limit=most, what="deployments of one endpoint")
    limits.check_room("deployments", "deployments")
    deployment = BatchDeployment(endpoint=endpoint, name=name, created_by=actor, modified_by=actor)
    _assign(deployment, spec)
    deployment.save()
    return deployment, begin("batch-deployment.create", endpoint, actor, deployment=deployment)


@transaction.atomic
def update_deployment(*, deployment: BatchDeployment, spec: BatchDeploymentSpec, actor: Any) -> Operation:
    """Change a deployment for the jobs to come; those that exist keep what they began with.

    Raises Problem "not-found", "busy", or what `check_spec` raises.
    """
    check_spec(spec, deployment.endpoint.workspace)
    endpoint = locked(deployment.endpoint)
    deployment = _of(endpoint, deployment)
    if spec.type != deployment.type:
        target = "properties.deploymentConfiguration"
        raise Problem("bad-field", field=target, reason="it cannot be changed after creation", target=target)
    operation = begin("batch-deployment.update", endpoint, actor, deployment=deployment)
    _assign(deployment, spec)
    deployment.state = ProvisioningState.UPDATING
    deployment.error = None
    deployment.modified_by = actor
    deployment.save()
    return operation


@transaction.atomic
def delete_deployment(*, deployment: BatchDeployment, actor: Any) -> Operation:
    """Its jobs stay and go on. Raises Problem "not-found" or "busy"."""
    endpoint = locked(deployment.endpoint)
    deployment = _of(endpoint, deployment)
    operation = begin("batch-deployment.delete", endpoint, actor, deployment=deployment)
    BatchDeployment.objects.filter(pk=deployment.pk).update(state=ProvisioningState.DELETING)
    return operation


def _of(endpoint: BatchEndpoint, deployment: BatchDeployment) -> BatchDeployment:
    found = endpoint.deployments.select_for_update(of=("self",)).filter(pk=deployment.pk).first()
    if found is None:
        raise Problem("not-found", kind="deployment", name=str(deployment))
    return found


def _assign(deployment: BatchDeployment, spec: BatchDeploymentSpec) -> None:
    for name in COLUMNS:
        setattr(deployment, name, getattr(spec, name))


def check_spec(spec: BatchDeploymentSpec, workspace: Workspace) -> None:
    """Refuse what no deployment can be; it reads files, so nothing is locked meanwhile.

    Raises:
        Problem: "bad-field", "unknown-field", "environment-needed", "unsupported", what `scripts.check` and
            `preflight.check` raise.
    """
    names = [*RANGES, "output_file_name"]
    check_settings({name: getattr(spec, name) for name in names})
    contract.check_variables(spec.environment_variables)
    if spec.type == DeploymentType.PIPELINE:
        _check_pipeline(spec, workspace)
        return
    if spec.output_action == OutputAction.SUMMARY_ONLY and spec.output_file_name != FILE_NAME:
        raise _bad("outputFileName", "is for outputAction AppendRow; SummaryOnly writes no such file")
    if spec.cluster is None:
        raise _bad("compute", "names the cluster that its jobs run on")
    if spec.cluster.state == ProvisioningState.DELETING:
        raise _bad("compute", f"cluster {spec.cluster} is being deleted")
    if spec.instance_count > spec.cluster.max_nodes:
        reason = f"is {spec.instance_count}; cluster {spec.cluster} has at most {spec.cluster.max_nodes} nodes"
        raise _bad("resources.instanceCount", reason)
    _check_contents(spec)


def _check_contents(spec: BatchDeploymentSpec) -> None:
    if spec.model is not None and spec.model.type == ModelType.TRITON:
        reason = "batch jobs run scoring scripts and MLflow models"
        raise Problem("unsupported", what="A Triton model", reason=reason, target="model")
    if package_of(spec.environment) is not None:
        raise _bad("environmentId", f"{spec.environment} is a package, which only online deployments can run")
    if spec.code is not None or spec.scoring_script:
        scripts.check(spec.code, spec.scoring_script)
        if spec.environment is None:
            raise Problem("environment-needed", target="environmentId")
        preflight.check(spec)
        return
    if spec.model is None:
        raise _bad("model", "names the model; only a deployment with a scoring script can be without one")
    if spec.model.type != ModelType.MLFLOW:
        reason = "without a scoring script only MLflow models can be deployed"
        raise Problem("unsupported", what="This deployment", reason=reason, target="codeConfiguration")
    preflight.check(spec)


def _check_pipeline(spec: BatchDeploymentSpec, workspace: Workspace) -> None:
    for name, wire in (("model", "model"), ("code", "codeConfiguration"), ("environment", "environmentId")):
        if getattr(spec, name) is not None:
            raise _bad(wire, "a pipeline component has its own; leave it out")
    target = "deploymentConfiguration.componentId"
    if spec.component is None:
        raise _bad(target, "names the pipeline component")
    if spec.component.type != "pipeline":
        reason = f"{spec.component} is a {spec.component.type} component; a deployment runs a pipeline component"
        raise Problem("unsupported", what=target, reason=reason, target=target)
    Options.of(spec.settings, workspace=workspace, compute=str(spec.cluster or ""))


def _bad(field_: str, reason: str) -> Problem:
    return Problem("bad-field", field=field_, reason=reason, target=field_)

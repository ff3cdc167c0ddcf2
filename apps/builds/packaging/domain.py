"""Verbs on model packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.builds import contract, declared, domain, packages
from apps.builds.enums import ModelMode, PackageServer
from apps.builds.models import Build, Package, package_of
from apps.builds.packaging import context, image
from apps.builds.spec import DOCKER, Check, EnvironmentSpec, Log
from apps.builds.versions import check_engine, driver_of, spec_of, topic
from apps.core import audit, operations
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.registry import scripts
from apps.registry.domain import register_environment
from apps.registry.enums import ModelType
from apps.registry.models import CodeVersion, EnvironmentVersion, ModelVersion
from apps.registry.names import check_asset_name, check_version

KIND = "model.package"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MOUNT = re.compile(r"/[A-Za-z0-9._/-]+")
SECRET = re.compile(r"https?://[^/\s@]+@|://[^/\s@:]*:[^/\s@]+@")
NO_COPY = "this installation has no container engine (PORTWAY_DOCKER)"
NO_COPY_HINT = "Choose mode download, and export the build context to build the image elsewhere."


@dataclass(frozen=True)
class PackageSpec:
    """What a user says about a package. `base` may be left out for MLflow and Triton models."""

    base: EnvironmentVersion | None = None
    server: str = PackageServer.AZUREML_ONLINE
    code: CodeVersion | None = None
    scoring_script: str = ""
    inference_config: dict[str, Any] | None = None
    mode: str = ModelMode.DOWNLOAD
    mount_path: str = ""
    environment_variables: dict[str, str] = field(default_factory=dict)
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@transaction.atomic
def package(
    *, model: ModelVersion, name: str, spec: PackageSpec, actor: Any, version: str = ""
) -> tuple[EnvironmentVersion, Operation]:
    """Make an environment version of this name that has the model, its environment and its server in it.

    It can be deployed once the operation has succeeded; when that fails or is canceled nothing of it stays.

    Raises Problem "bad-name", "bad-field", "exists", "environment-needed", "script-missing", "script-syntax",
    "unsupported" or "busy".
    """
    _check_name(name)
    parts = _environment_of(model, _checked(model, spec))
    _check_runs(EnvironmentSpec(**_built_of(parts)), spec)
    workspace = model.asset.workspace
    if version:
        _check_new(workspace, name, check_version(version))
    made, new = register_environment(
        workspace=workspace,
        name=name,
        version=version or None,
        actor=actor,
        description=spec.description,
        tags=spec.tags,
        **parts,
    )
    if not new:  # registered since we looked
        raise Problem("exists", kind="Environment", name=str(made), target="targetEnvironmentName")
    Package.objects.create(
        environment=made,
        model=model,
        base=spec.base,
        code=spec.code,
        scoring_script=spec.scoring_script,
        server=spec.server,
        mode=spec.mode,
        mount_path=spec.mount_path,
        environment_variables=spec.environment_variables,
    )
    operation = operations.start(
        KIND,
        workspace=workspace.name,
        target=topic(made),
        lock=f"{workspace.name}/{topic(made)}",
        actor=actor,
        payload={"environment": made.pk},
        resource_url=f"environments/{name}/versions/{made.version}",
        detail={"model": str(model), "server": spec.server, "mode": spec.mode},
    )
    return made, operation


def _check_name(name: str) -> None:
    try:
        check_asset_name("environment", name)
    except Problem as problem:
        problem.target = "targetEnvironmentName"
        raise


def _check_new(workspace: Any, name: str, version: str) -> None:
    rows = EnvironmentVersion.objects.filter(asset__workspace=workspace, asset__name=name, version=version)
    if rows.exists():
        raise Problem("exists", kind="Environment", name=f"{name}:{version}", target="targetEnvironmentName")


# ---- rules


def _checked(model: ModelVersion, spec: PackageSpec) -> PackageSpec:
    """The spec, if it says something that can be served. Raises Problem."""
    contract.check_variables(spec.environment_variables)
    for name, text in spec.environment_variables.items():
        if not VARIABLE.fullmatch(name) or not text.isprintable():
            reason = f"{name!r} cannot be a variable of an image: letters, digits and underscores, and one line of text"
            raise Problem("bad-field", field="environmentVariables", reason=reason, target="environmentVariables")
    _check_mount_path(spec.mount_path)
    if spec.base is not None and package_of(spec.base) is not None:
        reason = f"{spec.base} is a package itself; name an ordinary environment"
        raise Problem("bad-field", field="baseEnvironmentSource", reason=reason, target="baseEnvironmentSource")
    if spec.mode == ModelMode.COPY and not settings.DOCKER_URL:
        raise Problem("unsupported", what="Mode copy", reason=NO_COPY, hint=NO_COPY_HINT, target="mode")
    rule = {
        PackageServer.AZUREML_ONLINE: _check_online,
        PackageServer.TRITON: _check_triton,
        PackageServer.CUSTOM: _check_custom,
    }
    rule[PackageServer(spec.server)](model, spec)
    return spec


def _check_mount_path(path: str) -> None:
    name = "modelConfiguration.mountPath"
    contract.check_mount_path(path, name)
    if path and not MOUNT.fullmatch(path):
        reason = "must be an absolute path of letters, digits, dots, dashes and underscores"
        raise Problem("bad-field", field=name, reason=reason, target=name)


def _check_online(model: ModelVersion, spec: PackageSpec) -> None:
    if spec.inference_config:
        raise _not_for("inferenceConfiguration", "only a custom server has routes of its own")
    if spec.code is not None or spec.scoring_script:
        scripts.check(spec.code, spec.scoring_script)
        if not spec.scoring_script.isprintable():
            raise _not_for("codeConfiguration.scoringScript", "must be one line of text")
        if spec.base is None:
            raise Problem("environment-needed", target="baseEnvironmentSource")
    elif model.type != ModelType.MLFLOW:
        reason = "only an MLflow model is served without a scoring script"
        raise Problem("unsupported", what="This package", reason=reason, target="codeConfiguration")


def _check_triton(model: ModelVersion, spec: PackageSpec) -> None:
    if model.type != ModelType.TRITON:
        raise Problem("unsupported", what="This package", reason=f"{model} is no Triton model", target="serverType")
    if spec.code is not None or spec.scoring_script or spec.inference_config:
        raise _not_for("codeConfiguration", "Triton takes no scoring script and no routes")


def _check_custom(_model: ModelVersion, spec: PackageSpec) -> None:
    if spec.code is not None or spec.scoring_script:
        raise _not_for("codeConfiguration", "a custom server brings its code in its image")
    if spec.base is None or not (spec.base.image or spec.base.build_context_id):
        reason = "a custom server is one of an image: name an environment of an image or a Dockerfile"
        raise Problem("bad-field", field="baseEnvironmentSource", reason=reason, target="baseEnvironmentSource")
    if not (spec.inference_config or spec.base.inference_config):
        raise _not_for("inferenceConfiguration", "neither the package nor its base environment says the routes")


def _not_for(name: str, reason: str) -> Problem:
    return Problem("bad-field", field=name, reason=reason, target=name)


def _check_runs(built: EnvironmentSpec, spec: PackageSpec) -> None:
    driver = DOCKER if spec.mode == ModelMode.COPY else driver_of(built)
    domain.check_driver(built, driver)
    check_engine(built, driver)
    if built.has_packages:
        packages.read(built)  # what cannot be translated is said now


def _environment_of(model: ModelVersion, spec: PackageSpec) -> dict[str, Any]:
    """What the target environment is made of, as `register_environment` takes it."""
    base, routes = spec.base, None
    if base is not None:
        names = ("image", "conda_file", "requirements", "build_context", "dockerfile_path")
        parts = {name: getattr(base, name) for name in names}
        routes = (spec.inference_config or base.inference_config) if spec.server == PackageServer.CUSTOM else None
    elif spec.server == PackageServer.TRITON:
        parts = {"requirements": declared.TRITON}
    else:
        parts = declared.by_model(model)
        if not any(parts.values()):
            raise Problem("environment-needed", target="baseEnvironmentSource")
    return {**parts, "inference_config": routes}


def _built_of(parts: dict[str, Any]) -> dict[str, Any]:
    """The parts as an EnvironmentSpec's."""
    context_tree = parts.get("build_context")
    made = {name: parts.get(name, "") for name in ("image", "conda_file", "requirements")}
    return made | {
        "context": context_tree.pk if context_tree else "",
        "dockerfile": parts.get("dockerfile_path", ""),
    }


# ---- making it


def resolve(row: Package, *, log: Log, check: Check, operation: Operation) -> None:
    """Build or find its environment, and keep what that came to. Raises what `domain.ensure` raises."""
    built = spec_of(row.environment)
    if row.server == PackageServer.CUSTOM:  # its image is all there is
        built = replace(built, conda_file="", requirements="")
    driver = DOCKER if row.copies else driver_of(built)
    found = domain.ensure(built, driver=driver, log=log, check=check, operation=operation)
    if found.path is not None:
        build = Build.objects.get(pk=found.key)
        if SECRET.search(build.lock):
            reason = (
                "an address in its requirements holds a password or token, which everybody with the image could read."
            )
            hint = "Name the package without an address; the operator sets the package index."
            raise Problem("environment-failed", reason=reason, hint=hint)
        row.lock, row.python = build.lock, build.python
    else:
        row.interpreter = str(found.python or "")
        if not row.interpreter and row.server == PackageServer.AZUREML_ONLINE:
            reason = "there is no Python 3.10 or newer in it"
            raise Problem("unsupported", what="This image", reason=reason, target="baseEnvironmentSource")
    Package.objects.filter(pk=row.pk).update(lock=row.lock, python=row.python, interpreter=row.interpreter)


def build_image(row: Package, *, log: Log, check: Check) -> None:
    """Its image, when there is to be one."""
    if row.copies:
        image.ensure(row, log=log, check=check)
    elif not settings.DOCKER_URL:
        log(f"left out: {NO_COPY}. Deployments take the environment and the model's files.")
    else:
        log("left out: mode download takes environment and model as files when it is deployed; mode copy has an image")


def finish(row: Package) -> None:
    """From now on it can be deployed."""
    Package.objects.filter(pk=row.pk, ready_at=None).update(ready_at=timezone.now())


def undo(operation: Operation, _problem: Problem) -> None:
    """Take away what was not finished; the operation keeps what happened."""
    with transaction.atomic():
        row = Package.objects.select_related("environment__asset").filter(pk=operation.payload["environment"]).first()
        if row is None or row.ready_at is not None:
            return
        asset = row.environment.asset
        row.environment.delete()
        if not asset.versions.exists():
            asset.delete()


# ---- taking it elsewhere


def export(*, version: EnvironmentVersion, kind: str, actor: Any) -> tuple[str, Iterator[bytes]]:
    """The file's name and its content. `kind`: "context" for .tar.gz, "image" for .tar, "image.gz" for .tar.gz.

    Raises Problem "not-found" for what is no package, "conflict" while it is being made, "bad-field" for another kind,
    and for an image what `image.check_saved` raises.
    """
    row = package_of(version)
    if row is None:
        raise Problem("not-found", kind="package", name=str(version))
    if row.ready_at is None:
        raise Problem("conflict", reason=f"Package {version} is still being made.")
    name = context.archive_name(row)
    if kind == "context":
        file, parts = f"{name}-context.tar.gz", context.archive(row)
    elif kind in {"image", "image.gz"}:
        build = image.check_saved(row)
        plain = image.saved(build)
        file, parts = (
            (f"{name}-image.tar", plain) if kind == "image" else (f"{name}-image.tar.gz", context.gzipped(plain))
        )
    else:
        raise Problem("bad-field", field="kind", reason="must be context, image or image.gz", target="kind")
    audit.record(
        actor, "package.export", workspace=version.asset.workspace.name, target=f"environment/{version}", what=kind
    )
    return file, parts

"""The YAML of a deployment, as `az ml online-deployment create --local` reads it. Paths are relative to the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from apps.accounts.models import Workspace
from apps.builds.contract import check_mount_path, check_variables
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.registry import mlmodel
from apps.registry.enums import ModelType
from apps.registry.models import Code, CodeVersion, Environment, EnvironmentVersion, Model, ModelVersion, Tree

ROUTE = {"port": None, "path": None}
PROBE = dict.fromkeys(
    ("initial_delay", "period", "timeout", "success_threshold", "failure_threshold", "path", "port", "scheme", "method")
)
ASSET = dict.fromkeys(("name", "version", "description", "tags", "properties"))
ANY: dict[str, Any] = {}  # whatever keys the user likes
FIELDS: dict[str, Any] = {
    "$schema": None,
    "name": None,
    "type": None,
    "endpoint_name": None,
    "description": None,
    "tags": ANY,
    "properties": ANY,
    "model": {**ASSET, "path": None, "type": None, "flavors": ANY},
    "model_mount_path": None,
    "code_configuration": {"code": None, "scoring_script": None},
    "environment": {
        **ASSET,
        "image": None,
        "conda_file": ANY,
        "build": {"path": None, "dockerfile_path": None},
        "inference_config": dict.fromkeys(("liveness_route", "readiness_route", "scoring_route"), ROUTE),
        "os_type": None,
    },
    "environment_variables": ANY,
    "request_settings": dict.fromkeys(
        ("request_timeout_ms", "max_concurrent_requests_per_instance", "max_queue_wait_ms")
    ),
    "liveness_probe": PROBE,
    "readiness_probe": PROBE,
    "egress_public_network_access": None,
    "instance_type": None,
    "instance_count": None,
    "app_insights_enabled": None,
    "scale_settings": ANY,
    "data_collector": ANY,
}
NO_EFFECT = ("instance_type", "instance_count", "scale_settings", "app_insights_enabled", "data_collector", "type")
LONGEST = 1_000_000
WORKSPACE = "local"


def load(file: Path, changes: Sequence[str]) -> dict[str, Any]:
    """The file's content with `a.b=value` changes. Raises Problem "bad-field" or "unknown-field"."""
    try:
        text = file.read_text()[:LONGEST]
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(str(file), f"it cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise _bad(str(file), f"it is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise _bad(str(file), "it must be a mapping")
    for change in changes:
        _set(data, change)
    _check(data, FIELDS, "")
    return data


def _set(data: dict[str, Any], change: str) -> None:
    path, sign, text = change.partition("=")
    if not sign or not path:
        raise _bad("--set", f"{change!r} is not of the form a.b=value")
    *parents, last = path.split(".")
    for name in parents:
        data = data.setdefault(name, {})
        if not isinstance(data, dict):
            raise _bad("--set", f"{name} in {path} has no fields")
    data[last] = yaml.safe_load(text)


def _check(data: Any, known: dict[str, Any] | None, where: str) -> None:
    """Refuse keys that would have to be ignored."""
    if not known or not isinstance(data, dict):
        return
    for name, value in data.items():
        if name not in known:
            raise Problem("unknown-field", field=f"{where}{name}", target=f"{where}{name}")
        _check(value, known[name], f"{where}{name}.")


def _bad(field: str, reason: str) -> Problem:
    return Problem("bad-field", field=field, reason=reason, target=field)


def without_effect(data: dict[str, Any]) -> list[str]:
    """A sentence for what is only done on the server."""
    found = [name for name in NO_EFFECT if name in data]
    return [f"{', '.join(found)}: only on a server; here runs one instance, as large as it needs."] if found else []


def deployment_of(data: dict[str, Any], folder: Path, staging: Path, *, revision: int) -> OnlineDeployment:
    """A deployment that is in no database. `folder`: of the YAML. `staging`: ours, for models that are one file.

    Raises Problem for what cannot be meant.
    """
    name = str(data.get("name") or "")
    requests = data.get("request_settings") or {}
    code = data.get("code_configuration") or {}
    variables = {str(key): str(value) for key, value in (data.get("environment_variables") or {}).items()}
    check_variables(variables)
    mount = str(data.get("model_mount_path") or "")
    check_mount_path(mount)
    endpoint = OnlineEndpoint(name=str(data.get("endpoint_name") or name), workspace=Workspace(name=WORKSPACE))
    return OnlineDeployment(
        endpoint=endpoint,
        name=name,
        revision=revision,
        model=_model(data.get("model"), folder, staging),
        code=_code(code.get("code"), folder) if code else None,
        scoring_script=str(code.get("scoring_script") or ""),
        environment=_environment(data.get("environment"), folder),
        environment_variables=variables,
        model_mount_path=mount,
        properties={str(key): str(value) for key, value in (data.get("properties") or {}).items()},
        tags={str(key): str(value) for key, value in (data.get("tags") or {}).items()},
        request_timeout_ms=_whole(requests, "request_timeout_ms", 5000),
        max_concurrent_requests=_whole(requests, "max_concurrent_requests_per_instance", 1),
        readiness_probe=_probe(data.get("readiness_probe")),
        liveness_probe=_probe(data.get("liveness_probe")),
        egress=str(data.get("egress_public_network_access") or "enabled").lower() != "disabled",
    )


def _whole(data: dict[str, Any], name: str, default: int) -> int:
    value = data.get(name, default)
    if not isinstance(value, int) or value < 1:
        raise _bad(name, f"must be a whole number above 0, not {value!r}")
    return value


def _path(text: Any, folder: Path, field: str) -> Path:
    """A local path, relative to the YAML."""
    if not isinstance(text, str) or not text:
        raise _bad(field, "must be a path")
    if text.startswith(("azureml:", "http:", "https:", "runs:", "models:")):
        raise _bad(field, f"{text} is not on this machine: give a path, nothing is fetched from a server here")
    found = Path(os.path.normpath(folder / Path(text.removeprefix("file://")).expanduser()))
    if not found.exists():
        raise _bad(field, f"{found} does not exist")
    return found


def _model(data: Any, folder: Path, staging: Path) -> ModelVersion | None:
    if data is None:
        return None
    data = {"path": data} if isinstance(data, str) else data
    path = _path(data.get("path"), folder, "model.path")
    kind = str(data.get("type") or ModelType.CUSTOM)
    if kind not in ModelType.values:
        raise _bad("model.type", f"must be one of {', '.join(ModelType.values)}, not {kind}")
    root = path
    if path.is_file():
        root = staging / "model"
        root.mkdir(parents=True, exist_ok=True)
        (root / path.name).unlink(missing_ok=True)
        try:
            os.link(path, root / path.name)
        except OSError:  # another file system
            (root / path.name).write_bytes(path.read_bytes())
    inner = mlmodel.read(Tree(digest=str(root)), "")["path"] if kind == ModelType.MLFLOW else ""
    if kind == ModelType.TRITON:
        mlmodel.check_triton(Tree(digest=str(root)), "")
    asset = Model(name=str(data.get("name") or path.stem), workspace=Workspace(name=WORKSPACE))
    made = ModelVersion(asset=asset, version=str(data.get("version") or 1), type=kind, tree_id=str(root), path=inner)
    if path.is_dir():  # as on the server: a folder is a level of its own; `running` mounts it alone
        made.tree_id, made.path, made.source = str(root.parent), str(Path(root.name, inner)), str(root)
    return made


def _code(text: Any, folder: Path) -> CodeVersion:
    path = _path(text, folder, "code_configuration.code")
    if not path.is_dir():
        raise _bad("code_configuration.code", f"{path} must be a folder")
    return CodeVersion(asset=Code(name="code"), version="1", tree_id=str(path.parent), path=path.name)


def _environment(data: Any, folder: Path) -> EnvironmentVersion | None:
    if data is None:
        return None
    if isinstance(data, str):
        file = _path(data, folder, "environment")  # it refuses what is registered on a server
        folder, data = file.parent, yaml.safe_load(file.read_text())
        if not isinstance(data, dict):
            raise _bad("environment", f"{file} must be a mapping")
        _check(data, FIELDS["environment"], "environment.")
    conda = data.get("conda_file") or ""
    if isinstance(conda, dict):
        conda = yaml.safe_dump(conda)
    elif conda:
        conda = _path(conda, folder, "environment.conda_file").read_text()
    build = data.get("build") or {}
    context = str(_path(build.get("path"), folder, "environment.build.path")) if build else None
    routes = data.get("inference_config")
    return EnvironmentVersion(
        asset=Environment(name=str(data.get("name") or "environment")),
        version=str(data.get("version") or 1),
        image=str(data.get("image") or ""),
        conda_file=conda,
        build_context_id=context,
        dockerfile_path=str(build.get("dockerfile_path") or "Dockerfile") if build else "",
        inference_config=_routes(routes) if routes else None,
    )


def _routes(data: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name in ("liveness", "readiness", "scoring"):
        route = data.get(f"{name}_route") or {}
        if not isinstance(route.get("port"), int) or not str(route.get("path", "")).startswith("/"):
            raise _bad(f"environment.inference_config.{name}_route", "needs a port and a path")
        found[f"{name}Route"] = {"port": route["port"], "path": route["path"]}
    return found


def _probe(data: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in data or {}:
        if name in {"period", "timeout", "initial_delay"}:
            found[{"initial_delay": "initialDelay"}.get(name, name)] = f"PT{_whole(data, name, 1)}S"
        elif name in {"failure_threshold", "success_threshold"}:
            found["failureThreshold" if name[0] == "f" else "successThreshold"] = _whole(data, name, 1)
    return found

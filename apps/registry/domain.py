"""Verbs on assets. A version never changes: registering it again is fine with the same content, not with other."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.accounts.models import Workspace
from apps.core import audit
from apps.core.errors import Problem
from apps.registry import components, locations, mlmodel, storage
from apps.registry.enums import DataType, ModelType
from apps.registry.models import (
    Asset,
    AssetVersion,
    Code,
    CodeVersion,
    Component,
    ComponentVersion,
    Data,
    DataVersion,
    Environment,
    EnvironmentVersion,
    Model,
    ModelVersion,
    Tree,
)
from apps.registry.names import check_asset_name, check_component_name, check_image, check_version
from apps.registry.pipelines import fields
from apps.registry.pipelines.documents import brought_by, normalise
from apps.registry.pipelines.identity import digest_of
from apps.registry.queries import next_version
from apps.registry.routes import check_inference_config

V = TypeVar("V", bound=AssetVersion)
LONGEST_FILE = 1_000_000  # characters of a conda or requirements file
LONGEST_PATH = 400
MOST_BROUGHT = 200  # components that the steps of one bring along: they are stored in one transaction


def register_model(
    *,
    workspace: Workspace,
    name: str,
    tree: Tree,
    path: str,
    actor: Any,
    version: str | None = None,
    type: str = ModelType.CUSTOM,  # noqa: A002 -- Azure's word
    source: str = "upload",
    run_id: str = "",
    **common: Any,
) -> tuple[ModelVersion, bool]:
    """Register what lies at `path` in a tree as a model version; (version, whether it is new).

    Raises:
        Problem: "bad-name", "model-invalid" when the content is not of that type, "immutable".
    """
    values: dict[str, Any] = {"tree": tree, "path": path, "type": ModelType(type), "source": source, "run_id": run_id}
    if type == ModelType.MLFLOW:
        found = mlmodel.read(tree, path)
        values |= found | {"run_id": run_id or found["run_id"]}
    elif type == ModelType.TRITON:
        mlmodel.check_triton(tree, path)
    same = {"tree": tree, "path": values.get("path", path), "type": type}
    return _register(Model, ModelVersion, workspace, name, version, actor, values | common, same)


def register_code(
    *,
    workspace: Workspace,
    name: str,
    tree: Tree,
    actor: Any,
    path: str = "",
    version: str | None = None,
    hash_sha256: str = "",
    **common: Any,
) -> tuple[CodeVersion, bool]:
    """Register a folder of code. Raises Problem "bad-name" or "immutable"."""
    values = {"tree": tree, "path": path, "hash_sha256": hash_sha256}
    return _register(Code, CodeVersion, workspace, name, version, actor, values | common, {"tree": tree, "path": path})


def register_data(
    *,
    workspace: Workspace,
    name: str,
    uri: str,
    actor: Any,
    version: str | None = None,
    type: str = DataType.FOLDER,  # noqa: A002 -- Azure's word
    **common: Any,
) -> tuple[DataVersion, bool]:
    """Register a file or a folder by its address. What is on this machine must be there, and be of that type.

    Raises:
        Problem: "bad-name", "bad-field", "immutable".
    """
    place = locations.resolve(uri, workspace=workspace, actor=actor, field="dataUri")
    _check_data(place, DataType(type))
    same: dict[str, Any] = {"type": DataType(type), "tree": place.tree, "path": place.path if place.tree else ""}
    same["uri"] = "" if place.tree else place.uri
    return _register(Data, DataVersion, workspace, name, version, actor, same | common, same)


def _check_data(place: locations.Location, type: DataType) -> None:  # noqa: A002 -- Azure's word
    """Files of other machines are looked at when they are used: they may not answer just now."""
    kind = place.kind() if place.local_path() is not None else None
    reason = ""
    if place.local_path() is not None and kind is None:
        reason = f"there is nothing at {place.uri}"
    elif kind is not None and (kind == "file") != (type == DataType.FILE):
        reason = f"is a {kind}, which {type} is not"
    elif kind is not None and type == DataType.TABLE and place.child("MLTable").kind() != "file":
        reason = "is not an MLTable: the folder has no file MLTable"
    elif place.uri.startswith(("https://", "http://")) and type != DataType.FILE:
        reason = f"is one file of the web, which {type} is not"
    if reason:
        raise Problem("bad-field", field="dataUri", reason=reason, target="dataUri")


def register_environment(
    *,
    workspace: Workspace,
    name: str,
    actor: Any,
    version: str | None = None,
    image: str = "",
    conda_file: str = "",
    requirements: str = "",
    build_context: Tree | None = None,
    dockerfile_path: str = "",
    inference_config: dict[str, Any] | None = None,
    **common: Any,
) -> tuple[EnvironmentVersion, bool]:
    """Register an environment: an image or a build context, and Python packages on top.

    Raises:
        Problem: "bad-field" for nothing at all, for image and build context together, for what is no image's name and
            for a Dockerfile that is not in the context; "bad-name", "immutable".
    """
    if image:
        check_image(image)
    check_inference_config(inference_config)
    for field, text in (("condaFile", conda_file), ("requirements", requirements)):
        if len(text) > LONGEST_FILE:
            reason = f"has {len(text)} characters, more than the {LONGEST_FILE} of any such file"
            raise Problem("bad-field", field=field, reason=reason, target=field)
    if inference_config and not (image or build_context):
        reason = "describes the server of an image: give an image or a build context too"
        raise Problem("bad-field", field="inferenceConfig", reason=reason, target="inferenceConfig")
    dockerfile_path = _checked_dockerfile(build_context, dockerfile_path)
    if image and build_context is not None:
        raise Problem("bad-field", field="image", reason="give an image or a build context, not both", target="image")
    if not any((image, conda_file, requirements, build_context)):
        raise Problem("bad-field", field="image", reason="give an image, a conda file, requirements or a build context")
    if requirements and conda_file:
        raise Problem("bad-field", field="requirements", reason="give a conda file or requirements, not both")
    same = {
        "image": image,
        "conda_file": conda_file,
        "requirements": requirements,
        "build_context": build_context,
        "dockerfile_path": dockerfile_path,
        "inference_config": inference_config,
    }
    return _register(Environment, EnvironmentVersion, workspace, name, version, actor, same | common, same)


def register_component(
    *,
    workspace: Workspace,
    name: str,
    document: Mapping[str, Any],
    actor: Any,
    version: str | None = None,
    **common: Any,
) -> tuple[ComponentVersion, bool]:
    """Register a component, and those its steps bring along; (version, whether it is new).

    `document`: a component as a YAML file or the SDK has it.

    Raises:
        Problem: "bad-name", "immutable"; "bad-field", "unknown-field", "unsupported" or "limit" with the path of the
            field; "not-found" for the job it is to be made from.
    """
    check_component_name(name)
    if name == components.ANONYMOUS and not common.get("is_anonymous"):
        rule = "it is kept for what pipelines bring along"
        raise Problem("bad-name", kind="component", name=name, rule=rule)
    document = components.document_of(document, workspace)
    spec = normalise(document)
    if brought_by(spec) > MOST_BROUGHT:
        raise Problem("limit", limit=MOST_BROUGHT, what="components inside of one", target="jobs")
    common["description"] = common.get("description") or fields.text(document.get("description"), "description")
    common["tags"] = common.get("tags") or fields.texts(document.get("tags"), "tags")
    with transaction.atomic():
        return _register_component(workspace, name, version, spec, actor, common)


def _register_component(
    workspace: Workspace,
    name: str,
    version: str | None,
    spec: dict[str, Any],
    actor: Any,
    common: dict[str, Any],
    at: str = "",
) -> tuple[ComponentVersion, bool]:
    def register(inline: dict[str, Any], at: str) -> ComponentVersion:
        anonymous = {"is_anonymous": True}
        return _register_component(workspace, components.ANONYMOUS, None, inline, actor, anonymous, at)[0]

    prepared = components.prepare(spec, workspace=workspace, register=register, field=at)
    content = dict(prepared.spec)
    if name == components.ANONYMOUS and not version:
        version = str(uuid.UUID(digest_of(content)[:32]))  # the same content is the same version
    same = {"spec": content, "code": prepared.code, "environment": prepared.environment}
    values = same | {
        "type": content["type"],
        "display_name": content.pop("display_name"),
        "is_deterministic": content["is_deterministic"],
    }
    if (name, version) == (components.ANONYMOUS, components.OF_A_JOB):
        _make_way(workspace, content)
    made, new = _register(Component, ComponentVersion, workspace, name, version, actor, values | common, same)
    if new:
        made.parts.set(prepared.parts)
    return made, new


def _make_way(workspace: Workspace, content: dict[str, Any]) -> None:
    """Give another version to what the last job's component was: who uses it keeps it as it is."""
    series = Component.objects.select_for_update().filter(workspace=workspace, name=components.ANONYMOUS).first()
    found = series and series.versions.filter(version=components.OF_A_JOB).first()
    if found and found.spec != content:
        found.version = str(uuid.uuid4())
        found.save(update_fields=["version", "modified_at"])


def _checked_dockerfile(context: Tree | None, path: str) -> str:
    if context is None:
        if path:
            raise Problem("bad-field", field="dockerfilePath", reason="needs a build context", target="dockerfilePath")
        return ""
    path = path.removeprefix("./") or "Dockerfile"
    plain = path.isprintable() and len(path) <= LONGEST_PATH and ".." not in path.split("/") and path[0] != "/"
    if not plain or not _is_file(context, path):
        reason = f"the build context has no file {path[:100]!r}"
        raise Problem("bad-field", field="dockerfilePath", reason=reason, target="dockerfilePath")
    return path


def _is_file(tree: Tree, path: str) -> bool:
    try:
        return (storage.tree_path(tree.pk) / path).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _register(
    series: type[Asset],
    versions: type[V],
    workspace: Workspace,
    name: str,
    version: str | None,
    actor: Any,
    values: dict[str, Any],
    same: dict[str, Any],
) -> tuple[V, bool]:
    kind = series.__name__.lower()
    check_asset_name(kind, name)
    with transaction.atomic():
        asset, _ = series.objects.select_for_update().get_or_create(workspace=workspace, name=name)
        version = check_version(version) if version else next_version(asset)
        found = versions.objects.filter(asset=asset, version=version).first()
        if found is not None:
            return _again(found, values, same, kind), False
        try:
            with transaction.atomic():
                made = versions.objects.create(asset=asset, version=version, created_by=actor, **values)
        except IntegrityError:
            raise Problem("conflict", reason=f"{kind} {name}:{version} is being registered by somebody else.") from None
        audit.record(actor, f"{kind}.register", workspace=workspace.name, target=f"{kind}/{name}:{version}")
    return made, True


def _again(found: V, values: dict[str, Any], same: dict[str, Any], kind: str) -> V:
    """A PUT of an existing version: its content must be equal; tags, description and the archive flag may follow."""
    if any(getattr(found, key) != value for key, value in same.items()):
        raise Problem("immutable", kind=kind, name=str(found))
    loose = {"description", "tags", "properties", "is_archived", "display_name"} & values.keys()
    changed = [key for key in loose if getattr(found, key) != values[key]]
    for key in changed:
        setattr(found, key, values[key])
    if changed:
        found.save(update_fields=[*changed, "modified_at"])
    return found


@transaction.atomic
def describe_asset(
    *,
    asset: Asset,
    description: str,
    tags: dict[str, str],
    properties: dict[str, str],
    is_archived: bool,
    actor: Any,
) -> None:
    """Describe, tag, archive or restore a whole asset."""
    asset.description, asset.tags, asset.properties, asset.is_archived = description, tags, properties, is_archived
    asset.save(update_fields=["description", "tags", "properties", "is_archived"])
    kind = type(asset).__name__.lower()
    audit.record(
        actor, f"{kind}.describe", workspace=asset.workspace.name, target=f"{kind}/{asset}", archived=is_archived
    )


@transaction.atomic
def delete_version(*, version: AssetVersion, actor: Any, users: list[str]) -> None:
    """Delete a version nobody uses. Raises Problem "in-use", naming the users."""
    kind = type(version.asset).__name__.lower()
    if users:
        raise Problem("in-use", kind=kind, name=str(version), users=", ".join(users[:5]))
    audit.record(actor, f"{kind}.delete", workspace=version.asset.workspace.name, target=f"{kind}/{version}")
    asset = version.asset
    try:
        version.delete()
    except ProtectedError as error:  # deployed since the caller looked
        named = ", ".join(sorted(str(each) for each in error.protected_objects)[:5])
        raise Problem("in-use", kind=kind, name=str(version), users=named) from None
    if not asset.versions.exists():
        asset.delete()

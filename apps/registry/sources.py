"""Where the content of an asset comes from: URIs of the API, resolved to trees."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import mlflow_files, storage
from apps.registry.models import Tree, Upload

UPLOAD = re.compile(r"portway://uploads/(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/(?P<path>.*))?")

RUN = re.compile(r"runs:/+(?P<run>[0-9a-zA-Z]{1,64})/(?P<path>.+)")
MODEL = re.compile(r"models:/+(?P<name>[^/]+)/(?P<version>[0-9]{1,18})")
PLACE = re.compile(r"azureml://|https://", re.IGNORECASE)
LONGEST, LONGEST_NAME = 400, 255


@dataclass(frozen=True)
class Source:
    tree: Tree
    path: str
    uri: str
    run_id: str = ""


def resolve(uri: str, *, workspace: Workspace, actor: Any) -> Source:
    """The tree a URI names.

    `portway://uploads/<id>[/path]`: an upload of this workspace. `runs:/<run id>/<path>`, `models:/<name>/<version>`:
    what MLflow keeps for this workspace. `azureml://…` or the address of a blob: files of a datastore or of a job.
    `file:///path`: a folder or file of the server, for the operator only.

    Raises:
        Problem: "bad-field", "not-found" or "upload-refused", saying what is wrong with the URI or its content;
            "unavailable" when MLflow does not answer.
    """
    match = UPLOAD.fullmatch(uri)
    if match is not None:
        upload = Upload.objects.select_related("tree").filter(pk=match["id"], workspace=workspace).first()
        if upload is None:
            raise Problem("bad-field", field="uri", reason=f"there is no upload {match['id']} in this workspace")
        path = _inside(match["path"] or upload.path)
        if not (storage.tree_path(upload.tree_id) / path).exists():
            raise Problem("bad-field", field="uri", reason=f"the upload has no {path}")
        return Source(upload.tree, path, uri)
    match = RUN.fullmatch(uri)
    if match is not None:
        address = mlflow_files.of_run(workspace, match["run"], _inside(match["path"]))
        return Source(*mlflow_files.take(workspace, address), uri, match["run"])
    match = MODEL.fullmatch(uri)
    if match is not None:
        tree, path = mlflow_files.take(workspace, mlflow_files.of_version(workspace, match["name"], match["version"]))
        return Source(tree, path, uri)
    if PLACE.match(uri):
        from apps.registry import places  # noqa: PLC0415 -- places know uploads, which are sources

        taken = places.take(uri, workspace=workspace, actor=actor)
        plain = uri.partition("?")[0] if uri.lower().startswith("https://") else uri  # a signature is not kept
        return Source(*taken, plain)
    if uri.startswith("file://"):
        if not getattr(actor, "is_superuser", False):
            raise Problem(
                "bad-field",
                field="uri",
                reason="only the operator may register paths of the server; upload the files instead",
            )
        return _of_server_path(Path(uri.removeprefix("file://")), uri)
    raise Problem(
        "bad-field",
        field="uri",
        reason=f"{uri!r} is not understood; upload the files first and use the URI of the upload",
    )


def context_of(uri: str, *, workspace: Workspace, actor: Any) -> Tree:
    """The folder that a URI names, as a build context. Raises what `resolve` does, and "bad-field" for a file."""
    source = resolve(uri, workspace=workspace, actor=actor)
    if not (storage.tree_path(source.tree.pk) / source.path).is_dir():
        raise Problem(
            "bad-field", field="contextUri", reason="is a file; a build context is a folder with a Dockerfile"
        )
    return storage.subtree(source.tree, source.path)


def _inside(path: str) -> str:
    clean = path.strip("/")
    sizes = [len(part.encode("utf-8", "replace")) for part in clean.split("/")]
    if sum(sizes) > LONGEST or max(sizes) > LONGEST_NAME or not clean.isprintable():
        raise Problem("bad-field", field="uri", reason="the path is too long, or holds characters that names cannot")
    if any(part in {"", ".", ".."} for part in clean.split("/")) and clean:
        raise Problem("bad-field", field="uri", reason="the path must not have empty or dotted parts")
    return clean


def _of_server_path(path: Path, uri: str) -> Source:
    """Copy a folder (keeping its name as a level, spec 3.6) or a file into the store."""
    if not path.is_absolute() or not path.exists():
        raise Problem("bad-field", field="uri", reason=f"{path} does not exist on the server")
    with storage.scratch() as scratch:
        target = scratch / path.name
        try:
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True)
            else:
                shutil.copyfile(path, target)
        except OSError as error:
            raise Problem("upload-refused", reason=f"{path} cannot be read: {error}") from None
        tree = storage.adopt(scratch)
    return Source(tree, path.name, uri)

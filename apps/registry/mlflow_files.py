"""The files behind MLflow's addresses: found on disk, checked to be the workspace's own, copied into our store."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import mlflow_client, storage
from apps.registry.mlflow_server import artifact_root
from apps.registry.models import Tree
from apps.registry.names import mlflow_name

CHUNK = 1 << 20
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def of_version(workspace: Workspace, name: str, version: str) -> str:
    """The address of the files of a model version. Raises Problem "not-found" or "unavailable"."""
    uri = mlflow_client.version_uri(mlflow_name(workspace.name), name, version)
    if uri is None:
        raise Problem("not-found", kind="MLflow model version", name=f"{name}/{version}")
    return uri


def of_run(workspace: Workspace, run_id: str, path: str) -> str:
    """The address of a path among a run's artifacts. Raises Problem "not-found" or "unavailable"."""
    found = mlflow_client.run(mlflow_name(workspace.name), run_id)
    if found is None:
        raise Problem("not-found", kind="MLflow run", name=run_id)
    base = f"{found['info']['artifact_uri'].rstrip('/')}/{path}".rstrip("/")
    if _exists(workspace, base):
        return base
    # since MLflow 3 a model logged by a run lives beside the run; its name leads to it
    for output in (found.get("outputs") or {}).get("model_outputs", []):
        logged = mlflow_client.get(f"logged-models/{output['model_id']}", workspace=mlflow_name(workspace.name))
        info = (logged or {}).get("model", {}).get("info", {})
        first, _, rest = path.partition("/")
        if info.get("name") == first and info.get("artifact_uri"):
            return f"{info['artifact_uri'].rstrip('/')}/{rest}".rstrip("/")
    raise Problem("not-found", kind="artifact", name=f"runs:/{run_id}/{path}")


def _exists(workspace: Workspace, uri: str) -> bool:
    try:
        return locate(workspace, uri).exists()
    except Problem:
        return False


def locate(workspace: Workspace, uri: str) -> Path:
    """Where an `mlflow-artifacts:` address lies on disk.

    Raises:
        Problem: "model-invalid" when it is another kind of address, or leads out of the workspace's own part.
    """
    parts = urlsplit(uri)
    names = [each for each in unquote(parts.path).split("/") if each]
    owner = names[1] if len(names) > 1 and names[0] == "workspaces" else "default"
    if parts.scheme != "mlflow-artifacts" or not names:
        raise Problem(
            "model-invalid",
            kind="MLflow model",
            reason=f"its files are at {uri[:200]}, not in Portway's artifact store.",
        )
    if owner != mlflow_name(workspace.name) or any(each in {".", ".."} or "\\" in each for each in names):
        raise Problem("model-invalid", kind="MLflow model", reason="its files belong to another workspace.")
    root = artifact_root(settings.HOME).resolve()
    place = root.joinpath(*names)
    if not place.resolve().is_relative_to(root):
        raise Problem("model-invalid", kind="MLflow model", reason="its files lead out of the artifact store.")
    return place


def take(workspace: Workspace, uri: str, *, beat: Callable[[], None] = lambda: None) -> tuple[Tree, str]:
    """(tree, path in it) of a copy of what an address names; a folder keeps a name as a level (spec 3.6).

    Raises:
        Problem: "model-invalid", "upload-refused", "upload-too-large" or "disk-full".
    """
    source = locate(workspace, uri)
    name = "model" if source.name == "artifacts" else source.name
    with storage.scratch() as folder:
        room = storage.Room()
        try:
            if source.is_dir():
                _copy_folder(source, folder / name, room, beat)
            else:
                _copy_file(source, folder / name, room, beat)
        except FileNotFoundError:
            raise Problem("model-invalid", kind="MLflow model", reason="its files are not there (any more).") from None
        except OSError as error:
            if error.errno in NO_SPACE:
                raise Problem("disk-full") from None
            raise
        return storage.adopt(folder), name


def _copy_folder(source: Path, target: Path, room: storage.Room, beat: Callable[[], None]) -> None:
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _copy_folder(Path(entry.path), target / entry.name, room, beat)
            else:
                _copy_file(Path(entry.path), target / entry.name, room, beat)


def _copy_file(source: Path, target: Path, room: storage.Room, beat: Callable[[], None]) -> None:
    if source.is_symlink():
        raise Problem("upload-refused", reason=f"{source.name[:80]!r} is a link or a special file")
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Problem("upload-refused", reason=f"{source.name[:80]!r} is a link or a special file")
        room.file()
        with target.open("xb") as out:
            while chunk := stream.read(CHUNK):
                room.take(len(chunk))
                out.write(chunk)
                beat()

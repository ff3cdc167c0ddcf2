"""Assets out of datastores: what the SDK has uploaded, what a job has written (wire 5.7, 9.3, 9.4)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import locations, storage
from apps.registry.blobs import container_named
from apps.registry.models import Tree
from apps.registry.queries import DEFAULT_DATASTORE

# the SDK drops the account from the address of a build context, or a part of it
BLOB = re.compile(r"/(?:storage\.blob\.[^/]+/|storage/)?(?P<container>[^/]+)/(?P<path>.+)")


def take(uri: str, *, workspace: Workspace, actor: Any) -> tuple[Tree, str]:
    """A copy of a file or folder in the store, its name kept as a level (spec 3.6): (tree, path in it).

    Raises Problem "bad-field" for what is not there or not of this workspace, and what uploads and stores raise.
    """
    location = locations.resolve(_address(uri, workspace), workspace=workspace, actor=actor)
    kind = location.kind()
    if kind is None:
        raise Problem("bad-field", field="uri", reason=f"there is nothing at {uri[:300]}", target="uri")
    if location.datastore is None:
        raise Problem("bad-field", field="uri", reason="must be a path of a datastore", target="uri")
    name = location.path.rpartition("/")[2] or "files"
    room = storage.Room()
    with storage.scratch() as folder:
        for member, size in location.files():
            room.file()
            room.take(size)
            location.fetch(member, folder / name if kind == "file" else folder / name / member)
        return storage.adopt(folder), name


def _address(uri: str, workspace: Workspace) -> str:
    """As a path of the default datastore when it is a blob of ours."""
    if not uri.lower().startswith("https://"):
        return uri
    parts = urlsplit(uri)
    match = BLOB.fullmatch(unquote(parts.path))
    container = container_named(match["container"]) if match else None
    ours = parts.netloc.lower() == urlsplit(settings.BASE_URL).netloc.lower()
    if match is None or container is None or container.workspace != workspace or not ours:
        reason = "is no address of this workspace's own storage; upload the files, or name a datastore of the workspace"
        raise Problem("bad-field", field="uri", reason=reason, target="uri")
    return f"azureml://datastores/{DEFAULT_DATASTORE}/paths/{container.path(match['path'].rstrip('/'))}"

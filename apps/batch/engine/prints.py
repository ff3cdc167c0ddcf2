"""Whether data is still what it was: a cheap fingerprint of names and sizes, and of times where files are at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from apps.accounts.models import Workspace
from apps.batch.engine.plan import MODELS
from apps.core.errors import Problem
from apps.registry import locations, references
from apps.registry.models import ModelVersion

CHECK_EVERY = 1000


def is_model(kind: str, uri: str) -> bool:
    """Whether an input names a registered model. `kind`: as a component declares it."""
    match = references.ASSET_ID.fullmatch(uri)
    if match is not None:
        return match["kind"].lower() == "models"
    return kind in MODELS and references.SHORT_ID.fullmatch(uri) is not None


def model(uri: str, workspace: Workspace, field: str = "uri") -> ModelVersion:
    """Raises Problem "bad-field"."""
    found: ModelVersion = references.find(ModelVersion, "models", uri, workspace=workspace, field=field)
    return found


def fingerprint(kind: str, uri: str, *, workspace: Workspace, check: Callable[[], None]) -> str:
    """Equal for equal content, as far as names, sizes and times tell. `check` raises to cancel.

    Raises Problem "input-missing" when it is gone, and what a store raises.
    """
    if is_model(kind, uri):
        found = model(uri, workspace)
        return f"{found.tree_id}/{found.path}"
    location = locations.resolve(uri, workspace=workspace, actor=None)
    if location.tree is not None:
        return f"{location.tree.pk}/{location.path}"
    is_kind = location.kind()
    if is_kind is None:
        raise Problem("input-missing", uri=uri, target="InputData")
    path = location.local_path()
    digest = hashlib.sha256()
    for count, (name, size) in enumerate(location.files()):
        if count % CHECK_EVERY == 0:
            check()
        at = "" if path is None else (path / name if is_kind == "folder" else path).stat().st_mtime_ns
        digest.update(f"{name}\0{size}\0{at}\n".encode())
    return digest.hexdigest()

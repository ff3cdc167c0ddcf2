"""Names and versions of assets."""

from __future__ import annotations

import hashlib
import re

from apps.core.errors import Problem

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_asset_name(kind: str, name: str) -> str:
    """Raises Problem "bad-name". A name is part of paths, so `..` can never be one."""
    if not NAME.fullmatch(name) or ".." in name:
        raise Problem(
            "bad-name", kind=kind, name=name, rule="letters, digits, dots, dashes and underscores; at most 255"
        )
    return name


def check_version(version: str) -> str:
    """Raises Problem "bad-name"."""
    if not VERSION.fullmatch(version) or ".." in version:
        raise Problem(
            "bad-name", kind="version", name=version, rule="letters, digits, dots, dashes and underscores; at most 64"
        )
    return version


MLFLOW_NAME = re.compile(r"[a-z0-9][-a-z0-9]*[a-z0-9]")
MLFLOW_TAKEN = {"workspaces", "api", "ajax-api", "static-files"}


def mlflow_name(workspace: str) -> str:
    """What MLflow calls a workspace: its name where MLflow's rule allows it, else one longer than any real name."""
    if MLFLOW_NAME.fullmatch(workspace) and workspace not in MLFLOW_TAKEN:
        return workspace
    plain = re.sub(r"[^a-z0-9]+", "-", workspace.lower()).strip("-")[:28] or "w"
    return f"{plain}-{hashlib.sha256(workspace.encode()).hexdigest()[:32]}"

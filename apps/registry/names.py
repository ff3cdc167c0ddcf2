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


COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,254}")


def check_component_name(name: str) -> str:
    """Raises Problem "bad-name"; stricter than other assets, as in Azure."""
    if not COMPONENT.fullmatch(name):
        rule = "a lower-case letter first, then lower-case letters, digits and underscores; at most 255"
        raise Problem("bad-name", kind="component", name=name, rule=rule)
    return name


MLFLOW_NAME = re.compile(r"[a-z0-9][-a-z0-9]*[a-z0-9]")
MLFLOW_TAKEN = {"workspaces", "api", "ajax-api", "static-files"}


def mlflow_name(workspace: str) -> str:
    """What MLflow calls a workspace: its name where MLflow's rule allows it, else one longer than any real name."""
    if MLFLOW_NAME.fullmatch(workspace) and workspace not in MLFLOW_TAKEN:
        return workspace
    plain = re.sub(r"[^a-z0-9]+", "-", workspace.lower()).strip("-")[:28] or "w"
    return f"{plain}-{hashlib.sha256(workspace.encode()).hexdigest()[:32]}"


DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]{1,5})?"
PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?P<repository>(?:{DOMAIN}/)?{PART}(?:/{PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
LONGEST_IMAGE = 255
OURS = "portway"
HUB = ("docker.io/", "index.docker.io/")


def check_image(text: str) -> str:
    """The name with its tag, as a container engine takes it. Raises Problem "bad-field", saying what a name is.

    The engine would take a bare id too, and so hand out what others have built: it gets names with a tag only, and
    never one of those that builds are given here.
    """
    match = IMAGE.fullmatch(text) if len(text) <= LONGEST_IMAGE else None
    reason = ""
    if match is None:
        reason = "must be the name of an image, such as registry.example/team/image:1.0 (lower case, at most 255)"
    elif (repository := _familiar(match["repository"])) == "sha256":
        reason = "must be the name of an image, not an id"
    elif repository.split("/")[0] == OURS:
        reason = "names an image that was built here; use its environment instead"
    if match is None or reason:
        raise Problem("bad-field", field="image", reason=reason, target="image")
    return text if match["tag"] or match["digest"] else f"{text}:latest"


def _familiar(repository: str) -> str:
    """The name as an engine shortens it: the hub's own address says nothing."""
    host, _, rest = repository.partition("/")
    if f"{host.lower()}/" in HUB:
        repository = rest
    return repository.removeprefix("library/")

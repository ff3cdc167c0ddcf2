"""Names and versions of assets."""

from __future__ import annotations

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

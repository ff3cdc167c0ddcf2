"""Whether the environment is the one that a model was saved with."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_PIN = re.compile(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*==\s*([A-Za-z0-9.!+_-]+)\s*(?:#.*)?\Z")


def mismatches(requirements: Path) -> list[str]:
    """A line for each `name==version` in the file that the environment does not meet.

    Folder names answer it: reading each package's metadata would cost more than the rest of the check.
    """
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    pins = [found.groups() for found in map(_PIN.match, lines) if found]
    there = installed() if pins else {}
    found = []
    for name, wanted in pins:
        current = there.get(_key(name)) or _metadata_version(name)
        if current is None or not _same(current, wanted):
            found.append(f"{name} (current: {current or 'uninstalled'}, required: {name}=={wanted})")
    return found


def installed() -> dict[str, str]:
    """Versions by package, from the names of the .dist-info folders on the path; the first on the path counts."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                package, _, version = name[: -len(".dist-info")].rpartition("-")
                found.setdefault(_key(package), version)
    return found


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(current: str, wanted: str) -> bool:
    if "+" not in wanted:
        current = current.partition("+")[0]
    return _short(current) == _short(wanted)


def _short(version: str) -> str:
    return re.sub(r"(\.0+)+\Z", "", version.lower())


def _metadata_version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

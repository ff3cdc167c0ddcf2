"""Environments made runnable: content-addressed, built once, shared by every deployment that asks for the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EnvironmentSpec:
    """What is asked for: a conda file's text or a requirements file's text, and the Python it names (or "")."""

    conda_file: str = ""
    requirements: str = ""
    python: str = ""


@dataclass(frozen=True)
class Runnable:
    """A built environment: `path` is its folder (never moved), `overlay` the serving packages behind it."""

    key: str
    path: Path
    python: Path
    overlay: Path


def ensure(spec: EnvironmentSpec, *, log: Callable[[str], None], check: Callable[[], None]) -> Runnable:
    """The environment, built now or found. `log` gets each line as it comes; `check` raises to cancel.

    Raises:
        Problem: "environment-failed" (which package, and why), "build-unavailable" (no index), "disk-full".
    """
    raise NotImplementedError

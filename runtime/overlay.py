"""Builds the overlay: the packages of the scoring server, in a folder that a model's environment sees last.

One folder per Python minor version and ABI, named by what is in it. Standard library only: it runs in the control
plane, but also in a build container.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path

PINS = {"granian": "2.8.7", "click": "8.5.1"}
COMPLETE = ".complete"
OLDEST = (3, 10)
_PROBE_S = 60
_INSTALL_S = 300
ABI_PROBE = (
    "import json, platform, sys, sysconfig; "
    "print(json.dumps([[list(sys.version_info[:2]), sys.implementation.cache_tag, "
    "sysconfig.get_config_var('SOABI') or '', sysconfig.get_platform(), ' '.join(platform.libc_ver()[:1])], "
    "sys.executable, '%d.%d.%d' % sys.version_info[:3]]))"
)


class OverlayError(Exception):
    """The overlay cannot be built; `str()` says why and what to do."""


def ensure_overlay(python: Path, store: Path, uv: Path) -> Path:
    """The overlay folder for this interpreter, built now when it is not there. Safe to call from many processes."""
    return _ensure(_abi(python), store, uv, ["--python", str(python), "--compile-bytecode"])


def ensure_overlay_for(abi: list[object], store: Path, uv: Path) -> Path:
    """The overlay folder for an interpreter that is not on this machine, by what `ABI_PROBE` printed of it.

    Nothing of where that interpreter comes from is run: the wheels are chosen by their tags.
    """
    return _ensure(abi, store, uv, _elsewhere(abi))


def _ensure(abi: list[object], store: Path, uv: Path, choice: list[str]) -> Path:
    folder = store / f"overlay-{abi[1]}-{_digest(abi)}"
    if (folder / COMPLETE).is_file():
        return folder
    store.mkdir(parents=True, exist_ok=True)
    with _locked(store / f".{folder.name}.lock"):
        if not (folder / COMPLETE).is_file():
            _build(folder, uv, choice, same=abi == _abi(Path(sys.executable)))
    return folder


def _elsewhere(abi: list[object]) -> list[str]:
    version, tag, soabi, platform = abi[:4]
    minor = ".".join(map(str, version))  # type: ignore[call-overload]
    if tag != f"cpython-{minor.replace('.', '')}" or not re.match(rf"{tag}(?:-|$)", str(soabi)):
        raise OverlayError(f"There is no scoring server for Python {soabi or tag}; take an ordinary CPython.")
    machine = str(platform).partition("-")[2]
    libc = "musl" if "musl" in str(soabi) else "gnu"
    choice = ["--python", sys.executable, "--python-version", minor, "--only-binary", ":all:"]
    return [*choice, "--python-platform", f"{machine}-unknown-linux-{libc}"]


@lru_cache(maxsize=32)
def _abi(python: Path) -> list[object]:
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", ABI_PROBE], capture_output=True, text=True, timeout=_PROBE_S, check=True
        )
        found: list[object] = json.loads(done.stdout)[0]
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise OverlayError(f"{python} does not run: {exc}. Rebuild the model's environment.") from exc
    if found[0] < list(OLDEST):  # type: ignore[operator]
        version = ".".join(map(str, found[0]))  # type: ignore[call-overload]
        raise OverlayError(f"The scoring server needs Python 3.10 or newer; this environment has {version}.")
    return found


def _digest(abi: list[object]) -> str:
    return hashlib.sha256(json.dumps([abi, PINS], sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(folder: Path, uv: Path, choice: list[str], *, same: bool) -> None:
    half = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        if not (same and _copy_own(half)):
            _install(half, uv, choice)
        (half / COMPLETE).write_text(json.dumps(PINS), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # a half-built one of an earlier crash
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _copy_own(target: Path) -> bool:
    """Take the packages from our own environment; False when it has not exactly the pinned ones."""
    try:
        found = [metadata.distribution(name) for name in PINS]
    except metadata.PackageNotFoundError:
        return False
    if any(dist.version != PINS[dist.metadata["Name"].lower()] for dist in found):
        return False
    for dist in found:
        for entry in dist.files or ():
            if ".." in entry.parts or "__pycache__" in entry.parts:
                continue  # console scripts and stale bytecode
            place = target / str(entry)
            place.parent.mkdir(parents=True, exist_ok=True)
            # A copy, never a link: a model process that can write here must not reach the control plane's own files.
            shutil.copy2(str(dist.locate_file(entry)), place)
    compileall.compile_dir(str(target), quiet=2)
    return (target / "granian").is_dir()


def _install(target: Path, uv: Path, choice: list[str]) -> None:
    command = [str(uv), "pip", "install", "--quiet", "--no-deps", "--link-mode", "copy", *choice]
    command += [
        "--target",
        str(target),
        *(f"{name}=={version}" for name, version in PINS.items()),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_INSTALL_S,
            check=False,
            env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"},
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise OverlayError(f"The scoring server's packages could not be installed: {exc}") from exc
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["uv said nothing"]
        raise OverlayError(f"The scoring server's packages could not be installed: {lines[-1]}")

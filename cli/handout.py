"""What of Portway itself is mounted into containers of models and builds. Standard library only.

The engine mounts folders of its own machine. When Portway runs in a container too, the machine does not have Portway's
files: `python -m cli.services setup` puts copies below the state folder, which both see under the same path.
"""

from __future__ import annotations

import compileall
import hashlib
import shutil
import sysconfig
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Handout:
    """`runtime`: what runs in replicas; `uv`: what installs packages in containers of builds."""

    runtime: Path
    uv: Path


def handout(source: Path, store: str) -> Handout:
    """Where both are: Portway's own, or the copies in the folder `store`, named by what is in them."""
    runtime, uv = source / "runtime", Path(sysconfig.get_path("scripts")) / "uv"
    if not store:
        return Handout(runtime, uv.resolve())
    size = uv.stat().st_size
    return Handout(Path(store, f"runtime-{_digest(runtime)}"), Path(store, f"uv-{size:x}-{uv.stat().st_mtime_ns:x}"))


def make(source: Path, store: str) -> Handout:
    """Copy what is missing; a running replica keeps the copy it was started with."""
    own, copy = handout(source, ""), handout(source, store)
    Path(store).mkdir(parents=True, exist_ok=True)
    draft = Path(store, f".{uuid.uuid4().hex}")
    try:
        if not copy.runtime.exists():
            shutil.copytree(own.runtime, draft, ignore=shutil.ignore_patterns("__pycache__"))
            compileall.compile_dir(str(draft), quiet=2, stripdir=str(draft), prependdir=str(copy.runtime))
            draft.rename(copy.runtime)
        if not copy.uv.exists():
            shutil.copy2(own.uv, draft)
            draft.rename(copy.uv)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if draft.is_file():
            draft.unlink()
    return copy


def _digest(folder: Path) -> str:
    """Of the names and contents of its Python files."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]

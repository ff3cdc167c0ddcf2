"""The content-addressed store: folders that never change, named by the digest of their content.

A tree's digest covers the relative path, the mode bit "executable" and the SHA-256 of every file, so equal folders are
one folder. Trees hold plain files and folders only; everything else was refused on the way in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from apps.core.errors import Problem
from apps.registry.models import Tree

CHUNK = 1 << 20


def tree_path(digest: str) -> Path:
    """Where the tree lies on disk."""
    return Path(settings.HOME.artifacts) / "trees" / digest[:2] / digest


@contextmanager
def scratch() -> Iterator[Path]:
    """A new empty folder on the store's file system; gone after the block unless it was moved into the store."""
    folder = Path(settings.HOME.uploads) / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def adopt(folder: Path) -> Tree:
    """Move a folder (on the store's file system) into the store; what is in it must not be written any more.

    Raises:
        Problem: "upload-refused" when it holds anything but files and folders, or nothing at all.
    """
    digest, size, files = digest_of(folder)
    if files == 0:
        raise Problem("upload-refused", reason="it holds no file")
    target = tree_path(digest)
    if not target.exists():
        _freeze(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():  # else another upload of the same content was first
                raise
    tree, _ = Tree.objects.get_or_create(digest=digest, defaults={"size_bytes": size, "files": files})
    return tree


def digest_of(folder: Path) -> tuple[str, int, int]:
    """(digest, bytes, files) of a folder. Raises Problem "upload-refused" for links and special files."""
    whole = hashlib.sha256()
    size = count = 0
    for path in sorted(folder.rglob("*"), key=lambda each: each.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Problem("upload-refused", reason=f"{name} is a link or a special file")
        if path.is_dir():
            continue
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        executable = "x" if os.access(path, os.X_OK) else "-"
        whole.update(f"{name}\0{executable}\0{content}\n".encode("utf-8", "surrogateescape"))
        size += path.stat().st_size
        count += 1
    return whole.hexdigest(), size, count


def _freeze(folder: Path) -> None:
    """Readable by the replicas' user, writable by nobody."""
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
        else:
            path.chmod(0o555 if os.access(path, os.X_OK) else 0o444)
    folder.chmod(0o755)

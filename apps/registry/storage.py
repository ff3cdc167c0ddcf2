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
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from apps.core import limits
from apps.core.errors import Problem
from apps.registry.models import Tree, Upload

CHUNK = 1 << 20
KEPT_FREE = 200 * 2**20
UPLOADS_KEPT = timedelta(days=1)
TREES_KEPT = timedelta(hours=1)


def tree_path(digest: str) -> Path:
    """Where the tree lies on disk; an absolute path is a folder outside of the store (apps.local)."""
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
    values = {"used_at": timezone.now(), "size_bytes": size, "files": files}
    target = tree_path(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    _freeze(folder)
    with transaction.atomic():  # the row is locked while the folder moves: `collect` takes both or neither
        tree, _ = Tree.objects.update_or_create(digest=digest, defaults=values)
        if not target.exists():
            folder.rename(target)
    return tree


def subtree(tree: Tree, path: str) -> Tree:
    """A folder of a tree as a tree of its own; the tree itself for "". Its files take no room: they are links."""
    if not path:
        return tree
    with scratch() as folder:
        copy = folder / "copy"
        shutil.copytree(tree_path(tree.pk) / path, copy, copy_function=os.link)
        return adopt(copy)


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


class Room:
    """How many bytes and files one upload or import may still write."""

    def __init__(self) -> None:
        self.limit = limits.get("upload_bytes")
        self.left = min(self.limit, shutil.disk_usage(settings.HOME.uploads).free - KEPT_FREE)
        self.disk = self.left < self.limit
        self.files = self.most_files = limits.get("upload_files")

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            if self.disk:
                raise Problem("disk-full")
            raise Problem("upload-too-large", limit=f"{self.limit // 2**20} MiB")

    def file(self) -> None:
        self.files -= 1
        if self.files < 0:
            raise Problem("upload-refused", reason=f"it has more than {self.most_files} files")


def collect() -> int:
    """Drop uploads nobody registered in a day, trees nobody uses, and what killed processes left; how many trees."""
    now = timezone.now()
    old = Upload.objects.filter(created_at__lt=now - UPLOADS_KEPT)
    with transaction.atomic():  # whoever has just resolved such an upload still has TREES_KEPT to register its tree
        Tree.objects.filter(upload__in=old).update(used_at=now)
        old.delete()
    unused = Tree.objects.filter(used_at__lt=now - TREES_KEPT)
    for relation in _users():
        unused = unused.filter(**{f"{relation}__isnull": True})
    dropped = sum(_drop(digest, now) for digest in list(unused.values_list("pk", flat=True)[:1000]))
    _sweep(now.timestamp() - UPLOADS_KEPT.total_seconds())
    _note_orphans()
    return dropped


def _note_orphans() -> None:
    """Give a row to each stored folder without one (its process died before the commit): so it is dropped later."""
    folders = {path.name for path in tree_path("0" * 64).parent.parent.glob("*/*")}
    known = set(Tree.objects.values_list("pk", flat=True))
    for digest in folders - known:
        Tree.objects.get_or_create(digest=digest, defaults={"size_bytes": 0, "files": 0})


def _users() -> list[str]:
    """The names of all relations that point at a tree, so that a new kind of asset is never forgotten."""
    return [str(field.name) for field in Tree._meta.related_objects]  # noqa: SLF001 -- Django's documented public API


def _drop(digest: str, now: datetime) -> bool:
    """Take one tree out of the store, row and folder together, unless somebody uses it by now."""
    trash = Path(settings.HOME.uploads) / f"trash-{uuid.uuid4().hex}"
    try:
        with transaction.atomic():
            tree = Tree.objects.select_for_update().filter(pk=digest, used_at__lt=now - TREES_KEPT).first()
            if tree is None:
                return False
            tree.delete()  # ProtectedError when an asset has come to use it
            if tree_path(digest).exists():
                tree_path(digest).rename(
                    trash
                )  # inside: an `adopt` of equal content waits for the row, then finds no folder
    except (ProtectedError, IntegrityError):
        if trash.exists():
            trash.rename(tree_path(digest))
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _sweep(before: float) -> None:
    """Remove scratch folders and parts of uploads that a killed process left behind."""
    for path in Path(settings.HOME.uploads).iterdir():
        try:
            if path.lstat().st_mtime >= before:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue

"""Folders of this machine: the default datastore, uploads, and what an administrator names."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from apps.core.errors import Problem
from apps.registry.models import Datastore
from apps.registry.stores.base import PARTIAL, Kind, Store, refused, tree_files

NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}


def root_of(datastore: Datastore) -> Path:
    """The folder of a local datastore. That of a workspace's default one is made when it is first used."""
    if not datastore.is_default:
        return Path(datastore.settings["root"])
    root = Path(settings.HOME.artifacts) / "blobs" / str(datastore.workspace_id)
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextmanager
def disk_errors() -> Iterator[None]:
    """What a disk refuses as a Problem: "disk-full" or "unavailable"."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise Problem("disk-full") from None
        raise Problem("unavailable", what="The folder of the data", evidence=error.strerror or "") from None


class LocalStore(Store):
    def __init__(self, root: Path, *, writable: bool = True) -> None:
        self.root = root
        self.writable = writable

    def local(self, path: str) -> Path:
        """Where a path lies. Raises Problem "bad-field" for a link that leads out."""
        place = self.root / path
        try:
            inside = place.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
            inside = False
        if not inside:
            raise refused("uri", f"{path[:100]} leads out of its datastore")
        return place

    def kind(self, path: str) -> Kind | None:
        with disk_errors():
            try:
                mode = self.local(path).stat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return None
        if stat.S_ISDIR(mode):
            return "folder"
        if not stat.S_ISREG(mode):
            raise refused("uri", f"{path[:100]} is neither a file nor a folder")
        return "file"

    def files(self, path: str, *, nested: bool) -> Iterator[tuple[str, int]]:
        place = self.local(path)
        with disk_errors():
            if place.is_file():
                yield place.name, place.stat().st_size
                return
            yield from _walk(place, "", nested)

    def open(self, path: str) -> BinaryIO:
        with disk_errors():
            try:
                handle = os.open(self.local(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except FileNotFoundError:
                raise refused("uri", f"there is no {path[:100]}") from None
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise refused("uri", f"{path[:100]} is not a file")
            return os.fdopen(handle, "rb")

    def put(self, source: Path, path: str) -> bool:
        """Copied beside its place, then moved there at once: a reader sees all of it or nothing."""
        if not self.writable:
            return super().put(source, path)
        place = self.local(path)
        with disk_errors():
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):  # a file is in the way
                return False
            partial = place.parent / f"{PARTIAL}{uuid.uuid4().hex}"
            try:
                if source.is_dir():
                    _copy(source, partial)
                    partial.rename(place)  # onto nothing or an empty folder; anything else makes it fail
                else:
                    shutil.copyfile(source, partial, follow_symlinks=False)
                    os.link(partial, place)
            except OSError as error:
                if error.errno in TAKEN:
                    return False
                raise
            finally:
                _remove(partial)
        return True

    def take(self, source: Path, path: str, *, replace: bool) -> bool:
        """Move a file of the same file system here, at once; False when something is there that must not go."""
        place = self.local(path)
        with disk_errors():
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if replace:
                    source.replace(place)
                else:
                    os.link(source, place)
            except OSError as error:
                if error.errno in TAKEN:
                    return False
                raise
        return True

    def level(self, path: str) -> list[str]:
        """The files and folders in a folder, sorted; folders end with a slash. What is neither is left out."""
        with disk_errors(), os.scandir(self.local(path)) as found:
            names = [
                each.name + "/" if each.is_dir(follow_symlinks=False) else each.name
                for each in found
                if each.is_dir(follow_symlinks=False) or each.is_file(follow_symlinks=False)
            ]
        return sorted(name for name in names if not name.startswith(PARTIAL) and _is_text(name))

    def delete(self, path: str) -> None:
        if not self.writable or not path:
            super().delete(path)
        with disk_errors():
            _remove(self.local(path))


def _copy(source: Path, target: Path) -> None:
    """The files alone: the modes of a stranger's folder are not ours to keep."""
    target.mkdir()
    for name, file in tree_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / name, follow_symlinks=False)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _walk(folder: Path | str, prefix: str, nested: bool) -> Iterator[tuple[str, int]]:
    """As object stores sort: by the whole path, so a folder counts with its slash."""
    with os.scandir(folder) as found:
        entries = sorted(
            (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name, entry) for entry in found
        )
    for name, entry in entries:
        shown = prefix + name
        if name.startswith(PARTIAL):
            continue
        if not shown.isascii():
            _check_text(shown)
        if name[-1] == "/":
            if nested:
                yield from _walk(entry.path, shown, nested)
        elif entry.is_file(follow_symlinks=False):
            yield shown, entry.stat(follow_symlinks=False).st_size
        else:
            raise refused("uri", f"it holds {shown[:100]}, which is a link or a special file")


def _check_text(name: str) -> None:
    if not _is_text(name):
        raise refused("uri", f"it holds {name[:100]!a}, a name that is not Unicode")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

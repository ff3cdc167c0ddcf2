"""Taking files from strangers: a zip archive, or files with their relative paths."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import storage
from apps.registry.models import Upload

CHUNK = 1 << 20
RATIO_LIMIT = 200  # a file that shrinks more than this is made to fill disks
PATH_LIMIT = 400


def receive(*, workspace: Workspace, archive: Any, files: Sequence[Any], paths: Sequence[str], actor: Any) -> Upload:
    """Store what was sent.

    Raises:
        Problem: "upload-refused" or "upload-too-large", naming the member at fault.
    """
    with storage.scratch() as folder:
        if archive is not None:
            unpack(archive, folder)
        elif files:
            write(files, paths, folder)
        else:
            raise Problem("upload-refused", reason="send a zip archive as `file`, or `files` with their `paths`")
        top = sorted(folder.iterdir())
        path = top[0].name if len(top) == 1 and top[0].is_dir() else ""
        tree = storage.adopt(folder)
    return Upload.objects.create(workspace=workspace, tree=tree, path=path, created_by=actor)


def safe_path(name: str) -> PurePosixPath:
    """A relative path that stays inside its folder. Raises Problem "upload-refused"."""
    path = PurePosixPath(name.replace("\\", "/"))
    bad = path.is_absolute() or ".." in path.parts or not path.parts or any(ord(each) < 32 for each in name)  # noqa: PLR2004
    if bad or len(name) > PATH_LIMIT or (len(name) > 1 and name[1] == ":"):
        raise Problem("upload-refused", reason=f"the path {name[:80]!r} leads out of the folder or is not a path")
    return path


def unpack(archive: Any, folder: Path) -> None:
    """Unpack a zip archive into an empty folder, within the limits of this installation."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check_members(members)
            room = _Room()
            for member in members:
                if not member.is_dir():
                    with opened.open(member) as source:
                        _copy(source, folder, member.filename, room, packed=member.compress_size)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise Problem("upload-refused", reason=f"it is not a readable zip archive ({error})") from None


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    """What the archive says of itself, before a byte is unpacked."""
    limits = settings.LIMITS
    if len(members) > limits["upload_files"]:
        raise Problem("upload-refused", reason=f"it has {len(members)} members; {limits['upload_files']} are allowed")
    declared = sum(member.file_size for member in members)
    if declared > limits["upload_bytes"]:
        raise Problem(
            "upload-too-large", limit=f"{limits['upload_bytes'] // 2**20} MiB", evidence=f"it declares {declared} bytes"
        )
    for member in members:
        safe_path(member.filename)
        mode = member.external_attr >> 16
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode):
            raise Problem("upload-refused", reason=f"{member.filename[:80]!r} is a link or a special file")
        if member.flag_bits & 0x1:
            raise Problem("upload-refused", reason=f"{member.filename[:80]!r} is encrypted")
        if member.file_size > CHUNK and member.file_size > RATIO_LIMIT * max(1, member.compress_size):
            raise Problem(
                "upload-refused",
                reason=f"{member.filename[:80]!r} unpacks to {member.file_size // max(1, member.compress_size)} times its size",
            )


class _Room:
    """How many bytes may still be written."""

    def __init__(self) -> None:
        self.limit = settings.LIMITS["upload_bytes"]
        self.left = min(self.limit, shutil.disk_usage(settings.HOME.uploads).free - 200 * 2**20)
        self.disk = self.left < self.limit

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            if self.disk:
                raise Problem("disk-full")
            raise Problem("upload-too-large", limit=f"{self.limit // 2**20} MiB")


def _copy(source: Any, folder: Path, name: str, room: _Room, *, packed: int | None = None) -> None:
    target = folder / safe_path(name)
    written = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            while chunk := source.read(CHUNK):
                room.take(len(chunk))
                written += len(chunk)
                if packed is not None and written > CHUNK and written > RATIO_LIMIT * max(1, packed):
                    raise Problem(
                        "upload-refused", reason=f"{name[:80]!r} unpacks to more than {RATIO_LIMIT} times its size"
                    )
                out.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise Problem("upload-refused", reason=f"{name[:80]!r} is in it twice") from None


def write(files: Sequence[Any], paths: Sequence[str], folder: Path) -> None:
    """Write files sent one by one; without `paths` their own names count."""
    names = list(paths) or [each.name for each in files]
    if len(names) != len(files):
        raise Problem("upload-refused", reason=f"{len(files)} files came with {len(names)} paths")
    if len(files) > settings.LIMITS["upload_files"]:
        raise Problem(
            "upload-refused", reason=f"it has {len(files)} files; {settings.LIMITS['upload_files']} are allowed"
        )
    room = _Room()
    for each, name in zip(files, names, strict=True):
        _copy(each, folder, name, room)

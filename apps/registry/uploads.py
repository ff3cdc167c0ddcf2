"""Taking files from strangers: a zip archive, or files with their relative paths."""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from apps.accounts.models import Workspace
from apps.core import limits
from apps.core.errors import Problem
from apps.registry import storage
from apps.registry.models import Upload

CHUNK = 1 << 20
RATIO_LIMIT = 200  # a file that shrinks more than this is made to fill disks
PATH_LIMIT = 400
NAME_LIMIT = 255  # bytes; what file systems take
DEPTH_LIMIT = 32
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ZIP_SUFFIXES = {"", ".zip"}
OTHER_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    EOFError,
    RuntimeError,
    ValueError,
    zlib.error,
    struct.error,
)
DIRECTORY_SIZE = 5  # in the record at the end of a zip archive


def receive(*, workspace: Workspace, archive: Any, files: Sequence[Any], paths: Sequence[str], actor: Any) -> Upload:
    """Store what was sent: a zip archive, one file, or files with their relative paths.

    Raises:
        Problem: "upload-refused", "upload-too-large" or "disk-full", naming the member at fault.
    """
    with storage.scratch() as folder:
        try:
            _put(archive, files, paths, folder)
            top = sorted(folder.iterdir())
            path = top[0].name if len(top) == 1 and top[0].is_dir() else ""
            tree = storage.adopt(folder)
        except OSError as error:
            if error.errno in NO_SPACE:
                raise Problem("disk-full") from None
            raise
    return Upload.objects.create(workspace=workspace, tree=tree, path=path, created_by=actor)


def _put(archive: Any, files: Sequence[Any], paths: Sequence[str], folder: Path) -> None:
    if archive is None and not files:
        raise Problem("upload-refused", reason="send a zip archive as `file`, or `files` with their `paths`")
    if archive is None:
        write(files, paths, folder)
        return
    name = str(getattr(archive, "name", "") or "")
    if name.lower().endswith(OTHER_ARCHIVES):
        raise Problem(
            "upload-refused", reason=f"{name[:80]!r} is an archive other than zip; send a zip archive, or the files"
        )
    if PurePosixPath(name).suffix.lower() in ZIP_SUFFIXES:
        unpack(archive, folder)
    else:
        write([archive], [], folder)  # one file; some models are zip archives themselves, so its content cannot tell


def safe_path(name: str) -> PurePosixPath:
    """A relative path that stays inside its folder. Raises Problem "upload-refused"."""
    path = PurePosixPath(name.replace("\\", "/"))
    bad = path.is_absolute() or ".." in path.parts or not path.parts or any(ord(each) < 32 for each in name)  # noqa: PLR2004
    if bad or len(name) > PATH_LIMIT or (len(name) > 1 and name[1] == ":"):
        raise Problem("upload-refused", reason=f"the path {_shown(name)} leads out of the folder or is not a path")
    try:
        longest = max(len(part.encode()) for part in path.parts)
    except UnicodeEncodeError:
        raise Problem("upload-refused", reason=f"the path {_shown(name)} is not Unicode") from None
    if longest > NAME_LIMIT or len(path.parts) > DEPTH_LIMIT:
        raise Problem(
            "upload-refused", reason=f"the path {_shown(name)} has a name that is too long, or too many folders"
        )
    return path


def _shown(name: str) -> str:
    return ascii(name[:80])


def unpack(archive: Any, folder: Path) -> None:
    """Unpack a zip archive into an empty folder, within the limits of this installation."""
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check_members(members)
            room = storage.Room()
            for member in members:
                if not member.is_dir():
                    with opened.open(member) as source:
                        _copy(source, folder, member.filename, room, member)
    except OSError as error:
        if error.errno in NO_SPACE or error.errno == errno.EIO:
            raise
        raise Problem(
            "upload-refused", reason=f"it is not a readable zip archive ({error.strerror or 'damaged'})"
        ) from None
    except BROKEN as error:
        raise Problem("upload-refused", reason=f"it is not a readable zip archive ({_text(error)})") from None


def _text(error: Exception) -> str:
    return str(error).replace("\x00", "").encode("ascii", "backslashreplace").decode()[:200] or type(error).__name__


def _check_directory(archive: Any) -> None:
    """The list of members is read into memory whole, whatever it says it holds: bound its size first."""
    archive.seek(0)
    end = zipfile._EndRecData(archive)  # type: ignore[attr-defined]  # noqa: SLF001 -- there is no public way before reading it
    archive.seek(0)
    if end is None:
        raise zipfile.BadZipFile("File is not a zip file")
    most = limits.get("upload_files")
    if end[DIRECTORY_SIZE] > most * (PATH_LIMIT + 200):
        raise Problem("upload-refused", reason=f"it has too many members; {most} are allowed")


def _check_members(members: Sequence[zipfile.ZipInfo]) -> None:
    """What the archive says of itself, before a byte is unpacked."""
    most_files, most_bytes = limits.get("upload_files"), limits.get("upload_bytes")
    if len(members) > most_files:
        raise Problem("upload-refused", reason=f"it has {len(members)} members; {most_files} are allowed")
    declared = sum(member.file_size for member in members)
    if declared > most_bytes:
        limit = f"{most_bytes // 2**20} MiB"
        raise Problem("upload-too-large", limit=limit, evidence=f"it declares {declared} bytes")
    for member in members:
        safe_path(member.filename)
        mode = member.external_attr >> 16
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode):
            raise Problem("upload-refused", reason=f"{_shown(member.filename)} is a link or a special file")
        if member.flag_bits & 0x1:
            raise Problem("upload-refused", reason=f"{_shown(member.filename)} is encrypted")
        if member.compress_type not in METHODS:  # others ask for any amount of memory
            raise Problem(
                "upload-refused", reason=f"{_shown(member.filename)} is packed in a way other than store or deflate"
            )
        if member.file_size > CHUNK and member.file_size > RATIO_LIMIT * max(1, member.compress_size):
            raise Problem(
                "upload-refused",
                reason=f"{_shown(member.filename)} unpacks to more than {RATIO_LIMIT} times its size",
            )


def _copy(source: Any, folder: Path, name: str, room: storage.Room, member: zipfile.ZipInfo | None = None) -> None:
    """Write one file. A member of an archive must be what the archive said of it."""
    target = folder / safe_path(name)
    most = max(CHUNK, RATIO_LIMIT * max(1, member.compress_size)) if member else room.limit + 1
    written = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            while chunk := source.read(CHUNK):
                room.take(len(chunk))
                written += len(chunk)
                if written > most:
                    raise Problem(
                        "upload-refused", reason=f"{_shown(name)} unpacks to more than {RATIO_LIMIT} times its size"
                    )
                out.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise Problem("upload-refused", reason=f"{_shown(name)} is in it twice") from None
    if member and written != member.file_size:
        raise Problem("upload-refused", reason=f"{_shown(name)} is not of the size that the archive says")


def write(files: Sequence[Any], paths: Sequence[str], folder: Path) -> None:
    """Write files sent one by one; without `paths` their own names count."""
    names = list(paths) or [each.name for each in files]
    if len(names) != len(files):
        raise Problem("upload-refused", reason=f"{len(files)} files came with {len(names)} paths")
    room = storage.Room()
    if len(files) > room.most_files:
        raise Problem("upload-refused", reason=f"it has {len(files)} files; {room.most_files} are allowed")
    if sum(each.size or 0 for each in files) > room.limit:
        room.take(room.limit + 1)
    for each, name in zip(files, names, strict=True):
        _copy(each, folder, name, room)

"""Files that drivers share with other processes and with replicas, who are strangers."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from apps.compute.drivers.base import Failure

FAILURE_BYTES = 64 * 1024
MOST_BYTES, MOST_ENTRIES = 2**20, 64  # in a socket folder
BLOCK = 512
FULL = Failure(
    "socket_folder_full", "The server wrote more than 1 MiB or 64 files to its folder of sockets: let it write to /tmp."
)
CODE_CHARS, MESSAGE_CHARS, EVIDENCE_CHARS = 80, 2000, 16_000


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_socket(path: str | Path) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def share_socket(source: Path, link: Path) -> None:
    """Give callers a hard link to a replica's socket, in a folder the replica cannot write.

    With the replica's own path, a hostile model could swap its socket for a symbolic link to another service's and
    have the gateway talk to that.

    Raises:
        PermissionError: this user may not link a file of the replica's user.
    """
    try:
        there = os.lstat(source)
    except OSError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        return
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(link).st_ino == there.st_ino:
            return
    temporary = link.with_name(f"{link.name}~{os.getpid()}-{threading.get_ident()}")
    temporary.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):  # the replica, or its folder, has just gone
        os.link(source, temporary, follow_symlinks=False)
        if is_socket(temporary):
            temporary.replace(link)
        # two names of one file: replacing does nothing then, and leaves both
        temporary.unlink(missing_ok=True)


def overfull(folder: Path) -> Failure | None:
    """Why a replica must be ended whose socket folder, on a disk of ours, is used for more than sockets and words."""
    size = entries = 0
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as found:
                inside = list(itertools.islice(found, MOST_ENTRIES + 1))
        except PermissionError:  # closed by the replica: what it keeps there cannot be seen
            return FULL
        except OSError:
            continue
        entries += len(inside)
        for each in inside:
            with contextlib.suppress(OSError):  # gone just now
                size += each.stat(follow_symlinks=False).st_blocks * BLOCK
            if each.is_dir(follow_symlinks=False):
                folders.append(Path(each.path))
        if size > MOST_BYTES or entries > MOST_ENTRIES:
            return FULL
    return None


def read_failure(path: Path) -> Failure | None:
    """What a replica wrote about its end: text of a stranger, so it is cut, cleaned and never followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return None
        raw = os.read(fd, FAILURE_BYTES)
    finally:
        os.close(fd)
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return Failure(
            "unreadable",
            "The replica left a failure report that is no JSON.",
            clean(raw.decode(errors="replace"), EVIDENCE_CHARS),
        )
    if not isinstance(value, dict):
        return None
    code, message, evidence = (value.get(key, "") for key in ("code", "message", "evidence"))
    return Failure(clean(code, CODE_CHARS), clean(message, MESSAGE_CHARS), clean(evidence, EVIDENCE_CHARS))


def clean(value: object, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    # Lone surrogates and NUL are valid JSON, but neither UTF-8 nor a database takes them.
    text = text[:limit].encode("utf-8", "replace").decode()
    return "".join(char for char in text if char in "\n\t" or char.isprintable())

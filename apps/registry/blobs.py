"""The default datastore of a workspace as blobs in containers, which is how the SDK sends and fetches files (wire 9).

A blob is a file of the datastore, a container a name for the datastore or for one folder in it. What the SDK notes on
a blob (`x-ms-meta-*`) is kept in the database.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from django.conf import settings

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import storage
from apps.registry.locations import checked_path
from apps.registry.models import BlobMetadata
from apps.registry.queries import default_datastore
from apps.registry.stores import store_of
from apps.registry.stores.local import LocalStore, disk_errors

CONTAINER = re.compile(r"(?:azureml-blobstore-(?P<whole>\d{1,18})|code-(?P<code>\d{1,18})-(?P<folder>[0-9a-f]{16}))")
UPLOADED = "LocalUpload"
BLOCK = re.compile(r"[A-Za-z0-9+/=]{1,200}")
CHUNK = 1 << 20
MOST_BLOCKS = 50_000
TRIES = 10
MOST_METADATA = 8 * 2**10  # characters, as in Azure


class Content(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Container:
    """`prefix`: what the names of its blobs begin with in the datastore; empty, or with a slash at its end."""

    name: str
    workspace: Workspace
    prefix: str = ""

    def path(self, blob: str) -> str:
        """Where a blob is in the datastore. Raises Problem "bad-field"."""
        return self.prefix + checked_path(blob, "blob")

    @property
    def store(self) -> LocalStore:
        found = store_of(default_datastore(self.workspace))
        if not isinstance(found, LocalStore):
            raise TypeError("the default datastore is a folder")
        return found


@dataclass(frozen=True)
class Blob:
    """`modified`: seconds since the epoch."""

    name: str
    size: int
    modified: float
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def container_of(workspace: Workspace) -> Container:
    return Container(f"azureml-blobstore-{workspace.pk}", workspace)


def new_container(workspace: Workspace) -> Container:
    """One for a single upload: a new folder of the datastore."""
    folder = secrets.token_hex(8)
    return Container(f"code-{workspace.pk}-{folder}", workspace, f"{UPLOADED}/{folder}/")


def container_named(name: str) -> Container | None:
    match = CONTAINER.fullmatch(name)
    workspace = Workspace.objects.filter(pk=int(match["whole"] or match["code"])).first() if match else None
    if match is None or workspace is None:
        return None
    return Container(name, workspace, f"{UPLOADED}/{match['folder']}/" if match["folder"] else "")


def find(container: Container, blob: str) -> Blob | None:
    """Raises Problem "bad-field" for what no blob can be called."""
    path, store = container.path(blob), container.store
    if not path or store.kind(path) != "file":
        return None
    return _blob(blob, store.local(path).stat(), _noted(container, path))


def opened(container: Container, blob: str) -> tuple[Blob, BinaryIO] | None:
    """A blob to read, and what it is: both of the same file, whatever replaces it meanwhile. Raises as `find`."""
    if find(container, blob) is None:
        return None
    path = container.path(blob)
    stream = container.store.open(path)
    return _blob(blob, os.fstat(stream.fileno()), _noted(container, path)), stream


def _noted(container: Container, path: str) -> Mapping[str, str]:
    row = BlobMetadata.objects.filter(workspace=container.workspace, path=path).first()
    return row.values if row else {}


def _blob(name: str, found: os.stat_result, metadata: Mapping[str, str]) -> Blob:
    return Blob(name, found.st_size, found.st_mtime, f'"0x{found.st_mtime_ns:X}{found.st_size:X}"', metadata)


# -- writing


def write(container: Container, blob: str, content: Content, *, new: bool, metadata: Mapping[str, str]) -> Blob | None:
    """Store a blob whole; None when it has to be `new` and is not. Only what was uploaded can be replaced.

    Raises Problem "bad-field", "upload-too-large", "disk-full".
    """
    with storage.scratch() as folder, disk_errors():
        _copy(content, folder / "blob", storage.Room())
        return _take(container, blob, folder / "blob", new=new, metadata=metadata)


def stage(container: Container, blob: str, block: str, content: Content) -> None:
    """Keep a piece of a blob until all are there, for a day at most. Raises as `write`."""
    if not BLOCK.fullmatch(block):
        raise Problem("bad-field", field="blockid", reason="must be base64 of at most 200 characters", target="blockid")
    folder = _blocks(container, blob)
    with storage.scratch() as scratch, disk_errors():
        _copy(content, scratch / "block", storage.Room())
        for _try in range(TRIES):  # a commit may take the folder away
            folder.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                _check_blocks(sum(1 for _ in islice(folder.iterdir(), MOST_BLOCKS + 1)))
                (scratch / "block").replace(folder / _block_name(block))
                return
    raise Problem("conflict", reason="Somebody else is putting the same blob together.")


def _check_blocks(count: int) -> None:
    if count > MOST_BLOCKS:
        raise Problem("upload-refused", reason=f"a blob has at most {MOST_BLOCKS} blocks")


def commit(
    container: Container, blob: str, blocks: Sequence[str], *, new: bool, metadata: Mapping[str, str]
) -> Blob | None:
    """Make a blob of pieces; None when it has to be new and is not. Raises as `write`, "not-found" for a piece.

    Pieces that are gone because the blob was made of them are no error: the caller did not hear of it, or somebody else
    sent the same at the same time (the SDK names what it uploads by its content).
    """
    _check_blocks(len(blocks))
    source = _blocks(container, blob)
    room = storage.Room()
    with storage.scratch() as folder, disk_errors():
        with (folder / "blob").open("wb") as out:
            for block in blocks:
                try:
                    piece = (source / _block_name(block)).open("rb")
                except FileNotFoundError:
                    if container.path(blob).startswith(f"{UPLOADED}/") and (made := find(container, blob)):
                        return made
                    raise Problem("not-found", kind="block", name=block[:200]) from None
                with piece:
                    _append(piece, out, room)
        done = _take(container, blob, folder / "blob", new=new, metadata=metadata)
    shutil.rmtree(source, ignore_errors=True)
    return done


def describe(container: Container, blob: str, metadata: Mapping[str, str]) -> Blob | None:
    """Note this on a blob, in place of what was noted; None when it is not there."""
    found = find(container, blob)
    if found is None:
        return None
    _check_note(metadata)
    _note(container, container.path(blob), metadata)
    return Blob(found.name, found.size, found.modified, found.etag, metadata)


def _take(container: Container, blob: str, source: Path, *, new: bool, metadata: Mapping[str, str]) -> Blob | None:
    path, store = container.path(blob), container.store
    if not path:
        raise Problem("bad-field", field="blob", reason="has no name", target="blob")
    _check_note(metadata)
    source.chmod(0o644)  # workers read it as another user
    mine = path.startswith(f"{UPLOADED}/")  # results of jobs are never overwritten
    if not store.take(source, path, replace=mine and not new):
        return None
    _note(container, path, metadata)
    return _blob(blob, store.local(path).stat(), metadata)


def _check_note(metadata: Mapping[str, str]) -> None:
    if sum(len(key) + len(value) for key, value in metadata.items()) > MOST_METADATA:
        raise Problem("bad-field", field="x-ms-meta", reason=f"has more than {MOST_METADATA} characters")


def _note(container: Container, path: str, metadata: Mapping[str, str]) -> None:
    rows = BlobMetadata.objects.filter(workspace=container.workspace, path=path)
    if metadata:
        BlobMetadata.objects.update_or_create(
            workspace=container.workspace, path=path, defaults={"values": dict(metadata)}
        )
    else:
        rows.delete()


def _blocks(container: Container, blob: str) -> Path:
    """`storage.collect` removes it when nothing was added for a day."""
    digest = hashlib.sha256(container.path(blob).encode()).hexdigest()
    return Path(settings.HOME.uploads) / f"blocks-{container.workspace.pk}-{digest}"


def _block_name(block: str) -> str:
    return hashlib.sha256(block.encode()).hexdigest()


def _copy(content: Content, target: Path, room: storage.Room) -> None:
    with target.open("xb") as out:
        _append(content, out, room)


def _append(content: Content, out: BinaryIO, room: storage.Room) -> None:
    while chunk := content.read(CHUNK):
        room.take(len(chunk))
        out.write(chunk)


# -- listing


@dataclass(frozen=True)
class Listing:
    """`folders`: with a slash at their ends. `following`: where to go on, empty at the end."""

    blobs: list[Blob]
    folders: list[str]
    following: str


def listing(container: Container, prefix: str, *, nested: bool, after: str, most: int) -> Listing:
    """Blobs whose names begin so, in order, from `after` on; without `nested` one level, with its folders."""
    base, _slash, _rest = prefix.rpartition("/")
    top, store = container.path(base) if base else container.prefix.rstrip("/"), container.store
    if top and store.kind(top) != "folder":
        return Listing([], [], "")
    names = _names(store, top, f"{base}/" if base else "", prefix, after, nested=nested)
    found = list(islice(names, most + 1))
    shown = found[:most]
    files = [name for name in shown if not name.endswith("/")]
    rows = BlobMetadata.objects.filter(
        workspace=container.workspace, path__in=[container.prefix + name for name in files]
    )
    noted = {row.path.removeprefix(container.prefix): row.values for row in rows}
    blobs = []
    for name in files:
        with suppress(FileNotFoundError):  # it has gone meanwhile
            blobs.append(_blob(name, (store.root / (container.prefix + name)).lstat(), noted.get(name, {})))
    return Listing(blobs, [name for name in shown if name.endswith("/")], shown[-1] if len(found) > most else "")


def _names(store: LocalStore, folder: str, lead: str, prefix: str, after: str, *, nested: bool) -> Iterator[str]:
    """Names of blobs in a folder, in order; what cannot be among those asked for is not looked into."""
    for entry in store.level(folder):
        name = lead + entry
        if not (name.startswith(prefix) or prefix.startswith(name)) or (name < after and not after.startswith(name)):
            continue
        if nested and name.endswith("/"):
            yield from _names(store, f"{folder}/{entry[:-1]}".lstrip("/"), name, prefix, after, nested=nested)
        elif name.startswith(prefix) and name > after:
            yield name

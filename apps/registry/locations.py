"""Where data is: addresses as people and the SDK write them, resolved to places that can be read and written."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, require
from apps.core.errors import Problem
from apps.registry import sources, storage
from apps.registry.models import Data, Datastore, DataVersion, Tree
from apps.registry.queries import default_datastore, latest
from apps.registry.references import asset_reference
from apps.registry.stores import store_of
from apps.registry.stores.base import CHUNK, PARTIAL, Kind, Store, refused
from apps.registry.stores.guard import check_url, watched
from apps.registry.stores.local import LocalStore
from apps.registry.stores.web import WebStore

WORKSPACE = (
    r"(?:azureml:/?)?/subscriptions/[^/]+/resourcegroups/[^/]+/(?:providers/microsoft\.machinelearningservices/)?"
    r"workspaces/(?P<ws>[^/]+)"
)
DATASTORE = re.compile(
    rf"(?:azureml:/|{WORKSPACE})/datastores/(?P<name>[^/]+)/paths(?:/(?P<path>.*))?", re.IGNORECASE | re.DOTALL
)
JOB = re.compile(
    rf"(?:azureml:/|{WORKSPACE})/jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/paths(?:/(?P<path>.*))?)?",
    re.IGNORECASE | re.DOTALL,
)
ASSET = re.compile(rf"(?:{WORKSPACE}/data/|azureml:[^/]).*", re.IGNORECASE | re.DOTALL)
STORED = re.compile(r"portway://data/(?P<name>[^/]+)/(?P<version>[^/]+)(?:/(?P<path>.*))?", re.DOTALL)
LONGEST, LONGEST_NAME, LONGEST_URI = 1000, 255, 2000  # bytes, bytes, characters
MOST_FILES = 1_000_000
SPACE = 0x20
DELETE = 0x7F

Resolver = Callable[[Workspace, str, str, str], "Location"]
_jobs: list[Resolver] = []


@dataclass(frozen=True)
class Location:
    """A file, a folder, or where one may be written."""

    uri: str
    store: Store = field(repr=False, compare=False)
    path: str = ""  # inside the store
    datastore: Datastore | None = None
    tree: Tree | None = None  # of what was uploaded

    def kind(self) -> Kind | None:
        return self.store.kind(self.path)

    def exists(self) -> bool:
        return self.kind() is not None

    def local_path(self) -> Path | None:
        """Where it is on this machine, if it is."""
        return self.store.local(self.path)

    def files(self, *, nested: bool = True, most: int = MOST_FILES) -> Iterator[tuple[str, int]]:
        """(path below the folder, bytes) of every file, sorted by path, hidden ones too; of a file its name.

        Raises:
            Problem: "bad-field" when there is nothing, a link, a special file or a name that leads elsewhere; "limit"
                for more than `most`.
        """
        if not self.exists():
            raise refused("uri", f"there is nothing at {self.uri}")
        here = self.local_path() is not None
        for count, found in enumerate(self.store.files(self.path, nested=nested), start=1):
            if count > most:
                raise Problem("limit", limit=most, what=f"files at {self.uri}", target="uri")
            if not here:  # a name that somebody else's server made up; on a disk there is none that leads out
                _check_name(found[0])
            yield found

    def open(self, relative: str = "") -> BinaryIO:
        """A file to read: one that `files` has named."""
        return self.store.open(self._file(relative))

    def fetch(self, relative: str, target: Path) -> int:
        """Copy a file that `files` has named; how many bytes it has. The target is whole or not there.

        Raises Problem "disk-full" before the disk is, "unavailable" when it takes more than `settings.FETCH_S`.
        """
        with watched(settings.FETCH_S) as watch:
            try:
                size = self._fetch(relative, target)
            except Problem as problem:
                if not watch.over or problem.code == "disk-full":
                    raise
                raise self._late() from problem
            if watch.over and self.local_path() is None:  # what was cut short may look whole
                target.unlink(missing_ok=True)
                raise self._late()
        return size

    def _late(self) -> Problem:
        return Problem("unavailable", what=self.uri, evidence=f"not whole after {settings.FETCH_S} s")

    def _fetch(self, relative: str, target: Path) -> int:
        target.parent.mkdir(parents=True, exist_ok=True)
        left = shutil.disk_usage(target.parent).free - storage.KEPT_FREE
        partial = target.parent / f"{PARTIAL}{uuid.uuid4().hex}"
        size = 0
        try:
            with self.open(relative) as source, partial.open("xb") as out:
                while chunk := source.read(CHUNK):
                    size += len(chunk)
                    if size > left:
                        raise Problem("disk-full")
                    out.write(chunk)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return size

    def child(self, path: str) -> Location:
        """A place below this one. Raises Problem "bad-field"."""
        if isinstance(self.store, WebStore):
            raise refused("uri", "a file of the web has nothing below it")
        clean = checked_path(path, "uri")
        return replace(self, uri=f"{self.uri.rstrip('/')}/{clean}", path="/".join(filter(None, [self.path, clean])))

    def put(self, source: Path) -> None:
        """Write a file or a folder here.

        Raises:
            Problem: "output-exists" when anything is here already, "upload-refused" for links and special files.
        """
        if source.is_symlink() or not (source.is_file() or source.is_dir()):
            raise Problem("upload-refused", reason=f"{source.name} is a link or a special file")
        if self.datastore is None or not self.path:
            raise Problem("unsupported", what="writing here", reason="only paths of datastores can be written")
        if not self.store.put(source, self.path):
            raise Problem("output-exists", uri=self.uri, target="uri")

    def delete(self) -> None:
        """Delete what is here: only for what the caller has `put` here."""
        if self.datastore is None or not self.path:
            raise Problem("unsupported", what="deleting here", reason="only paths of datastores can be deleted")
        self.store.delete(self.path)

    def _file(self, relative: str) -> str:
        if isinstance(self.store, WebStore):
            return ""
        whole = self.path.rsplit("/", 1)[-1] == relative and self.kind() == "file"
        if not relative or whole:
            return self.path
        return "/".join(filter(None, [self.path, checked_path(relative, "uri")]))


def resolve_jobs_with(function: Resolver) -> None:
    """Have `function(workspace, job, output, path)` say where the outputs of jobs are."""
    _jobs[:] = [function]


def resolve(uri: str, *, workspace: Workspace, actor: Any, field: str = "uri") -> Location:
    """The place an address names; nothing needs to be there.

    `azureml://datastores/<name>/paths/<path>` and its long forms; a data asset by its id, `azureml:name:version` or
    `azureml:name@latest`; `azureml://jobs/<job>/outputs/<name>/paths/<path>`; `portway://uploads/<id>[/path]`;
    `https://…`, a public file. `actor` None is Portway itself.

    Raises:
        Problem: "bad-field", saying what is wrong with it; "not-found" or "forbidden" when the actor may not read here.
    """
    if actor is not None:
        require(actor, Permission.READ, workspace)
    if not uri or len(uri) > LONGEST_URI:
        raise refused(field, f"must have 1 to {LONGEST_URI} characters")
    _check_text(uri, field)
    if match := DATASTORE.fullmatch(uri):
        _check_workspace(match["ws"], workspace, field)
        return at(datastore_named(workspace, match["name"], field), checked_path(match["path"] or "", field))
    if match := JOB.fullmatch(uri):
        _check_workspace(match["ws"], workspace, field)
        if not _jobs:
            raise refused(field, "there are no jobs here")
        return _jobs[0](workspace, match["job"], match["output"], checked_path(match["path"] or "", field))
    if match := STORED.fullmatch(uri):
        found = _version(workspace, match["name"], match["version"], field)
        path = checked_path(match["path"] or "", field)
        place = of_version(found)
        return place.child(path) if path else place
    if ASSET.fullmatch(uri):
        name, version = asset_reference(uri, workspace=workspace, kind="data", field=field)
        return of_version(_version(workspace, name, version, field))
    if sources.UPLOAD.fullmatch(uri):
        return _upload(uri, workspace, actor, field)
    if uri.lower().startswith(("https://", "http://")):
        return Location(uri=uri, store=WebStore(check_url(uri, field)))
    raise refused(
        field,
        f"{uri[:100]!r} is not understood: give azureml://datastores/<name>/paths/<path>, a data asset, an upload, "
        "or https://",
    )


def at(datastore: Datastore, path: str) -> Location:
    """A checked path of a datastore."""
    store = store_of(datastore)
    store.local(path)  # refuses links that lead out
    return Location(f"azureml://datastores/{datastore.name}/paths/{path}", store, path, datastore)


def of_version(version: DataVersion) -> Location:
    """Where a data asset is. Raises Problem "bad-field" when its datastore is gone."""
    if version.tree is None:
        return resolve(version.uri, workspace=version.asset.workspace, actor=None)
    return Location(version.source_uri, _frozen(version.tree), version.path, None, version.tree)


def datastore_named(workspace: Workspace, name: str, field: str) -> Datastore:
    found = Datastore.objects.filter(workspace=workspace, name=name).first()
    if found is None:
        found = default_datastore(workspace)
        if found.name != name:
            raise refused(field, f"there is no datastore {name[:100]!r} in workspace {workspace.name}")
    return found


def checked_path(path: str, field: str) -> str:
    """A relative path that stays where it is; "" for the top. Raises Problem "bad-field"."""
    if not path:
        return ""
    parts = path.removesuffix("/").split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise refused(field, "the path must be relative, without empty or dotted parts")
    _check_text(path, field)
    sizes = [len(part.encode()) for part in parts]
    if sum(sizes) > LONGEST or max(sizes) > LONGEST_NAME:
        raise refused(field, f"the path is too long: at most {LONGEST} bytes, {LONGEST_NAME} for each name")
    if any(part.startswith(PARTIAL) for part in parts):
        raise refused(field, f"names that begin with {PARTIAL} are Portway's own")
    return "/".join(parts)


def _check_name(name: str) -> None:
    try:
        checked_path(name, "uri")
    except Problem as problem:
        reason = f"it holds {name[:100]!a}: {problem.params['reason']}"
        raise refused("uri", reason) from None


def _check_text(text: str, field: str) -> None:
    if any(ord(each) < SPACE or ord(each) == DELETE for each in text):
        raise refused(field, "must not hold control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise refused(field, "is not Unicode") from None


def _check_workspace(name: str | None, workspace: Workspace, field: str) -> None:
    if name is not None and name.lower() != workspace.name.lower():
        raise refused(field, f"it is in workspace {name[:100]}, not in {workspace.name}")


def _version(workspace: Workspace, name: str, version: str | None, field: str) -> DataVersion:
    asset = Data.objects.filter(workspace=workspace, name=name).first()
    found = None
    if asset is not None:
        found = asset.versions.filter(version=version).first() if version else latest(asset)
    if found is None:
        raise refused(field, f"there is no data asset {name[:100]}:{(version or 'latest')[:100]}")
    made: DataVersion = found
    return made


def _upload(uri: str, workspace: Workspace, actor: Any, field: str) -> Location:
    try:
        source = sources.resolve(uri, workspace=workspace, actor=actor)
    except Problem as problem:
        if problem.code != "bad-field":
            raise
        raise refused(field, problem.params["reason"]) from None
    return Location(uri, _frozen(source.tree), source.path, None, source.tree)


def _frozen(tree: Tree) -> LocalStore:
    return LocalStore(storage.tree_path(tree.pk), writable=False)

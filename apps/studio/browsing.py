"""Places that people look into: outputs of jobs, data assets, datastores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

from apps.core.errors import Problem
from apps.registry.locations import Location
from apps.studio import preview

ENTRIES = 1000
PIECE = 2**18  # bytes of a download that are in memory at once


@dataclass(frozen=True)
class Entry:
    """A file as a row of a tree; `folder` where it is the first below one."""

    name: str
    size: int
    folder: str

    @property
    def short(self) -> str:
        return self.name.rpartition("/")[2]


def entries_of(files: Iterable[tuple[str, int]]) -> list[Entry]:
    found: list[Entry] = []
    last = ""
    for name, size in files:
        folder = name.rpartition("/")[0]
        found.append(Entry(name, size, folder if folder != last else ""))
        last = folder
    return found


def browse(find: Callable[[], Location], path: str) -> dict[str, Any]:
    """What a page of files shows: the first ENTRIES of them, and the chosen one's beginning.

    A store that does not answer, or is gone, is a problem on the page: the rest of it stays of use. Raises Problem
    "not-found" for a file that is not there.
    """
    try:
        return _browsed(find(), path)
    except Problem as problem:
        if problem.code == "not-found":
            raise
        return {"problem": problem}


def _browsed(place: Location, path: str) -> dict[str, Any]:
    if not place.exists():
        return {}
    files = list(islice(place.files(), ENTRIES + 1))
    shown = None
    if path:
        shown = preview.preview(place, path, size_of(place, path, files))
    return {"entries": entries_of(files[:ENTRIES]), "more": len(files) > ENTRIES, "path": path, "shown": shown}


def size_of(place: Location, path: str, files: list[tuple[str, int]]) -> int:
    """In bytes; 0 for a file behind the first ones. Raises Problem "not-found" for what is no file there."""
    found = next((size for name, size in files if name == path), None)
    if found is not None:
        return found
    if len(files) <= ENTRIES or place.child(path).kind() != "file":
        raise Problem("not-found", kind="file", name=path[:200])
    return 0


def _file(place: Location | None, path: str) -> Location:
    if place is None or not path or (place.kind() == "folder" and place.child(path).kind() != "file"):
        raise Problem("not-found", kind="file", name=path[:200])
    return place


def download(request: HttpRequest, place: Location | None, path: str) -> HttpResponseBase:
    return attachment(request, _file(place, path).open(path), path.rpartition("/")[2])


def attachment(request: HttpRequest, stream: BinaryIO, name: str) -> HttpResponseBase:
    """A file of any size, piece by piece. The stream is closed with the answer."""
    # under ASGI Django would collect a plain iterator whole before it sends a byte of it
    content = _pieces_async(stream) if isinstance(request, ASGIRequest) else iter(lambda: stream.read(PIECE), b"")
    answer = StreamingHttpResponse(content, content_type="application/octet-stream")
    answer._resource_closers.append(stream.close)  # type: ignore[attr-defined]  # noqa: SLF001 -- as FileResponse does
    answer["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    answer["Cache-Control"] = "no-store"
    return answer


async def _pieces_async(stream: BinaryIO) -> AsyncIterator[bytes]:
    while data := await sync_to_async(stream.read, thread_sensitive=False)(PIECE):
        yield data


def show_picture(place: Location | None, path: str) -> HttpResponse:
    """A picture inside a page; whatever else the file may be, no browser runs anything of it."""
    found = preview.picture(_file(place, path), path)
    if found is None:
        raise Problem("not-found", kind="picture", name=path[:200])
    answer = HttpResponse(found[0], content_type=found[1])
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Content-Security-Policy"] = "default-src 'none'; sandbox"
    answer["Cache-Control"] = "no-store"
    return answer

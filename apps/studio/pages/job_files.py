"""What a job has written: the logs tree, and its outputs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, ClassVar

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

from apps.accounts.policy import Permission
from apps.batch.engine import joblogs
from apps.core.errors import Problem
from apps.monitoring.text import clean
from apps.registry import locations
from apps.registry.locations import Location
from apps.studio import preview
from apps.studio.listing import query_of
from apps.studio.loglines import split
from apps.studio.pages.jobs import JobPage

TAIL, MATCHES = 500, 500  # lines
READ = 256 * 1024  # bytes of the end of a log
ENTRIES = 1000
LONGEST_LINE = 600
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


def entries_of(files: Iterator[tuple[str, int]] | list[tuple[str, int]]) -> list[Entry]:
    found: list[Entry] = []
    last = ""
    for name, size in files:
        folder = name.rpartition("/")[0]
        found.append(Entry(name, size, folder if folder != last else ""))
        last = folder
    return found


class JobLogs(JobPage):
    """`file` chooses one of the tree, `q` searches all of it; without a search its end is shown."""

    tab = "logs"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        tree = joblogs.tree(self.job)
        names = [name for name, _size in tree]
        asked = request.GET.get("file", "")
        if asked and asked not in names:
            raise Problem("not-found", kind="file", name=asked[:200])
        file = asked or next((each for each in (joblogs.MASTER, *names) if each in names), "")
        query = query_of(request)
        matches = _matching(self.job, file, query) if file and query else None
        return self.page(
            "job_logs",
            entries=entries_of(tree),
            file=file,
            query=query,
            matches=matches,
            text=_end(self.job, file) if file and not query else "",
        )


def _end(job: Any, name: str) -> str:
    path = joblogs.path_of(job, name)
    size = path.stat().st_size if path is not None else 0
    lines = joblogs.read(job, name, after=max(0, size - READ), most=READ)[0].splitlines()
    return "\n".join(map(clean, lines[-TAIL:]))


def _matching(job: Any, name: str, query: str) -> list[tuple[int, list[tuple[str, bool]]]]:
    """(line number, its parts) of the first lines that hold what was looked for; files are 20 MB at most."""
    path = joblogs.path_of(job, name)
    if path is None:
        return []
    wanted = query.casefold()
    with path.open(encoding="utf-8", errors="replace") as lines:
        hits = ((at, line) for at, line in enumerate(lines, start=1) if wanted in line.casefold())
        return [(at, split(clean(line.rstrip("\n"))[:LONGEST_LINE], query)) for at, line in islice(hits, MATCHES)]


class JobLogDownload(JobPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        name = request.GET.get("file", "")
        path = joblogs.path_of(self.job, name)
        if path is None:
            raise Problem("not-found", kind="file", name=name[:200])
        return attachment(request, path.open("rb"), f"{self.job.name[:40]}-{path.name}")


class OutputPage(JobPage):
    """`output`: which of the job's outputs, `path`: a file of it."""

    tab = "outputs"
    permissions: ClassVar = {}

    def place(self) -> Location | None:
        """Where the chosen output is; None while that is not decided."""
        self.output = self.request.GET.get("output", "") or next(iter(self.job.outputs), "")
        given = self.job.outputs.get(self.output)
        if given is None and (self.output or "path" in self.request.GET):
            raise Problem("not-found", kind="output", name=self.output[:200])
        if not given or not given.get("uri"):
            return None
        return locations.resolve(given["uri"], workspace=self.workspace, actor=self.request.user)


class JobOutputs(OutputPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        place = self.place()
        browsed = browse(place, request.GET.get("path", "")) if place is not None else {}
        return self.page("job_outputs", place=place, output=self.output, **browsed)


class JobOutputDownload(OutputPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        return download(request, self.place(), request.GET.get("path", ""))


class JobOutputPicture(OutputPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return show_picture(self.place(), request.GET.get("path", ""))


# -- places that people look into: outputs of jobs, data assets, datastores


def browse(place: Location, path: str) -> dict[str, Any]:
    """What a page of files shows: the first ENTRIES of them, and the chosen one's beginning."""
    if not place.exists():
        return {"entries": [], "more": False, "path": "", "shown": None}
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

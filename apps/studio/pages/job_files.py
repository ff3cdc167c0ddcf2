"""What a job has written: the logs tree, and its outputs."""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from apps.accounts.policy import Permission
from apps.batch.engine import joblogs
from apps.core.errors import Problem
from apps.monitoring.text import clean
from apps.registry import locations
from apps.registry.locations import Location
from apps.studio.browsing import attachment, browse, download, entries_of, show_picture
from apps.studio.listing import query_of
from apps.studio.loglines import split
from apps.studio.pages.jobs import JobPage

TAIL, MATCHES = 500, 500  # lines
READ = 256 * 1024  # bytes of the end of a log
LONGEST_LINE = 600


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
        text, whole = _end(self.job, file) if file and not query else ("", True)
        return self.page(
            "job_logs",
            entries=entries_of(tree),
            file=file,
            query=query,
            matches=matches,
            text=text,
            whole=whole,
        )


def _end(job: Any, name: str) -> tuple[str, bool]:
    """The last lines, and whether they are all."""
    path = joblogs.path_of(job, name)
    size = path.stat().st_size if path is not None else 0
    lines = joblogs.read(job, name, after=max(0, size - READ), most=READ)[0].splitlines()
    return "\n".join(map(clean, lines[-TAIL:])), size <= READ and len(lines) <= TAIL


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
        browsed = browse(lambda: place, request.GET.get("path", "")) if place is not None else {}
        return self.page("job_outputs", place=place, output=self.output, **browsed)


class JobOutputDownload(OutputPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        return download(request, self.place(), request.GET.get("path", ""))


class JobOutputPicture(OutputPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return show_picture(self.place(), request.GET.get("path", ""))

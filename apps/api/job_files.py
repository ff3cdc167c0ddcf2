"""Logs and results of jobs: lists, downloads, and a stream of what happens now."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import patch_cache_control
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.jobs import JobView, progress
from apps.api.online import ANY
from apps.api.views import PAGE, listing, number
from apps.batch.engine import joblogs
from apps.batch.models import Job
from apps.core.errors import Problem
from apps.registry import locations

MOST_OFFSET = 10**12
MOST_FILES = 1_000_000
MOST_TEXT = 2**18
PIECE = 2**18
MOST_DOWNLOAD_S = 3600.0
MOST_STREAMS = 100  # of one web process
MOST_STREAM_S = 600.0
POLL_S = 1.0
QUIET_S = 15.0  # after which a comment says that the stream is alive
FOLLOWED = (joblogs.MASTER, joblogs.ERRORS)  # logs that the stream tells
LAST_ID = re.compile(r"(\d{1,12})-(\d{1,12})")
TEXT = "text/plain; charset=utf-8"
BINARY = {(200, "application/octet-stream"): OpenApiTypes.BINARY}


class AnyAnswer(BaseContentNegotiation):
    """These answers are no JSON; what `Accept` says of JSON does not matter."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


def harmless(answer: Any) -> Any:
    """What users' programs wrote must not become a page of ours."""
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    patch_cache_control(answer, no_store=True)
    return answer


def log_text(job: Job, name: str, after: int) -> HttpResponse:
    """What a log file says from a byte on, in bounded amounts; `x-portway-next` is where to go on."""
    try:
        text, following = joblogs.read(job, name, after=after, most=MOST_TEXT)
    except FileNotFoundError:
        raise Problem("not-found", kind="log", name=f"{job.name}/{name}") from None
    answer: HttpResponse = harmless(HttpResponse(text, content_type=TEXT))
    answer.headers["x-portway-next"] = str(following)
    return answer


class JobLogs(JobView):
    @extend_schema(responses=ANY)
    def get(self, request: Request, job: str, **_: Any) -> Response:
        found = self.job(job)
        return listing({"name": name, "size": size} for name, size in joblogs.tree(found))


class JobLog(JobView):
    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request, job: str, name: str, **_: Any) -> HttpResponse:
        after = number(request.query_params.get("after") or "0", "after", most=MOST_OFFSET)
        return log_text(self.job(job), name, after)


# -- results


def _location(job: Job, name: str, actor: Any) -> Any:
    output = job.outputs.get(name)
    if output is None or not output.get("uri"):
        raise Problem("not-found", kind="output", name=f"{job.name}/{name}")
    return locations.resolve(output["uri"], workspace=job.workspace, actor=actor, field=name)


class JobOutput(JobView):
    """The files of an output, page by page; none while it is not written yet."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, job: str, name: str, **_: Any) -> Response:
        location = _location(self.job(job), name, request.user)
        skip = number(request.query_params.get("$skip") or "0", "$skip", most=MOST_FILES)
        files = location.files() if location.kind() is not None else iter(())
        found = list(islice(files, skip, skip + PAGE + 1))
        following = f"{settings.BASE_URL}{request.path}?$skip={skip + PAGE}" if len(found) > PAGE else None
        value = [{"path": path, "size": size} for path, size in found[:PAGE]]
        return Response({"uri": location.uri, "value": value, "nextLink": following})


class JobOutputFile(JobView):
    content_negotiation_class = AnyAnswer

    @extend_schema(responses=BINARY)
    def get(self, request: Request, job: str, name: str, path: str, **_: Any) -> HttpResponseBase:
        found = self.job(job)
        stream, size = _opened(_location(found, name, request.user), path, f"{found.name}/{name}/{path}")
        answer = StreamingHttpResponse(_sent(stream), content_type="application/octet-stream")
        plain = re.sub(r"[^A-Za-z0-9._ -]", "_", path.rpartition("/")[2])
        answer.headers["Content-Disposition"] = f'attachment; filename="{plain}"'
        if size is not None:
            answer.headers["Content-Length"] = str(size)
        sent: HttpResponseBase = harmless(answer)
        return sent


def _opened(location: Any, path: str, name: str) -> tuple[BinaryIO, int | None]:
    """A file of an output, and its size where that is known. Raises Problem "not-found"."""
    missing = Problem("not-found", kind="file", name=name)
    kind = location.kind()
    if kind is None or ".." in path.split("/"):
        raise missing
    local: Path | None = location.local_path()
    if local is None:
        return location.open(path), None
    root = local.resolve()
    file = root if kind == "file" and root.name == path else (root / path).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise missing
    return file.open("rb"), file.stat().st_size


async def _sent(stream: BinaryIO) -> AsyncIterator[bytes]:
    """Under ASGI Django would collect a plain iterator whole before it sends a byte of it."""
    deadline = time.monotonic() + MOST_DOWNLOAD_S
    try:
        while piece := await sync_to_async(stream.read, thread_sensitive=False)(PIECE):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not sent within {MOST_DOWNLOAD_S:.0f} s")
            yield piece
    finally:
        await sync_to_async(stream.close, thread_sensitive=False)()


# -- the stream


class JobStream(JobView):
    """Events `progress`, `log` and `end` until the job has ended, or ten minutes.

    Who asks again with the last id as `Last-Event-ID`, as browsers do by themselves, gets the lines since.
    """

    content_negotiation_class = AnyAnswer

    @extend_schema(responses={(200, "text/event-stream"): OpenApiTypes.STR})
    def get(self, request: Request, job: str, **_: Any) -> StreamingHttpResponse:
        if Follower.open >= MOST_STREAMS:
            raise Problem("unavailable", what="Another stream")
        follower = Follower(self.job(job), last=request.headers.get("Last-Event-ID", ""))
        answer: StreamingHttpResponse = harmless(
            StreamingHttpResponse(follower.events(), content_type="text/event-stream")
        )
        answer.headers["X-Accel-Buffering"] = "no"
        return answer


class Follower:
    """What is new of a job, asked for every second without keeping a thread meanwhile. `open`: how many there are."""

    open = 0

    def __init__(self, job: Job, *, last: str = "") -> None:
        self.pk = job.pk
        match = LAST_ID.fullmatch(last)
        self.marks = {name: int(match[index]) if match else 0 for index, name in enumerate(FOLLOWED, start=1)}
        self.shown: dict[str, str] = {}
        self.ended = self.behind = False

    async def events(self) -> AsyncIterator[str]:
        Follower.open += 1
        try:
            async for found in self._events():
                yield found
        finally:
            Follower.open -= 1

    async def _events(self) -> AsyncIterator[str]:
        deadline = time.monotonic() + MOST_STREAM_S
        last = time.monotonic()
        while True:
            found = await sync_to_async(self.look)()
            if found:
                yield "".join(found)
                last = time.monotonic()
            if self.ended or time.monotonic() > deadline:
                return
            if time.monotonic() - last > QUIET_S:
                yield ": still there\n\n"
                last = time.monotonic()
            await anyio.sleep(POLL_S)

    def look(self) -> list[str]:
        """The events since the last look. The state is read before the logs: what they said last is not missed."""
        job = Job.objects.filter(pk=self.pk).first()
        if job is None:
            self.ended = True
            return [self._event("end", {"status": "Deleted", "error": None})]
        found = list(self._lines(job))
        shown = {"status": job.state, **progress(job)}
        if shown != self.shown:
            self.shown = shown
            found.append(self._event("progress", shown))
        if not job.live and not self.behind:
            self.ended = True
            found.append(self._event("end", {"status": job.state, "error": job.error}))
        return found

    def _lines(self, job: Job) -> Iterator[str]:
        self.behind = False
        for name, after in self.marks.items():
            try:
                text, self.marks[name] = joblogs.read(job, name, after=after, most=MOST_TEXT)
            except FileNotFoundError:
                continue
            self.behind |= self.marks[name] - after >= MOST_TEXT  # there may be more
            for line in text.splitlines():
                yield self._event("log", {"name": name, "line": line})

    def _event(self, kind: str, data: dict[str, Any]) -> str:
        """Its id says how far each log has been told."""
        marks = "-".join(str(self.marks[name]) for name in FOLLOWED)
        return f"id: {marks}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def log_url(token: str) -> str:
    return f"{settings.BASE_URL}/joblogs/{token}"

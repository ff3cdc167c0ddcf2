"""Logs of an endpoint: what its instances say now and said before, and what happened to one request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, ClassVar
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.accounts.policy import Permission
from apps.core import leases
from apps.core.errors import Problem
from apps.endpoints import logs
from apps.endpoints.logs import Entry, Source
from apps.endpoints.requests import Answer, find_request, story
from apps.monitoring.text import clean
from apps.studio.loglines import choose, marks_of, row, rows
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.views import Page

SHOWN = 500
GONE_SHOWN = 3  # of a deployment without a living instance
BATCH = 2000
REFRESH_S = 5
LONGEST_SEARCH = 200
PERIODS = {
    "15m": (timedelta(minutes=15), _("Last 15 minutes")),
    "1h": (timedelta(hours=1), _("Last hour")),
    "24h": (timedelta(days=1), _("Last 24 hours")),
    "7d": (timedelta(days=7), _("Last 7 days")),
}


class LogPage(EndpointPage):
    """What the address chooses: `deployment`, `instance`, `since`."""

    tab = "logs"
    permissions: ClassVar = {}
    found: list[Source]
    gone_more: int

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        self.deployment = request.GET.get("deployment", "")[:64]
        self.found, self.gone_more = logs.sources(self.workspace.name, self.endpoint.name, deployment=self.deployment)
        self.chosen = choose(self.found, request.GET)
        self.period = request.GET.get("since", "") if request.GET.get("since") in PERIODS else ""
        self.instance = request.GET.get("instance", "")[:80]
        if self.instance and not self.chosen:
            raise Problem("not-found", kind="instance", name=self.instance)

    @property
    def since(self) -> datetime | None:
        return timezone.now() - PERIODS[self.period][0] if self.period else None

    @property
    def shown(self) -> list[Source]:
        """Without a choice the living ones; when none lives the last that did."""
        living = [source for source in self.chosen if source.living is not None]
        return living or self.chosen[:GONE_SHOWN]


class Logs(LogPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        query = request.GET.get("q", "").strip()[:LONGEST_SEARCH]
        matches: logs.Found | None = None
        marks: dict[str, str] = {}
        if query:
            matches = logs.search(self.chosen, query, most=SHOWN, since=self.since)
            entries = matches.entries
        else:
            entries, marks = logs.tail(self.shown, SHOWN)
            entries = [entry for entry in entries if self.since is None or entry.at >= self.since]
        asked = {"deployment": self.deployment, "instance": self.instance, "since": self.period}
        answer = self.page(
            "endpoint_logs",
            rows=rows(entries, wanted=query),
            query=query,
            matches=matches,
            marks=json.dumps(marks),
            live=bool(marks),
            living=[source for source in self.found if source.living is not None],
            gone=[source for source in self.found if source.row is not None],
            gone_more=self.gone_more,
            one=self.chosen[0] if self.instance else None,
            deployment=self.deployment,
            deployments=self._deployments(),
            instance=self.instance,
            period=self.period,
            periods=[(name, words) for name, (_length, words) in PERIODS.items()],
            asked=urlencode({key: value for key, value in asked.items() if value}),
        )
        if marks and "refresh" in request.GET:  # asked for by pages without JavaScript
            answer.headers["Refresh"] = str(REFRESH_S)
        return answer

    def _deployments(self) -> list[str]:
        names = set(self.endpoint.deployments.values_list("name", flat=True))
        return sorted(names | {source.deployment for source in self.found} | {self.deployment} - {""})


class LogLines(LogPage):
    """What is new behind `marks`, for pages whose socket does not work.

    With `only` nothing of other instances: a page with more marks than an address can hold asks for some each time.
    """

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        try:
            marks = marks_of(json.loads(request.GET.get("marks", "{}")))
        except (ValueError, RecursionError):
            marks = {}
        chosen = [each for each in self.shown if each.key in marks] if "only" in request.GET else self.shown
        entries, fresh = logs.more(chosen, marks)
        lines = [each.as_json() for each in rows(entries)]
        return JsonResponse({"lines": lines, "marks": {**marks, **fresh}}, headers={"Cache-Control": "no-store"})


class LogDownload(LogPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponseBase:
        lines = logs.everything(self.chosen, since=self.since)
        names = [self.endpoint.name, self.deployment, self.instance]
        name = "-".join(filter(None, names)).replace('"', "").replace("\\", "")
        # under ASGI Django would collect a plain iterator whole before it sends a byte of it
        content = _in_batches_async(lines) if isinstance(request, ASGIRequest) else _in_batches(lines)
        answer = StreamingHttpResponse(content, content_type="text/plain; charset=utf-8")
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}.log"'
        answer.headers["Cache-Control"] = "no-store"
        return answer


def _batch(lines: Iterator[Entry]) -> bytes:
    return "".join(
        f"{entry.at:%Y-%m-%dT%H:%M:%S.%f}Z {entry.source.deployment}#{entry.source.index} "
        f"{entry.stream} {clean(entry.text)}\n"
        for entry in islice(lines, BATCH)
    ).encode("utf-8", "replace")


def _in_batches(lines: Iterator[Entry]) -> Iterator[bytes]:
    while data := _batch(lines):
        yield data


async def _in_batches_async(lines: Iterator[Entry]) -> AsyncIterator[bytes]:
    while data := await sync_to_async(_batch, thread_sensitive=False)(lines):
        yield data


class RequestSearch(Page):
    section = "endpoints"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        wanted = request.GET.get("id", "").strip()[:LONGEST_SEARCH]
        answer = self._find(wanted) if wanted else None
        first = answer.requests[0] if answer and answer.requests else None
        total = sum(took or 0.0 for _tone, _words, took in story(first)) if first else 0.0
        bars, at = [], 0.0
        for tone, words, took in story(first) if first else ():
            share = 100 * (took or 0.0) / total if total else 0.0
            bars.append({"tone": tone, "words": words, "took": took, "from": f"{at:.3f}", "share": f"{share:.3f}"})
            at += share
        return self.page(
            "request",
            wanted=wanted,
            answer=answer,
            first=first,
            others=answer.requests[1:] if answer else (),
            stations=bars,
            rows=[row(entry, marked=named) for entry, named in first.lines] if first else (),
            copies=[(source, rows(entries)) for source, entries in first.copies] if first else (),
        )

    def _find(self, wanted: str) -> Answer:
        with leases.one_search_of(self.request.user):
            return find_request(workspace=self.workspace.name, request_id=wanted)

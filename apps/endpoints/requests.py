"""What happened to one request: found in the gateway's log, explained, with what its instance said meanwhile."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from apps.endpoints.logs import Entry, Source, alive, sources, window
from apps.endpoints.proofs import NOTHING, Line, Proof, proof
from apps.gateway import accesslog, explain
from apps.gateway.explain import Spent, Verdict
from apps.monitoring.text import clean

ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
OTHERS_ID = re.compile(r" - \[([0-9a-f-]{36})\] ")
SLACK = timedelta(seconds=1)
SEARCH_S, SEARCH_BYTES = 8.0, 64 * 2**30
MOST_REQUESTS, MOST_LINES, MOST_COPIES = 20, 200, 8


@dataclass(frozen=True)
class Explained:
    """One line of the gateway's log, in words."""

    line: dict[str, Any]
    at: datetime
    deployment: str
    status: int
    model_status: int
    verdict: Verdict
    spent: Spent
    instance: Source | None = None
    lines: tuple[tuple[Entry, bool], ...] = ()  # with whether it has the id
    copies: tuple[tuple[Source, tuple[Entry, ...]], ...] = ()
    ended: Source | None = None  # the instance, when it ended while it answered or right after
    proof: Proof = NOTHING

    @property
    def request_id(self) -> str:
        return str(self.line.get("request_id") or "")

    @property
    def next_step(self) -> str:
        """What to do: of what the instance said when that is known, else of the verdict."""
        return self.proof.hint or str(self.verdict.next_step)

    @property
    def endpoint(self) -> str:
        return str(self.line.get("endpoint") or "")

    @property
    def flags(self) -> list[tuple[str, str]]:
        return [(flag, str(explain.FLAG_WORDS.get(flag, ""))) for flag in sorted(explain.flags_of(self.line))]

    @property
    def end(self) -> datetime:
        return self.at + timedelta(milliseconds=self.spent.total)


@dataclass(frozen=True)
class Answer:
    """Everything found under an id, newest first; the first one with its lines."""

    id: str
    requests: list[Explained]
    complete: bool
    since: datetime | None
    megabytes: float
    seconds: float
    older: bool = False  # there are lines of an earlier version, which do not say whose they are: not searched


def find_request(*, workspace: str, request_id: str) -> Answer:
    """Look for an id of ours or of the caller's among the requests to the workspace's endpoints, newest first.

    Bounded in time and bytes: the answer says how far back it looked. Lines of an earlier version do not say whose they
    are and do not count as looked at.
    """
    wanted = request_id.strip()
    if not ID.fullmatch(wanted):
        return Answer(request_id[:100], [], True, None, 0.0, 0.0)
    result = accesslog.search(
        settings.HOME.logs / "access.jsonl",
        wanted,
        lambda line: line.get("workspace") == workspace,
        most_bytes=SEARCH_BYTES,
        most_s=SEARCH_S,
        most=MOST_REQUESTS,
        needs="workspace",
    )
    found = [each for each in map(_explained, result.found) if each is not None]
    found.sort(key=lambda each: each.at, reverse=True)
    if found:
        found[0] = _with_lines(found[0], workspace)
    older = result.unsearchable
    return Answer(wanted, found, result.complete, result.since, result.bytes / 1e6, result.seconds, older)


def _explained(line: dict[str, Any]) -> Explained | None:
    try:
        at = explain.began_at(line)
    except (KeyError, TypeError, ValueError):
        return None
    return Explained(
        line=line,
        at=at,
        deployment=explain.deployment_of(line),
        status=explain.number(line, "code"),
        model_status=explain.number(line, "model_status"),
        verdict=explain.verdict(line),
        spent=explain.spent(line),
    )


def _with_lines(request: Explained, workspace: str) -> Explained:
    start, end = request.at - SLACK, request.end + SLACK
    running = [each for each in sources(workspace, request.endpoint)[0] if alive(each, start, end)]
    instance = _instance(request, running)
    said = window(instance, start, end, most=MOST_LINES) if instance is not None else []
    lines = [(entry, request.request_id in entry.text) for entry in said if not _is_about_another(entry, request)]
    copies = []
    for other in [each for each in running if each is not instance][:MOST_COPIES]:
        own = [entry for entry in window(other, start, end, most=MOST_LINES) if request.request_id in entry.text]
        if own:
            copies.append((other, tuple(own)))
    row = instance.row if instance is not None else None
    ended = row is not None and row.ended_at <= end + 4 * SLACK
    said_of_it = [Line(entry.text, named) for entry, named in lines]
    found = proof(request.verdict.code, said_of_it, row.reason if row is not None and ended else None)
    return replace(
        request,
        instance=instance,
        lines=tuple(lines),
        copies=tuple(copies),
        ended=instance if ended else None,
        proof=found,
    )


def _instance(request: Explained, running: list[Source]) -> Source | None:
    """By the name in the socket's path, else by the address; of several lives the one that ran then."""
    upstream = str(request.line.get("upstream") or "")
    if not upstream.strip("-"):
        return None
    name = PurePosixPath(upstream).parent.name
    # one address has many lives: it was the first that ended after the request began
    later = [each for each in running if each.row is None or each.row.ended_at >= request.at]
    for source in sorted(later, key=lambda each: each.row.ended_at if each.row else datetime.max.replace(tzinfo=UTC)):
        address = source.living.address if source.living is not None else source.row.address if source.row else ""
        if source.replica == name or address in {upstream, f"unix:{upstream}"}:
            return source
    return None


def _is_about_another(entry: Entry, request: Explained) -> bool:
    named = OTHERS_ID.search(entry.text)
    return named is not None and named[1] != request.request_id


def story(request: Explained) -> list[tuple[str, str, float | None]]:
    """The stations of a request in order: (tone, sentence, milliseconds)."""
    spent, line = request.spent, request.line
    failed = request.verdict.tone if request.verdict.fault else "ok"
    size = explain.number(line, "bytes_in")
    found: list[tuple[str, str, float | None]] = [
        ("ok", _("The gateway received %(bytes)s bytes.") % {"bytes": f"{size:,}"}, spent.body)
    ]
    if spent.queue is None:
        return [*found, (failed, str(request.verdict.title), None)]
    who = request.instance.name if request.instance else request.deployment
    found.append(("ok", _("It waited for a free slot of %(deployment)s.") % {"deployment": who}, spent.queue))
    if spent.model is None:
        rest = max(0.0, spent.total - spent.queue - (spent.body or 0.0))
        return [*found, (failed, _("%(who)s began and gave no answer.") % {"who": who}, rest)]
    status = request.model_status or request.status
    found.append(
        (
            failed if request.model_status else "ok",
            _("%(who)s answered %(status)s.") % {"who": who, "status": status},
            spent.model,
        )
    )
    size = explain.number(line, "bytes_out")
    sent = _("%(bytes)s bytes went back to the caller.") % {"bytes": f"{size:,}"}
    return [*found, ("ok" if request.model_status or not request.verdict.fault else failed, sent, spent.answer)]


def as_json(answer: Answer) -> dict[str, Any]:
    """For the API."""
    return {
        "id": answer.id,
        "complete": answer.complete and not answer.older,
        "olderNotSearched": answer.older,
        "searchedSince": answer.since.isoformat() if answer.since else None,
        "requests": [_request_json(each) for each in answer.requests],
    }


def _request_json(request: Explained) -> dict[str, Any]:
    line, verdict, spent = request.line, request.verdict, request.spent
    return {
        "requestId": request.request_id,
        "clientRequestId": line.get("client_request_id"),
        "time": request.at.isoformat(),
        "endpoint": request.endpoint,
        "deployment": request.deployment or None,
        "instance": _source_json(request.instance),
        "method": line.get("method"),
        "path": line.get("path"),
        "status": request.status,
        "modelStatus": request.model_status or None,
        "auth": line.get("auth"),
        "client": line.get("client"),
        "userAgent": line.get("user_agent"),
        "bytesIn": explain.number(line, "bytes_in"),
        "bytesOut": explain.number(line, "bytes_out"),
        "explanation": {
            "code": verdict.code,
            "fault": str(verdict.fault) if verdict.fault else None,
            "title": str(verdict.title),
            "message": str(verdict.message),
            "evidence": request.proof.evidence or None,
            "nextStep": request.next_step,
        },
        "durationsMs": {
            "total": spent.total,
            "receive": spent.body,
            "queue": spent.queue,
            "model": spent.model,
            "answer": spent.answer,
        },
        "envoy": {"flags": [flag for flag, _words in request.flags], "details": line.get("details")},
        "log": [{**_entry_json(entry), "hasId": named} for entry, named in request.lines],
        "copies": [
            {"instance": _source_json(source), "log": [_entry_json(entry) for entry in entries]}
            for source, entries in request.copies
        ],
    }


def _source_json(source: Source | None) -> dict[str, Any] | None:
    if source is None:
        return None
    row = source.row
    return {
        "deployment": source.deployment,
        "revision": source.revision,
        "index": source.index,
        "living": row is None,
        "endedAt": row.ended_at.isoformat() if row else None,
        "exitCode": row.exit_code if row else None,
        "outOfMemory": row.oom if row else False,
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {"time": entry.at.isoformat(), "stream": entry.stream, "text": clean(entry.text)}

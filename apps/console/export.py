"""The audit trail as a file: the rows of the present filter, streamed, bounded, and itself on record."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from apps.console import html
from apps.core import audit, leases
from apps.core.errors import Problem
from apps.core.models import AuditRecord

MAX_ROWS = 100_000
MAX_S = 60.0
CHUNK = 1000
PER_HOUR = 20
COLUMNS = ("at", "actor", "action", "workspace", "target", "request", "detail")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
ACTION = "audit.export"


@require_POST
def export(request: HttpRequest, rows: Callable[[], QuerySet[AuditRecord]]) -> HttpResponseBase:
    """A file, or the list again with the reason why not."""
    kind = request.POST.get("format", "")
    if kind not in TYPES:
        return HttpResponse(status=400)
    back = html.listing(AuditRecord, query=request.GET.urlencode())
    try:
        chosen = rows()
    except (IncorrectLookupParameters, ValidationError, ValueError, OverflowError):
        messages.error(request, _("This filter cannot be read, so nothing was exported."))
        return redirect(html.listing(AuditRecord))
    try:
        grant = _permit(request)
    except Problem as problem:
        messages.error(request, f"{problem.message} {problem.next_step}")
        return redirect(back)
    try:
        asked = request.GET.urlencode()[:500]
        audit.record(request.user, ACTION, workspace="", target="audit", format=kind, filter=asked)
        response = File(kind, chosen, grant)
    except BaseException:
        leases.release(grant)
        raise
    stamp = f"{timezone.now():%Y%m%dT%H%M%SZ}"
    response.headers["Content-Disposition"] = f'attachment; filename="portway-audit-{stamp}.{kind}"'
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


class File(StreamingHttpResponse):
    """Gives the lease back when it is closed before its first byte was asked for: then no stream does."""

    def __init__(self, kind: str, rows: QuerySet[AuditRecord], grant: leases.Grant) -> None:
        self.grant: leases.Grant | None = grant
        super().__init__(self._stream(kind, rows, grant), content_type=TYPES[kind])

    async def _stream(self, kind: str, rows: QuerySet[AuditRecord], grant: leases.Grant) -> AsyncIterator[bytes]:
        self.grant = None
        try:
            async for part in _parts(kind, rows):
                yield part
        finally:
            await sync_to_async(leases.release)(grant)

    def close(self) -> None:
        super().close()
        if self.grant is not None:
            leases.release(self.grant)


def _permit(request: HttpRequest) -> leases.Grant:
    """One export at a time and a few per hour, for each person. Raises Problem "busy" or "limit"."""
    recent = AuditRecord.objects.filter(
        actor_id=request.user.pk or 0, action=ACTION, at__gt=timezone.now() - timedelta(hours=1)
    )
    if recent.count() >= PER_HOUR:
        raise Problem("limit", limit=PER_HOUR, what="exports in an hour")
    grant = leases.acquire(f"console/export/{request.user.pk}", holder=leases.new_holder(), ttl_s=MAX_S + 30)
    if grant is None:
        raise Problem("busy", subject="the audit trail", kind=ACTION)
    return grant


async def _parts(kind: str, rows: QuerySet[AuditRecord]) -> AsyncIterator[bytes]:
    """Chunk by chunk, each with a query of its own: newer records that come in meanwhile shift nothing."""
    deadline = time.monotonic() + MAX_S
    sent, last = 0, None
    if kind == "csv":
        yield ("\ufeff" + _csv([COLUMNS])).encode()
    while chunk := await sync_to_async(_chunk)(rows, last):
        yield (_csv(map(_cells, chunk)) if kind == "csv" else _lines(chunk)).encode()
        sent, last = sent + len(chunk), chunk[-1]
        if sent >= MAX_ROWS or time.monotonic() > deadline:
            yield _cut(kind, sent).encode()
            return


def _chunk(rows: QuerySet[AuditRecord], last: AuditRecord | None) -> list[AuditRecord]:
    ordered = rows.order_by("-at", "-pk")
    if last is not None:
        ordered = ordered.filter(Q(at__lt=last.at) | Q(at=last.at, pk__lt=last.pk))
    return list(ordered[:CHUNK])


def _values(row: AuditRecord) -> dict[str, Any]:
    return {
        "at": row.at.isoformat(),
        "actor": row.actor.username if row.actor else "",
        "action": row.action,
        "workspace": row.workspace,
        "target": row.target,
        "request": row.request,
        "detail": row.detail,
    }


def _cells(row: AuditRecord) -> list[str]:
    values = _values(row) | {"detail": json.dumps(row.detail, ensure_ascii=False, sort_keys=True)}
    return [plain(str(values[name])) for name in COLUMNS]


def plain(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) or text.startswith(FORMULA) else text


def _csv(rows: Iterable[Iterable[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def _lines(chunk: list[AuditRecord]) -> str:
    return "".join(json.dumps(_values(row), ensure_ascii=False) + "\n" for row in chunk)


def _cut(kind: str, sent: int) -> str:
    """Says in the file itself that there is more."""
    text = f"cut off after {sent} rows: narrow the filter by time"
    return _csv([[f"# {text}"]]) if kind == "csv" else json.dumps({"cut": text}) + "\n"

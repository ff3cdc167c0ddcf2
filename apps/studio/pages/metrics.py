"""The metrics of an endpoint over time, the same as JSON for the page's charts, and its live counters."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _

from apps.accounts.policy import Permission
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.core.words import kind_name
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import counters
from apps.monitoring import queries
from apps.studio import charts
from apps.studio.charts import RANGES, Range
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.queries import cards, deployments_of, operations_of

MOST_MARKERS = 40
KEPT_S, MOST_KEPT = 0.95, 500  # a little less than the second after which pages ask again
MARKED = ("online-deployment.create", "online-deployment.update", "online-deployment.delete")
TRAFFIC = "online-endpoint.traffic"


class MetricsPage(EndpointPage):
    """What the page and its data have in common: the range and the deployment that the address names."""

    tab = "metrics"
    permissions: ClassVar = {}

    def chosen(self) -> tuple[Range, str]:
        chosen = RANGES.get(self.request.GET.get("range", ""), RANGES["1h"])
        return chosen, self.request.GET.get("deployment", "")[:32]

    def shown(self) -> dict[str, Any]:
        """Everything about the range up to now."""
        chosen, only = self.chosen()
        end = -(-int(time.time()) // chosen.step) * chosen.step
        start = end - chosen.seconds
        found = queries.series(endpoint=self.endpoint.pk, start=start, end=end, step=chosen.step)
        earlier = queries.totals(endpoint=self.endpoint.pk, start=start - chosen.seconds, end=start)
        existing = cards(deployments_of(self.endpoint))
        every = sorted({*filter(None, found.deployments), *(card.deployment.name for card in existing)})
        names = [name for name in every if only in {"", name}]
        mine = [card for card in existing if card.deployment.name in names]
        now = {name: _sum(steps) for name, steps in found.deployments.items()}
        return {
            "times": found.times,
            "step": chosen.step,
            "refresh": chosen.refresh,
            "names": every,
            "charts": charts.charts(found, names, whole=not only),
            "facts": charts.facts(
                charts.whole_of(now, names),
                charts.whole_of(earlier, names),
                ready=sum(card.ready for card in mine),
                wanted=sum(card.deployment.instance_count for card in mine),
                whole=not only,
            ),
            "markers": self.markers(start, end),
        }

    def markers(self, start: int, end: int) -> list[dict[str, Any]]:
        """What was done to the endpoint in the range, oldest first. What an earlier one of its name saw is not."""
        since = max(datetime.fromtimestamp(start, UTC), self.endpoint.created_at)
        until = datetime.fromtimestamp(end, UTC)
        operations: QuerySet[Operation] = operations_of(self.endpoint).filter(
            kind__in=MARKED, created_at__gte=since, created_at__lt=until
        )
        splits = AuditRecord.objects.filter(
            action=TRAFFIC,
            target=self.endpoint.topic,
            workspace=self.workspace.name,
            at__gte=since,
            at__lt=until,
        ).select_related("actor")
        found = [_operation_marker(each) for each in operations[:MOST_MARKERS]]
        found += [_traffic_marker(each) for each in splits[:MOST_MARKERS]]
        return sorted(found, key=lambda each: each["time"])[-MOST_MARKERS:]


class Metrics(MetricsPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        chosen, only = self.chosen()
        return self.page("endpoint_metrics", range=chosen, ranges=RANGES.values(), only=only, **self.shown())


class MetricsData(MetricsPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        return JsonResponse(self.shown(), headers={"Cache-Control": "no-store"})


class Counters(EndpointPage):
    """Counters that only grow, and a clock that does: whoever asks twice knows the rate between."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        at, live = kept_live(self.endpoint)
        if live is None:  # no error of the page: it shows that there is nothing to show, and asks again later
            return JsonResponse({"at": 0, "deployments": None}, headers={"Cache-Control": "no-store"})
        names = OnlineDeployment.objects.filter(endpoint=self.endpoint).values_list("name", flat=True)
        nothing = counters.Live(0, 0, 0)
        rows = {
            name: {"requests": each.requests, "errors": each.errors, "active": each.active}
            for name in names
            for each in [live.get(name, nothing)]
        }
        body = {"at": round(at, 3), "deployments": rows}
        return JsonResponse(body, headers={"Cache-Control": "no-store"})


@dataclass
class _Kept:
    """The last answer about one endpoint; `live` is None when the gateway did not answer."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = float("-inf")
    live: dict[str, counters.Live] | None = None


_kept: dict[tuple[Any, ...], _Kept] = {}
_kept_lock = threading.Lock()


def kept_live(endpoint: OnlineEndpoint) -> tuple[float, dict[str, counters.Live] | None]:
    """The counters and when they were read: once in `KEPT_S`, however many pages of this process ask."""
    mirrored = list(endpoint.mirror_traffic)
    key = (endpoint.pk, endpoint.name, *mirrored)
    with _kept_lock:
        if key not in _kept and len(_kept) >= MOST_KEPT:
            _kept.clear()
        mine = _kept.setdefault(key, _Kept())
    with mine.lock:
        if time.monotonic() - mine.at >= KEPT_S:
            try:
                mine.live = counters.live(endpoint.name, mirrored=mirrored)
            except Problem:
                mine.live = None
            mine.at = time.monotonic()
        return mine.at, mine.live


def _sum(steps: list[queries.Step]) -> queries.Step:
    whole = queries.Step()
    for step in steps:
        whole.join(step)
    return whole


def _operation_marker(operation: Operation) -> dict[str, Any]:
    name = operation.target.rsplit("/", 1)[-1]
    moment = operation.finished_at or operation.created_at
    who = operation.actor.username if operation.actor else ""
    return {
        "time": int(moment.timestamp()),
        "at": moment.isoformat(),
        "text": f"{kind_name(operation.kind)} {name}",
        "who": who,
        "tone": operation.tone,
        "word": str(operation.get_state_display()),
        "operation": str(operation.pk),
    }


def _traffic_marker(record: AuditRecord) -> dict[str, Any]:
    before, after = record.detail.get("before", {}), record.detail.get("after", {})
    moves = [
        f"{name} {before.get(name, 0)} → {after.get(name, 0)}"
        for name in sorted({*before, *after})
        if before.get(name, 0) != after.get(name, 0)
    ]
    moves += [
        _("mirror %(name)s %(share)s") % {"name": n, "share": p} for n, p in record.detail.get("mirror", {}).items()
    ]
    return {
        "time": int(record.at.timestamp()),
        "at": record.at.isoformat(),
        "text": f"{_('Traffic')}: {', '.join(moves) or _('unchanged')}",
        "who": record.actor.username if record.actor else "",
        "tone": "ok",
        "word": "",
        "operation": "",
    }

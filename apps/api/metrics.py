"""Metrics in the shape of Azure Monitor, under Azure's names (spec 9.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import arm
from apps.api.online import EndpointView
from apps.core.durations import duration, duration_ms
from apps.core.errors import Problem
from apps.endpoints.models import OnlineEndpoint
from apps.monitoring import queries
from apps.monitoring.latency import mean, percentile
from apps.monitoring.queries import Series, Step

HOUR_S = 3600
MOST_POINTS = 1500
MOST_DAYS = 31
FILTER = re.compile(r"\s*deployment\s+eq\s+'([^']{1,40})'\s*", re.IGNORECASE)
Value = Callable[[Step], float | None]


@dataclass(frozen=True)
class Metric:
    """`split`: told per deployment only, as Azure has it on the deployment and not on the endpoint."""

    unit: str
    values: dict[str, Value]
    split: bool = False
    dimension: str = ""


def _per_minute(step: Step) -> float | None:
    rate = step.rate("requests")
    return None if rate is None else rate * 60


def _latency(share: float) -> Metric:
    return Metric("MilliSeconds", {"": lambda step: percentile(step.bins, share)})


def _missing(step: Step) -> float | None:
    ready, desired = step.gauges["ready"], step.gauges["desired"]
    return None if ready is None or desired is None else max(0, desired - ready)


METRICS = {
    "RequestsPerMinute": Metric("Count", {"": _per_minute}),
    "RequestLatency": Metric("MilliSeconds", {"": lambda step: mean(step.bins)}),
    "RequestLatency_P50": _latency(0.50),
    "RequestLatency_P90": _latency(0.90),
    "RequestLatency_P95": _latency(0.95),
    "RequestLatency_P99": _latency(0.99),
    "CpuUtilizationPercentage": Metric("Percent", {"": lambda step: step.cpu_percent}, split=True),
    "CpuMemoryUtilizationPercentage": Metric(
        "Percent", {"": lambda step: step.ratio("mem_bytes", "mem_limit")}, split=True
    ),
    "DeploymentCapacity": Metric(
        "Count", {"Ready": lambda step: step.gauges["ready"], "NotReady": _missing}, split=True, dimension="State"
    ),
}
PARAMETERS = [
    OpenApiParameter("metricnames", str, description=f"Separated by commas; all when absent: {', '.join(METRICS)}."),
    OpenApiParameter("timespan", str, description="Start and end as ISO 8601: `start/end`. The last hour when absent."),
    OpenApiParameter("interval", str, description="Length of a step, e.g. `PT1M`, the default; 10 seconds or more."),
    OpenApiParameter("aggregation", str, description="`average`, the only one there is."),
    OpenApiParameter("$filter", str, description="`deployment eq '*'` splits by deployment; a name picks one."),
]


class Metrics(EndpointView):
    @extend_schema(parameters=PARAMETERS, responses=OpenApiTypes.OBJECT)
    def get(self, request: Request, endpoint: str, **_: Any) -> Response:
        """Requests, latency and what instances use, over time. Times without samples have no value."""
        found = self.endpoint(endpoint)
        names = _names(request.query_params.get("metricnames", ""))
        start, end = _span(request.query_params.get("timespan", ""))
        step = _step(request.query_params.get("interval", "PT1M"), end - start)
        if request.query_params.get("aggregation", "average").lower() != "average":
            raise _bad("aggregation", "must be average")
        wanted = _wanted(request.query_params.get("$filter", ""))
        series = queries.series(endpoint=found.pk, start=start, end=end, step=step)
        return Response(
            {
                "cost": 0,
                "timespan": f"{_iso(start)}/{_iso(end)}",
                "interval": duration(step * 1000),
                "namespace": f"{arm.PROVIDER}/workspaces/onlineEndpoints",
                "resourceregion": "local",
                "value": [_metric(found, name, series, wanted) for name in names],
            }
        )


def _names(text: str) -> list[str]:
    known = {name.lower(): name for name in METRICS}
    asked = [name.strip() for name in text.split(",") if name.strip()] or list(METRICS)
    unknown = [name for name in asked if name.lower() not in known]
    if unknown:
        raise _bad("metricnames", f"there is no {unknown[0][:60]!r}; the names are {', '.join(METRICS)}")
    return list(dict.fromkeys(known[name.lower()] for name in asked))


def _span(text: str) -> tuple[int, int]:
    if not text:
        now = int(timezone.now().timestamp())
        return now - HOUR_S, now
    first, _, last = text.replace(" ", "+").partition("/")
    start, end = _moment(first), _moment(last)
    if not 0 < end - start <= MOST_DAYS * 24 * HOUR_S:
        raise _bad("timespan", f"must be start/end, the end after the start and at most {MOST_DAYS} days later")
    return start, end


def _moment(text: str) -> int:
    try:
        found = parse_datetime(text)
        if found is not None:
            return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        pass
    raise _bad("timespan", f"{text[:40]!r} is not a time such as 2026-03-01T12:00:00Z")


def _step(text: str, span: int) -> int:
    step = duration_ms(text, "interval") // 1000
    if step < 10 or span / step > MOST_POINTS:  # noqa: PLR2004 -- as fine as samples are
        raise _bad("interval", f"must be 10 seconds or more and give at most {MOST_POINTS} values")
    return step


def _wanted(text: str) -> str | None:
    """The deployment to show, "*" for each by itself, None for all together."""
    if not text:
        return None
    match = FILTER.fullmatch(text)
    if match is None:
        raise _bad("$filter", "must be deployment eq '<name>', or '*' for each")
    return match[1]


def _metric(endpoint: OnlineEndpoint, name: str, series: Series, wanted: str | None) -> dict[str, Any]:
    metric = METRICS[name]
    own = sorted(filter(None, series.deployments))
    if wanted is None and not metric.split:
        shown: Iterable[tuple[str, list[Step]]] = [("", series.together(own))]
    else:
        shown = [(each, series.deployments[each]) for each in own if wanted in {None, "*", each}]
    path = f"onlineEndpoints/{endpoint.name}/providers/Microsoft.Insights/metrics/{name}"
    return {
        "id": f"{endpoint.workspace.arm_id}/{path}",
        "type": "Microsoft.Insights/metrics",
        "name": {"value": name, "localizedValue": name},
        "unit": metric.unit,
        "timeseries": [
            _timeseries(series, metric, steps, deployment, state)
            for deployment, steps in shown
            for state in metric.values
        ],
        "errorCode": "Success",
    }


def _timeseries(series: Series, metric: Metric, steps: list[Step], deployment: str, state: str) -> dict[str, Any]:
    labels = {"deployment": deployment, metric.dimension: state}
    value = metric.values[state]
    return {
        "metadatavalues": [
            {"name": {"value": key, "localizedValue": key}, "value": label} for key, label in labels.items() if label
        ],
        "data": [_point(time, value(step)) for time, step in zip(series.times, steps, strict=True)],
    }


def _point(time: int, value: float | None) -> dict[str, Any]:
    return {"timeStamp": _iso(time), **({} if value is None else {"average": round(value, 4)})}


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bad(field: str, reason: str) -> Problem:
    return Problem("bad-field", field=field, reason=reason, target=field)

"""What the metrics page draws: lines, legends, tables and facts, ready to be shown. Numbers become text only here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.monitoring import queries
from apps.monitoring.latency import Bins, merge, percentile
from apps.monitoring.queries import Series, Step, Values
from apps.studio.templatetags.studio import hue

TABLE_ROWS = 24
MINUTE, DAY = 60, 86_400
Read = Callable[[Step], float | None]


@dataclass(frozen=True)
class Range:
    """`refresh`: how often the page asks again, in seconds."""

    name: str
    label: Any
    seconds: int
    step: int

    @property
    def refresh(self) -> int:
        return max(10, min(300, self.step // 2))


RANGES = {
    each.name: each
    for each in (
        Range("15m", gettext_lazy("15 minutes"), 900, 10),
        Range("1h", gettext_lazy("1 hour"), 3_600, 10),
        Range("6h", gettext_lazy("6 hours"), 21_600, 60),
        Range("24h", gettext_lazy("24 hours"), DAY, 300),
        Range("7d", gettext_lazy("7 days"), 7 * DAY, 1_800),
        Range("30d", gettext_lazy("30 days"), 30 * DAY, 7_200),
    )
}


# ---- numbers as people read them


def number(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001 -- the sign for "nothing" on every page
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004


def count(value: float | None) -> str:
    return f"{value:.0f}" if value is not None and value == int(value) else number(value)


def milliseconds(value: float | None) -> str:
    return f"{number(value / 1000)} s" if value and value >= 1000 else _unit(value, "ms")  # noqa: PLR2004


def size(value: float | None) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value is None or abs(value) < 1024:  # noqa: PLR2004
            return _unit(value, unit)
        value /= 1024
    return _unit(value, "GiB")


def _unit(value: float | None, unit: str) -> str:
    return number(value) if value is None else f"{number(value)} {unit}"


def _per_second(value: float | None) -> str:
    return _unit(value, "/s")


def _percent(value: float | None) -> str:
    return _unit(value, "%")


# ---- charts


@dataclass(frozen=True)
class Line:
    """`colour` is the name of a CSS variable; `more` is a further cell of the legend."""

    label: str
    colour: str
    values: Values
    dash: bool = False
    more: str = ""


def chart(
    name: str,
    title: str,
    unit: str,
    text: Callable[[float | None], str],
    lines: list[Line],
    *,
    times: list[int],
    more: str = "",
) -> dict[str, Any]:
    """One card. `lines` with their legend, and `rows`: a table of the same for those who do not see the chart."""
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "more": more,
        "lines": [
            {
                "label": line.label,
                "colour": line.colour,
                "dash": line.dash,
                "values": [None if value is None else round(value, 4) for value in line.values],
                "cells": _cells(line, text, more=bool(more)),
            }
            for line in lines
        ],
        "rows": _rows(times, lines, text),
    }


def _cells(line: Line, text: Callable[[float | None], str], *, more: bool) -> list[str]:
    known = [value for value in line.values if value is not None]
    mean = sum(known) / len(known) if known else None
    cells = [text(known[-1] if known else None), text(mean), text(max(known, default=None))]
    return [*cells, line.more] if more else cells


def _rows(times: list[int], lines: list[Line], text: Callable[[float | None], str]) -> list[list[str]]:
    """The chart in at most 24 rows of means, newest first."""
    width = max(1, -(-len(times) // TABLE_ROWS))
    rows = []
    for start in range(0, len(times), width):
        cells = []
        for line in lines:
            known = [value for value in line.values[start : start + width] if value is not None]
            cells.append(text(sum(known) / len(known) if known else None))
        rows.append([_clock(times[start], long=times[-1] - times[0] > DAY), *cells])
    return rows[::-1]


def _clock(seconds: int, *, long: bool) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m-%d %H:%M" if long else "%H:%M:%S")


def charts(series: Series, names: list[str], *, whole: bool) -> list[dict[str, Any]]:
    """Every card of the page, for these deployments; `whole` adds what the gateway answered for none of them."""
    nothing = [Step() for _time in series.times]
    own = {name: series.deployments.get(name, nothing) for name in names}
    together = series.together([*names, ""] if whole else names)

    def each(read: Read) -> list[Line]:
        return [Line(name, f"hue-{hue(name)}", [read(step) for step in steps]) for name, steps in own.items()]

    requests = each(lambda step: step.rate("requests"))
    if whole and any(step.counts["requests"] for step in series.deployments.get("", [])):
        refused = [
            part.counts["requests"] / series.step if all_.seconds else None
            for part, all_ in zip(series.deployments[""], together, strict=True)
        ]
        requests.append(Line(_("refused by the gateway"), "idle", refused))
    times = series.times
    return [
        chart("requests", _("Requests per second"), "rate", _per_second, requests, times=times),
        chart("statuses", _("Status classes"), "rate", _per_second, _statuses(together), times=times),
        chart("latency", _("Latency"), "ms", milliseconds, _latency(together), times=times),
        chart("replicas", _("Instances ready"), "count", count, _replicas(own), times=times),
        chart(
            "cpu",
            _("CPU in cores"),
            "cores",
            number,
            _used(own, lambda step: step.cores, lambda step: step.cpu_percent),
            times=times,
            more=_("of limit"),
        ),
        chart(
            "memory",
            _("Memory"),
            "bytes",
            size,
            _used(own, lambda step: step.gauges["mem_bytes"], lambda step: step.ratio("mem_bytes", "mem_limit")),
            times=times,
            more=_("of limit"),
        ),
    ]


def _statuses(steps: list[Step]) -> list[Line]:
    def rate(name: str) -> Values:
        return [step.rate(name) for step in steps]

    other = [None if not step.seconds else (step.counts["status_4xx"] - _named(step)) / step.seconds for step in steps]
    lines = [
        Line("2xx", "ok", rate("status_2xx")),
        Line("3xx", "running", rate("status_3xx")),
        Line(_("408 timeout"), "hue-6", rate("timeouts")),
        Line(_("424 model error"), "hue-5", rate("model_errors")),
        Line(_("429 throttled"), "hue-4", rate("throttled")),
        Line(_("other 4xx"), "degraded", other),
        Line("5xx", "failed", rate("status_5xx")),
    ]
    return [line for line in lines if line.label in {"2xx", "5xx"} or any(line.values)]


def _named(step: Step) -> float:
    return step.counts["timeouts"] + step.counts["model_errors"] + step.counts["throttled"]


def _latency(steps: list[Step]) -> list[Line]:
    colours = {"p50": "idle", "p90": "running", "p95": "primary", "p99": "degraded"}
    return [Line(name, colours[name], values) for name, values in queries.latency(steps).items()]


def _replicas(own: dict[str, list[Step]]) -> list[Line]:
    lines = []
    for name, steps in own.items():
        ready, wanted = ([step.gauges[kind] for step in steps] for kind in ("ready", "desired"))
        lines.append(Line(name, f"hue-{hue(name)}", list(ready)))
        if ready != wanted:
            label = _("%(name)s wanted") % {"name": name}
            lines.append(Line(label, f"hue-{hue(name)}", list(wanted), dash=True))
    return lines


def _used(own: dict[str, list[Step]], read: Read, part: Read) -> list[Line]:
    return [
        Line(name, f"hue-{hue(name)}", [read(step) for step in steps], more=_percent(_last(map(part, steps))))
        for name, steps in own.items()
    ]


def _last(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return known[-1] if known else None


# ---- facts


@dataclass(frozen=True)
class Whole:
    """A range in numbers."""

    requests: float
    errors: float
    refused: float
    bins: Bins
    sampled: bool

    @property
    def error_percent(self) -> float | None:
        return 100 * self.errors / self.requests if self.requests else None


def whole_of(steps: dict[str, Step], names: list[str]) -> Whole:
    bins: Bins = {}
    mine = [steps[name] for name in names if name in steps]
    for step in mine:
        merge(bins, step.bins)
    return Whole(
        requests=sum(step.counts["requests"] for step in mine),
        errors=sum(step.counts["status_4xx"] + step.counts["status_5xx"] for step in mine),
        refused=steps[""].counts["requests"] if "" in steps else 0,
        bins=bins,
        sampled=any(step.seconds for step in mine),
    )


def facts(now: Whole, before: Whole, *, ready: int, wanted: int, whole: bool) -> list[dict[str, str]]:
    """The numbers on top, each with what it was in the range before."""
    p95, p95_before = percentile(now.bins, 0.95), percentile(before.bins, 0.95)
    refused = _("%(count)s more refused by the gateway") % {"count": f"{round(now.refused):,}"}
    return [
        _fact(
            "requests",
            _("Requests"),
            f"{round(now.requests):,}",
            f"{round(before.requests):,}" if before.sampled else "",
            refused if whole and round(now.refused) else "",
        ),
        _fact(
            "errors", _("Errors"), _percent(now.error_percent), _percent(before.error_percent) if before.sampled else ""
        ),
        _fact("p95", _("Latency p95"), milliseconds(p95), milliseconds(p95_before) if before.sampled else ""),
        _fact("ready", _("Instances ready"), f"{ready} / {wanted}", "", _("now")),
    ]


def _fact(name: str, label: str, value: str, before: str, note: str = "") -> dict[str, str]:
    was = _("%(value)s in the range before") % {"value": before} if before else ""
    return {"name": name, "label": label, "value": value, "note": " · ".join(filter(None, (was, note)))}

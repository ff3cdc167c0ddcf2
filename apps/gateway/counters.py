"""What the gateway counted since it started, from Envoy's admin socket: of everything, or of one endpoint."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from django.conf import settings

from apps.core.errors import Problem
from apps.gateway.admin import Admin, AdminDown
from apps.gateway.envoy.statistics import PREFIX, REQUESTS, TOOK
from apps.gateway.envoy.types import cluster_name
from apps.monitoring.latency import Bins, bin_of

REQUEST = re.compile(rf"{PREFIX}\.{REQUESTS}\.endpoint\.([^.]*)\.cluster\.([^.]*)\.code\.(\d+)\.flags\.([^.]*)")
LATENCY = re.compile(rf"{PREFIX}\.{TOOK}\.cluster\.([^.]+)")
CLUSTER = re.compile(r"cluster\.([^.]+)\.upstream_rq_(active|time|\d+)")
DEPLOYMENT = re.compile(r"dep__([^.]+?)__([^.]+?)(?:__grpc)?")  # calls by gRPC count with the others
REACHED_CODES = {408, 424, 429}  # the 4xx a deployment can be the cause of; every other one is the gateway's own
CLIENT_ERROR, SERVER_ERROR = 400, 500
MODEL_ERROR = 424
MOST_NAMED = 200  # mirror targets named in the filter; with more, all clusters are asked for
SCRAPE_S = 5.0
LIVE_S = 1.0

Key = tuple[str, str]


@dataclass
class Counted:
    """One deployment, or with the name "" what the gateway answered for an endpoint without one. All since its start.

    `copies` are mirrored requests and the model's own statuses, counted only where asked for.
    """

    codes: dict[int, int] = field(default_factory=dict)
    latency: Bins = field(default_factory=dict)
    active: int = 0
    copies: dict[int, int] = field(default_factory=dict)
    copy_latency: Bins = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(self.codes.values())

    @property
    def errors(self) -> int:
        return sum(count for code, count in self.codes.items() if not code or code >= CLIENT_ERROR)


@dataclass(frozen=True)
class Scrape:
    """`epoch` names the run of Envoy that counted, `since` is when it began, in seconds since 1970."""

    epoch: str
    since: float
    at: float
    counted: dict[Key, Counted]


@dataclass(frozen=True)
class Live:
    """Of one deployment, for a page that asks every second."""

    requests: int
    errors: int
    active: int


def scrape(mirrored: list[Key]) -> Scrape | None:
    """Every endpoint's counters in one call; None while the gateway is away. `mirrored`: whose copies to count too."""
    admin = Admin(settings.HOME.envoy_admin_socket, SCRAPE_S)
    wanted = rf"^{PREFIX}\.|^cluster\.dep__[^.]*\.upstream_rq_active$"
    if mirrored:
        names = "|".join(cluster_name(*key) for key in mirrored) if len(mirrored) <= MOST_NAMED else r"dep__[^.]*"
        wanted += rf"|^cluster\.({names})\.upstream_rq_(time|[0-9]+)$"
    before = _run_of(settings.HOME.envoy_admin_socket)
    try:
        text = admin.get(f"/stats?usedonly&histogram_buckets=detailed&filter={quote(wanted)}")
    except AdminDown:
        return None
    if before is None or before != _run_of(settings.HOME.envoy_admin_socket):
        return None  # it started again meanwhile: whose counters these are nobody can say
    return Scrape(epoch=before[0], since=before[1], at=time.time(), counted=parse(text))


def live(endpoint: str, *, mirrored: list[str]) -> dict[str, Live]:
    """The counters of one endpoint's deployments. `mirrored`: those that get copies, which are counted instead.

    Raises:
        Problem: "unavailable" when the gateway does not answer.
    """
    admin = Admin(settings.HOME.envoy_admin_socket, LIVE_S)
    name = re.escape(endpoint)
    counters = rf"^{PREFIX}\.{REQUESTS}\.endpoint\.{name}\.|^cluster\.dep__{name}__[^.]*\.upstream_rq_[0-9]+$"
    gauges = rf"^cluster\.dep__{name}__[^.]*\.upstream_rq_active$"
    try:  # two calls: one for all kinds would make Envoy sort every histogram it has
        text = admin.get(f"/stats?usedonly&type=Counters&filter={quote(counters)}")
        text += admin.get(f"/stats?type=Gauges&filter={quote(gauges)}")
    except AdminDown:
        raise Problem("unavailable", what="The gateway") from None
    found = {}
    for (_, deployment), counted in parse(text).items():
        if deployment:
            shown = Counted(counted.copies) if deployment in mirrored else counted
            found[deployment] = Live(shown.requests, shown.errors, counted.active)
    return found


def parse(text: str) -> dict[Key, Counted]:
    """Envoy's text: `name: value`, or for a histogram `name:` and below it `  totals=lower,width:count, …`."""
    found: dict[Key, Counted] = {}
    histogram = ""
    for line in text.splitlines():
        if line.startswith("  "):
            if histogram and line.startswith("  totals="):
                _latency(found, histogram, line.removeprefix("  totals="))
            continue
        name, _, value = line.partition(":")
        histogram = ""
        if not value:
            histogram = name
        elif match := REQUEST.fullmatch(name):
            _request(found, match, int(value))
        elif match := CLUSTER.fullmatch(name):
            _cluster(found, match, int(value))
    return found


def _request(found: dict[Key, Counted], match: re.Match[str], count: int) -> None:
    endpoint, cluster, code, flags = match[1], match[2], int(match[3]), match[4]
    if not endpoint:
        return
    target = DEPLOYMENT.fullmatch(cluster)
    own = CLIENT_ERROR <= code < SERVER_ERROR and code not in REACHED_CODES
    reached = target is not None and not own and "RL" not in flags.split(",")
    counted = found.setdefault((endpoint, target[2] if target and reached else ""), Counted())
    counted.codes[code] = counted.codes.get(code, 0) + count


def _cluster(found: dict[Key, Counted], match: re.Match[str], value: int) -> None:
    target, stat = DEPLOYMENT.fullmatch(match[1]), match[2]
    if target is None or not (stat == "active" or stat.isdigit()):
        return
    counted = found.setdefault((target[1], target[2]), Counted())
    if stat == "active":
        counted.active += value
    else:
        code = int(stat) if int(stat) < CLIENT_ERROR else MODEL_ERROR
        counted.copies[code] = counted.copies.get(code, 0) + value


def _latency(found: dict[Key, Counted], name: str, totals: str) -> None:
    match = LATENCY.fullmatch(name) or CLUSTER.fullmatch(name)
    target = DEPLOYMENT.fullmatch(match[1]) if match else None
    if target is None:
        return
    counted = found.setdefault((target[1], target[2]), Counted())
    ours = name.startswith(PREFIX)
    bins, scale = (counted.latency, 1) if ours else (counted.copy_latency, 1000)  # Envoy's own are milliseconds
    for part in totals.split(", "):
        place, _, count = part.rpartition(":")
        index = bin_of(float(place.partition(",")[0]) * scale)
        bins[index] = bins.get(index, 0) + int(count)


def _run_of(socket: Path) -> tuple[str, float] | None:
    """Envoy makes its admin socket anew at each start: inode and time tell its runs apart without asking it."""
    try:
        stat = socket.stat()
    except OSError:
        return None
    return f"{stat.st_ino}:{stat.st_mtime_ns}", stat.st_mtime

"""Envoy's admin interface: a very small HTTP client for a unix socket. Every call has a deadline."""

import http.client
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from apps.core.unixhttp import UnixConnection

DEFAULT_TIMEOUT_S = 2.0
OK = 200
ANSWER_MAX = 256 * 1024 * 1024
CLUSTERS = r"^cluster\.(dep__[^.]*|web|mlflow)\."


class AdminDown(Exception):  # noqa: N818  it is a state of affairs, reads better so
    """Envoy does not answer on its admin socket."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; `None` while nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterStats:
    """What pages show of one cluster. Counters count since Envoy's start; `recent` is its last flush interval (5 s)."""

    name: str
    endpoint: str | None
    deployment: str | None
    requests: int = 0
    status_2xx: int = 0
    status_4xx: int = 0
    status_5xx: int = 0
    active: int = 0
    pending: int = 0
    overflow: int = 0
    timeouts: int = 0
    retries: int = 0
    connect_failures: int = 0
    healthy: int = 0
    total: int = 0
    latency: Latency = Latency()
    recent: Latency = Latency()


FIELDS = {
    "upstream_rq_total": "requests",
    "upstream_rq_2xx": "status_2xx",
    "upstream_rq_4xx": "status_4xx",
    "upstream_rq_5xx": "status_5xx",
    "upstream_rq_active": "active",
    "upstream_rq_pending_active": "pending",
    "upstream_rq_pending_overflow": "overflow",
    "upstream_rq_timeout": "timeouts",
    "upstream_rq_retry": "retries",
    "upstream_cx_connect_fail": "connect_failures",
    "membership_healthy": "healthy",
    "membership_total": "total",
}


class Admin:
    """`get` and `post` answer the body, or raise AdminDown."""

    def __init__(self, path: Path, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def get(self, target: str) -> str:
        return self._call("GET", target)

    def post(self, target: str) -> str:
        return self._call("POST", target)

    def ready(self) -> bool:
        try:
            return self.get("/ready").strip() == "LIVE"
        except AdminDown:
            return False

    def reopen_logs(self) -> None:
        """After a rotation by rename."""
        self.post("/reopen_logs")

    def values(self, pattern: str) -> dict[str, str]:
        """Counters, gauges and texts whose name matches, as Envoy writes them."""
        lines = self.get(f"/stats?filter={quote(pattern)}").splitlines()
        pairs = (line.split(": ", 1) for line in lines if ": " in line)
        return {name: value.strip('"') for name, value in pairs}

    def cluster_stats(self) -> dict[str, ClusterStats]:
        answer = self.get(f"/stats?format=json&filter={quote(CLUSTERS)}")
        fields: dict[str, dict[str, Any]] = {}
        for item in json.loads(answer)["stats"]:
            if "histograms" in item:
                _quantiles(item["histograms"], fields)
                continue
            cluster, stat = item["name"].removeprefix("cluster.").rsplit(".", 1)
            if stat in FIELDS:
                fields.setdefault(cluster, {})[FIELDS[stat]] = item["value"]
        return {name: _cluster(name, values) for name, values in fields.items()}

    def _call(self, method: str, target: str) -> str:
        connection = UnixConnection(self._path, timeout=self._timeout_s)
        deadline = time.monotonic() + self._timeout_s
        try:
            connection.request(method, target)
            response = connection.getresponse()
            body = bytearray()
            while chunk := response.read1(1 << 20):
                body += chunk
                if time.monotonic() > deadline or len(body) > ANSWER_MAX:
                    raise AdminDown(f"Envoy's answer to {target} took too long.")
        except (OSError, http.client.HTTPException) as problem:
            raise AdminDown(f"Envoy does not answer on {self._path}: {problem}") from problem
        finally:
            connection.close()
        if response.status != OK and target != "/ready":
            raise AdminDown(f"Envoy answered {response.status} to {method} {target}.")
        return body.decode(errors="replace")


def _quantiles(histograms: dict[str, Any], fields: dict[str, dict[str, Any]]) -> None:
    wanted = [round(quantile, 3) for quantile in histograms.get("supported_quantiles", [])]
    for histogram in histograms.get("computed_quantiles", []):
        cluster, stat = histogram["name"].removeprefix("cluster.").rsplit(".", 1)
        if stat != "upstream_rq_time":
            continue
        by_quantile = dict(zip(wanted, histogram["values"], strict=False))
        for kind, name in (("cumulative", "latency"), ("interval", "recent")):
            picked = (by_quantile.get(quantile, {}).get(kind) for quantile in (50, 95, 99))
            fields.setdefault(cluster, {})[name] = Latency(*picked)


def _cluster(name: str, values: dict[str, Any]) -> ClusterStats:
    endpoint, deployment = None, None
    if name.startswith("dep__"):
        _, endpoint, deployment, *_ = name.split("__")
    return ClusterStats(name=name, endpoint=endpoint, deployment=deployment, **values)

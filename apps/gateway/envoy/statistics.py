"""Counters per endpoint, deployment and status as clients met them, which Envoy's own counters do not tell.

A cluster's counters hold the model's status and not the 424 made of it, call a full queue 503, and know nothing of
calls that were refused before a deployment was reached. Every tag is a name of ours or of Envoy's: no caller adds one.
"""

from apps.gateway.envoy.types import NAMESPACE, Json, typed

PREFIX = "portway"
REQUESTS, TOOK = "requests", "took"
# no sharing_name: Envoy 1.40 crashes at its end with one. Counters of one name are one counter without it.
SCOPE = {"prefix": PREFIX, "max_counters": {"value": 200_000}, "max_histograms": {"value": 20_000}}


def statistics() -> list[Json]:
    """Two access loggers that write no log: how many requests of each status, and how long the answered ones took."""
    cluster = _tag("cluster", "%UPSTREAM_CLUSTER_RAW%")
    tags = [
        _tag("endpoint", f"%METADATA(ROUTE:{NAMESPACE}:endpoint)%"),
        cluster,
        _tag("code", "%RESPONSE_CODE%"),
        _tag("flags", "%RESPONSE_FLAGS%"),
    ]
    requests = {"stat": {"name": REQUESTS, "tags": tags}, "value_fixed": 1}
    took = {
        "stat": {"name": TOOK, "tags": [cluster]},
        "unit": "Microseconds",
        "value_format": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    }
    return [_logger(counters=[requests]), {**_logger(histograms=[took]), "filter": _answered()}]


def _answered() -> Json:
    """What a model answered, or was too slow for. Refusals, which take no time, would make it look fast."""
    success = {"and_filter": {"filters": [_status("GE", 200), _status("LE", 399)]}}
    return {"or_filter": {"filters": [success, _status("EQ", 424), _status("EQ", 408)]}}


def _status(op: str, status: int) -> Json:
    value = {"default_value": status, "runtime_key": f"portway.unused.{op.lower()}{status}"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _logger(**stats: list[Json]) -> Json:
    config = typed("envoy.extensions.access_loggers.stats.v3.Config", stats_scope=SCOPE, **stats)
    return {"name": "envoy.access_loggers.stats", "typed_config": config}


def _tag(name: str, value: str) -> Json:
    return {"name": name, "value_format": value}

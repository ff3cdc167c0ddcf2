"""CDS and RTDS: where replicas are, how many requests each takes, how many may wait."""

from collections.abc import Iterable

from apps.gateway.envoy.types import (
    Address,
    Deployment,
    Endpoint,
    Front,
    Json,
    all_clusters,
    cluster_name,
    grpc_cluster_name,
    parse_address,
    typed,
)

UNBOUNDED = 100_000
MANY_RETRIES = 1_000
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
LONGEST_CHECK_S = 10
WEB_IDLE = "20s"
GRPC_IDLE = "60s"
# 2,000 checks a second cost 9 % of a core. Coarse steps, since a changed interval rebuilds every cluster.
CHECK_STEPS = ((5_000, "5s"), (2_000, "2s"))


def render_clusters(front: Front, endpoints: Iterable[Endpoint]) -> list[Json]:
    pairs = all_clusters(endpoints)
    replicas = sum(len(deployment.replicas) for _, deployment in pairs)
    interval = next((step for limit, step in CHECK_STEPS if replicas > limit), "1s")
    return [
        *(_http(cluster_name(endpoint.name, d.name), d, interval) for endpoint, d in pairs),
        *(_grpc(grpc_cluster_name(endpoint.name, d.name), d, interval) for endpoint, d in pairs if d.grpc_replicas),
        _site("web", parse_address(front.web)),
        _site("mlflow", parse_address(front.mlflow)),
    ]


def render_limits(endpoints: Iterable[Endpoint]) -> list[Json]:
    """Queue lengths as runtime values: they change with every scale-out and must not rebuild a cluster."""
    layer = {
        f"circuit_breakers.{cluster_name(e.name, d.name)}.default.max_pending_requests": d.queue
        for e, d in all_clusters(endpoints)
    }
    return [typed("envoy.service.runtime.v3.Runtime", name="limits", layer=layer)]


def _deployment(name: str, deployment: Deployment, replicas: tuple[str, ...], ready_port: int | None) -> Json:
    return {
        **_base(name, [parse_address(replica) for replica in replicas], ready_port),
        "connect_timeout": "1s",
        "load_balancing_policy": {"policies": [{"typed_extension_config": _least_busy()}]},
        "ignore_health_on_host_removal": True,
        # by default dead replicas get traffic once half are dead, and health reaches the workers once a second at most
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "outlier_detection": _outlier(deployment),
    }


def _http(name: str, deployment: Deployment, interval: str) -> Json:
    return {
        **_deployment(name, deployment, deployment.replicas, deployment.ready_port),
        "health_checks": [_ready(deployment, interval, {"http_health_check": {"path": deployment.ready_path}})],
        "circuit_breakers": {
            # HTTP/1.1: one connection is one request in flight
            "per_host_thresholds": [{"max_connections": deployment.concurrency}],
            # the real queue length comes by RTDS; this one counts only until it has arrived
            "thresholds": [_thresholds(max_pending_requests=deployment.concurrency)],
        },
        **_protocol({"http_protocol_options": {}}, f"{deployment.idle_timeout_s:.3f}s"),
    }


def _grpc(name: str, deployment: Deployment, interval: str) -> Json:
    slots = deployment.queue
    return {
        **_deployment(name, deployment, deployment.grpc_replicas, None),
        "health_checks": [_ready(deployment, interval, {"tcp_health_check": {}})],
        "circuit_breakers": {"thresholds": [_thresholds(max_requests=slots, max_pending_requests=slots)]},
        **_protocol({"http2_protocol_options": {}}, GRPC_IDLE),
    }


def _site(name: str, address: Address) -> Json:
    return {
        **_base(name, [address]),
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [_thresholds(max_pending_requests=10_000)]},
        **_protocol({"http_protocol_options": {}}, WEB_IDLE),
    }


def _base(name: str, addresses: list[Address], ready_port: int | None = None) -> Json:
    asked = {"health_check_config": {"port_value": ready_port}} if ready_port is not None else {}
    hosts = [{"endpoint": {"address": address.render(), **asked}} for address in addresses]
    return typed(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="STRICT_DNS" if any(address.named for address in addresses) else "STATIC",
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    )


def _least_busy() -> Json:
    """The least busy of three drawn by lot.

    Of all would be fairer, but a dead replica is the least busy of all, and a retry must be able to draw another one.
    """
    kind = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    return {"name": "envoy.load_balancing_policies.least_request", "typed_config": typed(kind, choice_count=3)}


def _thresholds(**limits: int) -> Json:
    """Only unbegun requests are retried; the default of 3 at once would still turn a dead replica into errors."""
    return {"max_connections": UNBOUNDED, "max_requests": UNBOUNDED, "max_retries": MANY_RETRIES, **limits}


def _protocol(options: Json, idle: str) -> Json:
    fields = {"explicit_http_config": options, "common_http_protocol_options": {"idle_timeout": idle}}
    return {"typed_extension_protocol_options": {HTTP_OPTIONS: typed(HTTP_OPTIONS, **fields)}}


def _ready(deployment: Deployment, interval: str, probe: Json) -> Json:
    """A busy single-threaded model answers its check only after the request at hand: give it that long."""
    seconds = min(LONGEST_CHECK_S, max(1.0, deployment.request_timeout_ms / 1000))
    return {
        "timeout": f"{seconds:.3f}s",
        "interval": interval,
        "no_traffic_interval": interval,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "initial_jitter": "0.010s",
        **probe,
    }


def _outlier(deployment: Deployment) -> Json:
    """Connection trouble ejects a replica; a model that answers 500, or is slow, keeps its place.

    A route timeout counts as local trouble, and a fresh request resets the count: with C in flight C time-outs can come
    in a row without anything being wrong with the connection.
    """
    return {
        "consecutive_5xx": 0,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": max(3, deployment.concurrency + 1),
        "base_ejection_time": "5s",
        "max_ejection_percent": 100,
        "interval": "1s",
    }

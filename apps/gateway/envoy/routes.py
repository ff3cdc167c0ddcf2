"""RDS: a tree over path prefixes, a short route list per endpoint. The longest prefix wins, in a list the order."""

from collections.abc import Iterable

from apps.gateway.envoy.filters import (
    MODEL_ERROR,
    asked_filters,
    endpoint_filters,
    endpoint_rates,
    open_filters,
    site_filters,
)
from apps.gateway.envoy.listeners import PRIVATE, PUBLIC
from apps.gateway.envoy.replies import OWN
from apps.gateway.envoy.types import (
    AUTH_NAMES,
    MEBIBYTE,
    NAMESPACE,
    Deployment,
    Endpoint,
    Front,
    Json,
    cluster_name,
    grpc_cluster_name,
    typed,
)

PICK = "azureml-model-deployment"
PICK_ENDPOINT = "azureml-endpoint"
SESSION = "azureml-model-session"
STREAM_IDLE = "300s"
SITE_IDLE = "3600s"
SITE_BODY_LIMIT = 10 * MEBIBYTE
BLOB_BODY_LIMIT = 128 * MEBIBYTE  # the SDK sends up to 64 MiB at once
BLOBS = "/storage\\.blob\\.[^/]+/.+"
UPLOADS = {  # several short patterns: Envoy refuses one long one
    "upload": "(?i)/api/v1/workspaces/[^/]+/uploads/?",
    "upload-arm": "(?i)/subscriptions/.+/uploads/?",
    "upload-new": "/w/[^/]+/create/(model|data|job|deployment|component)",
    "upload-context": "/w/[^/]+/create/environment/from-dockerfile",
    "upload-package": "/w/[^/]+/models/[^/]+/package",
    "upload-code": "/w/[^/]+/endpoints/[^/]+/deployments/[^/]+/edit",
    "upload-batch-code": "/w/[^/]+/batch-endpoints/[^/]+/(deploy|deployments/[^/]+/edit)",
    "blob": BLOBS,
}
INT64_MAX = 2**63 - 1

NO_ENDPOINT = (
    "No endpoint of this name answers here. Scoring addresses read /e/<endpoint>/score; "
    "the endpoint's page and the scoringUri of the API show the exact one."
)
NO_DEPLOYMENT = "The endpoint has no deployment of the name given in the azureml-model-deployment header."
NO_TRAFFIC = (
    "No deployment has traffic. Give one a share above 0 %, or name one in the azureml-model-deployment header."
)
NO_PAGE = "There is nothing at this address."


def render_routes(front: Front, endpoints: Iterable[Endpoint]) -> dict[str, Json]:
    """The public table and, when there is a private door, the private one. An endpoint is in exactly one of them."""
    endpoints = tuple(endpoints)
    tables = {PUBLIC: _table(PUBLIC, [e for e in endpoints if e.public], _site_routes())}
    if front.private_port is not None:
        tables[PRIVATE] = _table(PRIVATE, [e for e in endpoints if not e.public], [_nothing("elsewhere", "/", NO_PAGE)])
    return tables


def _table(name: str, endpoints: list[Endpoint], rest: list[Json]) -> Json:
    tree = {f"/e/{endpoint.name}/": _action(endpoint.name, _endpoint_routes(endpoint)) for endpoint in endpoints}
    tree["/e/"] = _action("no-endpoint", [_nothing("no-endpoint", "/e/", NO_ENDPOINT, code="EndpointNotFound")])
    path = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=":path")
    host = {
        "name": "all",
        "domains": ["*"],
        "typed_per_filter_config": endpoint_rates(endpoints),
        "retry_policy": _retry(),
        "matcher": {
            "matcher_tree": {"input": {"name": "path", "typed_config": path}, "prefix_match_map": {"map": tree}},
            "on_no_match": _action("rest", [*_grpc_routes(endpoints), *rest]),
        },
    }
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        name=name,
        virtual_hosts=[host],
        response_headers_to_remove=[OWN],
        response_headers_to_add=[_header("x-ms-client-request-id", "%REQ(X-MS-CLIENT-REQUEST-ID)%")],
    )


def _action(name: str, routes: list[Json]) -> Json:
    return {"action": {"name": name, "typed_config": typed("envoy.config.route.v3.RouteList", routes=routes)}}


def _endpoint_routes(endpoint: Endpoint) -> list[Json]:
    return _routes(endpoint, {"prefix": f"/e/{endpoint.name}/"}, "", endpoint.deployments, rewrite=True)


def _grpc_routes(endpoints: list[Endpoint]) -> list[Json]:
    """A gRPC path has no room for a prefix: the endpoint comes in a header. Unknown ones must not end in web."""
    routes: list[Json] = []
    for endpoint in endpoints:
        speakers = tuple(deployment for deployment in endpoint.deployments if deployment.grpc_replicas)
        if speakers:
            match = {"prefix": "/", "grpc": {}, "headers": [_exact(PICK_ENDPOINT, endpoint.name)]}
            routes += _routes(endpoint, match, "/grpc", speakers, rewrite=False)
    missing = _nothing("no-grpc-endpoint", "/", NO_ENDPOINT, code="EndpointNotFound")
    missing["match"]["grpc"] = {}
    return [*routes, missing]


def _routes(
    endpoint: Endpoint, match: Json, kind: str, speakers: tuple[Deployment, ...], *, rewrite: bool
) -> list[Json]:
    """Too large, named deployment, unknown deployment, split: in that order."""
    name = f"{endpoint.name}{kind}"
    routes = [_too_large(endpoint, name, match)] if rewrite else []
    for deployment in speakers:
        route = _route(endpoint, f"{name}/{deployment.name}", _also(match, _exact(PICK, deployment.name)))
        target = {"cluster": _cluster(endpoint, deployment, http=rewrite), **_forward(deployment, rewrite=rewrite)}
        routes.append({**route, "route": target, "response_headers_to_add": _served_by(deployment)})
    picked = _also(match, {"name": PICK, "present_match": True})
    routes.append(_answer(endpoint, f"{name}/unknown", picked, "DeploymentNotFound", NO_DEPLOYMENT))
    live = [(deployment, share) for deployment, share in endpoint.live if deployment in speakers]
    if not live:
        routes.append(_answer(endpoint, f"{name}/idle", match, "DeploymentNotFound", NO_TRAFFIC))
        return routes
    split = _split(endpoint, live, rewrite=rewrite)
    routes.append({**_route(endpoint, f"{name}/split", match), "route": split})
    return routes


def _route(endpoint: Endpoint, name: str, match: Json, *, code: str = "") -> Json:
    ours = {"endpoint": endpoint.name, "auth": AUTH_NAMES[type(endpoint.auth)], "code": code}
    ours |= {"workspace": endpoint.workspace}
    ours = {key: value for key, value in ours.items() if value}
    limit = {"body_limit": endpoint.body_limit_bytes}
    return {
        "name": name,
        "match": match,
        "metadata": {"filter_metadata": {NAMESPACE: ours, MODEL_ERROR: limit}},
        "typed_per_filter_config": endpoint_filters(endpoint),
        "request_body_buffer_limit": endpoint.body_limit_bytes,
    }


def _answer(endpoint: Endpoint, name: str, match: Json, code: str, text: str) -> Json:
    """An answer of Envoy's own, still behind the endpoint's authentication."""
    route = _route(endpoint, name, match, code=code)
    del route["request_body_buffer_limit"]
    return {**route, "direct_response": {"status": 404, "body": {"inline_string": text}}}


def _too_large(endpoint: Endpoint, name: str, match: Json) -> Json:
    """A body that says its length is refused before a byte of it is read; others are counted by model_error.lua."""
    length = {"name": "content-length", "range_match": {"start": endpoint.body_limit_bytes + 1, "end": INT64_MAX}}
    route = _answer(endpoint, f"{name}/too-large", _also(match, length), "PayloadTooLarge", "too large")
    route["direct_response"]["status"] = 413
    return route


def _split(endpoint: Endpoint, live: list[tuple[Deployment, int]], *, rewrite: bool) -> Json:
    shares = [
        {
            "name": _cluster(endpoint, deployment, http=rewrite),
            "weight": share,
            "response_headers_to_add": _served_by(deployment),
        }
        for deployment, share in live
    ]
    slowest = max((deployment for deployment, _ in live), key=lambda deployment: deployment.request_timeout_ms)
    split = {"weighted_clusters": {"clusters": shares}, **_forward(slowest, rewrite=rewrite)}
    shadows = {d.name: d for d in endpoint.deployments if rewrite or d.grpc_replicas}
    mirrors = [
        _mirror(endpoint, _cluster(endpoint, shadows[name], http=rewrite), percent)
        for name, percent in endpoint.mirror.items()
        if percent > 0 and name in shadows
    ]
    return {**split, **({"request_mirror_policies": mirrors} if mirrors else {})}


def _cluster(endpoint: Endpoint, deployment: Deployment, *, http: bool) -> str:
    return (cluster_name if http else grpc_cluster_name)(endpoint.name, deployment.name)


def _mirror(endpoint: Endpoint, cluster: str, percent: int) -> Json:
    fraction = {
        "default_value": {"numerator": percent, "denominator": "HUNDRED"},
        "runtime_key": f"mirror.{endpoint.name}",
    }
    return {"cluster": cluster, "runtime_fraction": fraction}


def _forward(deployment: Deployment, *, rewrite: bool) -> Json:
    """How a request reaches a replica. The prefix ends in '/', so the rewrite gives /score and not //score."""
    timeout = f"{deployment.request_timeout_ms / 1000:.3f}s"
    if rewrite:
        return {"prefix_rewrite": "/", "timeout": timeout, "idle_timeout": STREAM_IDLE}
    # a gRPC stream lives as long as its caller's own deadline says
    stream = {"grpc_timeout_header_max": timeout}
    return {"timeout": "0s", "idle_timeout": STREAM_IDLE, "max_stream_duration": stream}


def _retry() -> Json:
    """For routes that say nothing else. Never repeats a request that a model may have begun to answer."""
    kind = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.050s"},
        # a dead replica is the least busy one: of two it wins 7 draws of 8 until health checks notice
        "host_selection_retry_max_attempts": 50,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": typed(kind)}],
    }


def _served_by(deployment: Deployment) -> list[Json]:
    headers = [_header(PICK, deployment.name)]
    if deployment.session:
        headers.append(_header(SESSION, deployment.session))
    return headers


def _site_routes() -> list[Json]:
    """What is not scoring: nothing below /internal/ however it is spelt, mlflow after asking web, all else to web."""
    internal = _nothing("internal", "/", NO_PAGE)
    internal["match"] = {"safe_regex": {"regex": _spelt_any_way("internal")}}
    mlflow = {
        "name": "mlflow",
        "match": {"path_separated_prefix": "/mlflow"},
        "route": _site("mlflow"),
        # web has decided by now; its cookies and tokens are no business of the MLflow server
        "request_headers_to_remove": ["cookie", "authorization"],
        "typed_per_filter_config": asked_filters(),
    }
    web = {"name": "web", "match": {"prefix": "/"}, "route": _site("web"), "typed_per_filter_config": site_filters()}
    uploads = [{**web, "name": name, "match": {"safe_regex": {"regex": regex}}} for name, regex in UPLOADS.items()]
    blob_too_large = _site_too_large("blob-too-large", {"safe_regex": {"regex": BLOBS}}, BLOB_BODY_LIMIT)
    return [
        internal,
        mlflow,
        blob_too_large,
        *uploads,
        _site_too_large("site-too-large", {"prefix": "/"}, SITE_BODY_LIMIT),
        web,
    ]


def _site_too_large(name: str, match: Json, limit: int) -> Json:
    """Only uploads may be large, the rest is small anyway.

    A body that does not say its length passes, Envoy shows routes no sign of one: apps.api.bodies counts it.
    """
    length = {"name": "content-length", "range_match": {"start": limit + 1, "end": INT64_MAX}}
    large = _nothing(name, "/", "too large", code="PayloadTooLarge")
    large["match"] = {**match, "headers": [length]}
    large["direct_response"]["status"] = 413
    return large


def _site(cluster: str) -> Json:
    """Long uploads and WebSockets: only silence ends them. A web that restarts gets a second to come back."""
    retry = {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.100s", "max_interval": "0.500s"},
    }
    return {"cluster": cluster, "timeout": "0s", "idle_timeout": SITE_IDLE, "retry_policy": retry}


def _nothing(name: str, prefix: str, text: str, *, code: str = "NotFound") -> Json:
    return {
        "name": name,
        "match": {"prefix": prefix},
        "metadata": {"filter_metadata": {NAMESPACE: {"code": code}}},
        "direct_response": {"status": 404, "body": {"inline_string": text}},
        "typed_per_filter_config": open_filters(),
    }


def _spelt_any_way(segment: str) -> str:
    """A first path segment in any mixture of case, percent-encoding and slashes that a web server may undo."""
    letters = "".join(f"({letter}|%{ord(letter):02x}|%{ord(letter.upper()):02x})" for letter in segment)
    return f"(?is)(/|%2f|%5c|\\.|%2e)*{letters}((/|%2f|%5c|;|%3b).*)?"


def _also(match: Json, header: Json) -> Json:
    return {**match, "headers": [*match.get("headers", []), header]}


def _exact(name: str, value: str) -> Json:
    return {"name": name, "string_match": {"exact": value}}


def _header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}

"""Everything at once: the files of one configuration, and the same folded into one bootstrap that Envoy can check."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from apps.gateway.envoy.bootstrap import render_bootstrap
from apps.gateway.envoy.checks import check
from apps.gateway.envoy.clusters import render_clusters, render_limits
from apps.gateway.envoy.files import CLUSTERS_FILE, LIMITS_FILE, LISTENERS_FILE, SECRETS_FILE, route_file
from apps.gateway.envoy.listeners import CERTIFICATE, render_listeners, render_secrets
from apps.gateway.envoy.routes import render_routes
from apps.gateway.envoy.types import Endpoint, Front, Json

Resources: TypeAlias = Mapping[str, list[Json]]


def render(front: Front, endpoints: Iterable[Endpoint]) -> dict[str, list[Json]]:
    """Check, then render: `{file below the xds folder: its resources}`, which is what the publisher takes."""
    endpoints = tuple(endpoints)
    check(endpoints)
    if not front.jwks.get("keys"):
        raise ValueError("The gateway needs at least one public key for tokens (jwks), or Envoy refuses its listeners.")
    return {
        CLUSTERS_FILE: render_clusters(front, endpoints),
        LIMITS_FILE: render_limits(endpoints),
        SECRETS_FILE: render_secrets(front),
        **{route_file(name): [table] for name, table in render_routes(front, endpoints).items()},
        LISTENERS_FILE: render_listeners(front),
    }


def fold(front: Front, resources: Resources) -> Json:
    """One static bootstrap: `envoy --mode validate` does not read the files that LDS, CDS and RDS point to."""
    bootstrap = render_bootstrap(front)
    del bootstrap["dynamic_resources"]
    [limits] = resources[LIMITS_FILE]
    bootstrap["layered_runtime"] = {"layers": [{"name": "limits", "static_layer": limits["layer"]}]}
    bootstrap["static_resources"] = {
        "listeners": [_fold_listener(listener, resources) for listener in resources[LISTENERS_FILE]],
        "clusters": [_plain(cluster) for cluster in resources[CLUSTERS_FILE]],
        "secrets": [_plain(secret) for secret in resources[SECRETS_FILE]],
    }
    return bootstrap


def _fold_listener(listener: Json, resources: Resources) -> Json:
    [chain] = listener["filter_chains"]
    [network] = chain["filters"]
    manager = dict(network["typed_config"])
    [table] = resources[route_file(manager.pop("rds")["route_config_name"])]
    manager["route_config"] = _plain(table)
    folded: Json = {**chain, "filters": [{**network, "typed_config": manager}]}
    if "transport_socket" in chain:
        folded["transport_socket"] = _fold_tls(chain["transport_socket"])
    return {**_plain(listener), "filter_chains": [folded]}


def _fold_tls(socket: Json) -> Json:
    config = dict(socket["typed_config"])
    secrets: list[dict[str, Any]] = [{"name": CERTIFICATE}]
    config["common_tls_context"] = {**config["common_tls_context"], "tls_certificate_sds_secret_configs": secrets}
    return {**socket, "typed_config": config}


def _plain(resource: Json) -> Json:
    return {key: value for key, value in resource.items() if key != "@type"}

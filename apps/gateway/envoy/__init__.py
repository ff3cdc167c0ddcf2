"""Rows in, Envoy's configuration out. Pure functions over frozen values: no Django, no running Envoy."""

from apps.gateway.envoy.bootstrap import envoy_argv, envoy_binary, render_bootstrap
from apps.gateway.envoy.checks import check
from apps.gateway.envoy.clusters import render_clusters, render_limits
from apps.gateway.envoy.listeners import render_listeners, render_secrets
from apps.gateway.envoy.routes import render_routes
from apps.gateway.envoy.tree import Resources, fold, render
from apps.gateway.envoy.types import Auth, Deployment, Endpoint, Front, KeyAuth, OpenAuth, TokenAuth, cluster_name

__all__ = [
    "Auth",
    "Deployment",
    "Endpoint",
    "Front",
    "KeyAuth",
    "OpenAuth",
    "Resources",
    "TokenAuth",
    "check",
    "cluster_name",
    "envoy_argv",
    "envoy_binary",
    "fold",
    "render",
    "render_bootstrap",
    "render_clusters",
    "render_limits",
    "render_listeners",
    "render_routes",
    "render_secrets",
]

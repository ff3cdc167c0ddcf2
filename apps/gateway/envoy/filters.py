"""The HTTP filters, and what a route says to each. Their order is part of the contract; a test pins it."""

import json
from collections.abc import Iterable
from pathlib import Path

from apps.gateway.envoy.types import NAMESPACE, Auth, Endpoint, Front, Json, KeyAuth, TokenAuth, typed

LUA = Path(__file__).resolve().parent.parent / "lua"
HTTP = "envoy.extensions.filters.http"

CORS = "envoy.filters.http.cors"
JWT = "envoy.filters.http.jwt_authn"
RBAC = "envoy.filters.http.rbac"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
RATE = "envoy.filters.http.local_ratelimit"
KEY_HASH = "portway.key_hash"
MODEL_ERROR = "portway.model_error"
UNLIMITED = 1_000_000_000
PROVIDER = "portway"
TOKEN = "token"  # noqa: S105  the name of a requirement
PAYLOAD = "payload"
AUTHZ_PREFIX = "/internal/authz/mlflow"
USER_HEADER = "x-portway-user"
CLIENT_HEADER = "x-portway-client"
MLFLOW_WORKSPACE = "x-mlflow-workspace"

# What ext_authz shows to web: who asks, and enough to tell a browser from a client and a foreign page from our own.
ASKED = (
    "authorization",
    "cookie",
    "accept",
    "origin",
    "sec-fetch-site",
    MLFLOW_WORKSPACE,
    "x-forwarded-proto",
    "x-forwarded-for",
    "x-request-id",
)
# What web decided and the MLflow server believes; it replaces whatever the client sent under these names.
DECIDED = (USER_HEADER, "x-portway-workspaces", MLFLOW_WORKSPACE)
ANSWERED = ("location", "www-authenticate", "set-cookie")
CORS_SENT = (
    "authorization, content-type, accept, azureml-model-deployment, "
    "x-ms-client-request-id, x-ms-request-id, x-request-id"
)
CORS_SHOWN = (
    "x-request-id, x-ms-client-request-id, azureml-model-deployment, azureml-model-session, "
    "ms-azureml-model-error-statuscode, ms-azureml-model-error-reason, retry-after, "
    "x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"
)


def http_filters(front: Front) -> list[Json]:
    """Filters marked disabled exist only on routes that configure them; the two Lua ones run unless a route says no."""
    return [
        _filter(CORS, typed(f"{HTTP}.cors.v3.Cors"), disabled=True),
        _filter(JWT, _jwt(front), disabled=True),
        _filter(RBAC, typed(f"{HTTP}.rbac.v3.RBAC"), disabled=True),
        _filter(EXT_AUTHZ, _ext_authz(), disabled=True),
        _filter(KEY_HASH, _lua("key_hash.lua")),
        _filter(RATE, typed(f"{HTTP}.local_ratelimit.v3.LocalRateLimit", stat_prefix="rate"), disabled=True),
        _filter(MODEL_ERROR, _lua("model_error.lua")),
        _filter("envoy.filters.http.router", typed(f"{HTTP}.router.v3.Router")),
    ]


def endpoint_filters(endpoint: Endpoint) -> Json:
    """Every route of an endpoint carries this, answers of Envoy's own included."""
    return {**_auth(endpoint.auth), **_cors(endpoint.cors_origins)}


def open_filters() -> Json:
    """For routes that answer by themselves and need no caller."""
    return {KEY_HASH: lua_off(), RATE: _off()}


def site_filters() -> Json:
    """For web: it does its own sign-in, and its 404 is not a model's error."""
    return {KEY_HASH: lua_off(), MODEL_ERROR: lua_off(), RATE: _off()}


def asked_filters() -> Json:
    """For mlflow: web is asked first."""
    return {**site_filters(), EXT_AUTHZ: typed(f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute", check_settings={})}


def _off() -> Json:
    return typed("envoy.config.route.v3.FilterConfig", disabled=True)


def lua_off() -> Json:
    return typed(f"{HTTP}.lua.v3.LuaPerRoute", disabled=True)


def _auth(auth: Auth) -> Json:
    if isinstance(auth, KeyAuth):
        context = {"salt": auth.salt, **dict(sorted(auth.digests.items()))}
        return {KEY_HASH: typed(f"{HTTP}.lua.v3.LuaPerRoute", filter_context=context)}
    if isinstance(auth, TokenAuth):
        return {
            KEY_HASH: lua_off(),
            JWT: typed(f"{HTTP}.jwt_authn.v3.PerRouteConfig", requirement_name=TOKEN),
            RBAC: _meant_for(auth),
        }
    return {KEY_HASH: lua_off()}


def _meant_for(auth: TokenAuth) -> Json:
    """Audiences sit on routes, so that a new endpoint changes no listener."""
    claims: Json = {"aud": {"string_match": {"exact": auth.audience}}}
    if auth.workspace:
        claims["workspaces"] = {"list_match": {"one_of": {"string_match": {"exact": auth.workspace}}}}
    matchers = [
        {"filter": JWT, "path": [{"key": PAYLOAD}, {"key": claim}], "value": value} for claim, value in claims.items()
    ]
    principals = [{"sourced_metadata": {"metadata_matcher": each}} for each in matchers]
    policy = {"permissions": [{"any": True}], "principals": principals}
    return typed(f"{HTTP}.rbac.v3.RBACPerRoute", rbac={"rules": {"action": "ALLOW", "policies": {"audience": policy}}})


def _cors(origins: tuple[str, ...]) -> Json:
    if not origins:
        return {}
    matches = [{"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin} for origin in origins]
    return {
        CORS: typed(
            f"{HTTP}.cors.v3.CorsPolicy",
            allow_origin_string_match=matches,
            allow_methods="GET, POST, PUT, PATCH, DELETE, OPTIONS",
            allow_headers=CORS_SENT,
            expose_headers=CORS_SHOWN,
            max_age="600",
            forward_not_matching_preflights=False,
        )
    }


def endpoint_rates(endpoints: Iterable[Endpoint]) -> Json:
    """One bucket per endpoint, chosen by the route's metadata.

    A bucket on each route would be simpler to read, but then a caller who names deployments gets a fresh one for each.
    """
    everyone = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    name = {"key": NAMESPACE, "path": [{"key": "endpoint"}]}
    action = {"metadata": {"descriptor_key": "endpoint", "metadata_key": name, "source": "ROUTE_ENTRY"}}
    config = typed(
        f"{HTTP}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="rate",
        token_bucket=_bucket(UNLIMITED),
        always_consume_default_token_bucket=False,
        rate_limits=[{"actions": [action]}],
        descriptors=[
            {"entries": [{"key": "endpoint", "value": e.name}], "token_bucket": _bucket(e.rate_per_second)}
            for e in endpoints
        ],
        filter_enabled=everyone,
        filter_enforced=everyone,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
    )
    return {RATE: config}


def _bucket(per_second: int) -> Json:
    return {"max_tokens": per_second, "tokens_per_fill": per_second, "fill_interval": "1s"}


def _jwt(front: Front) -> Json:
    provider = {
        "issuer": front.issuer,
        # inline: Envoy does not notice a changed file, only a changed listener
        "local_jwks": {"inline_string": json.dumps(front.jwks, sort_keys=True)},
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": PAYLOAD,
        "claim_to_headers": [{"header_name": CLIENT_HEADER, "claim_name": "sub"}],
        "jwt_cache_config": {"jwt_cache_size": 1000},
    }
    return typed(
        f"{HTTP}.jwt_authn.v3.JwtAuthentication",
        providers={PROVIDER: provider},
        requirement_map={TOKEN: {"provider_name": PROVIDER}},
    )


def _ext_authz() -> Json:
    return typed(
        f"{HTTP}.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        allowed_headers={"patterns": [{"exact": name} for name in ASKED]},
        http_service={
            "server_uri": {"uri": "http://web", "cluster": "web", "timeout": "5s"},
            "path_prefix": AUTHZ_PREFIX,
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": [{"exact": name} for name in DECIDED]},
                "allowed_client_headers": {"patterns": [{"exact": name} for name in ANSWERED]},
            },
        },
    )


def _lua(name: str) -> Json:
    # inline, because a changed Lua file alone is not noticed; clearing the route cache would match every request twice
    code = (LUA / name).read_text(encoding="utf-8")
    return typed(f"{HTTP}.lua.v3.Lua", default_source_code={"inline_string": code}, clear_route_cache=False)


def _filter(name: str, config: Json, *, disabled: bool = False) -> Json:
    return {"name": name, **({"disabled": True} if disabled else {}), "typed_config": config}

"""LDS and SDS: the doors, their hygiene, the access log. No endpoint is named here."""

from apps.gateway.envoy.files import SECRETS_FILE, route_file
from apps.gateway.envoy.filters import http_filters
from apps.gateway.envoy.replies import local_replies
from apps.gateway.envoy.statistics import statistics
from apps.gateway.envoy.types import MEBIBYTE, NAMESPACE, Front, Json, typed

STAT_PREFIX = "scoring"
PUBLIC = "public"
PRIVATE = "private"
CERTIFICATE = "front-door"

# A client must not be able to say who it is, nor steer Envoy's router by its own headers.
FORGEABLE = ("x-portway-", "x-envoy-")
REQUEST_ID = "repeatability_request-id"  # of a batch invocation, as the SDK spells it
UPLOADED = "x-ms-meta-upload_status"  # of a blob, likewise

# An empty list would mean Envoy's own: every private and loopback address, whose callers may then name their
# requests and steer retries and time-outs. Nobody is internal here.
NOBODY = {"address_prefix": "0.0.0.0", "prefix_len": 32}  # noqa: S104  no address to bind

# The address of a new password is one: it holds the key that sets it. Envoy keeps no part of such a path.
ONE_TIME = "/accounts/password/reset/key/"
HIDDEN = f"{ONE_TIME}…"

# One JSON line per request (spec 9.2). No header that may hold a secret, no query (people put keys there), no body.
# Times in microseconds: `wait_us` until the first byte went to a replica, `body_us` until the caller had sent all,
# `model_us` from the last byte sent to the first one answered, `answer_us` until the caller had it.
ACCESS_LOG = {
    "ts": "%START_TIME%",
    "workspace": f"%METADATA(ROUTE:{NAMESPACE}:workspace)%",
    "endpoint": f"%METADATA(ROUTE:{NAMESPACE}:endpoint)%",
    "deployment": "%RESP(AZUREML-MODEL-DEPLOYMENT)%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "route": "%ROUTE_NAME%",
    "upstream": "%UPSTREAM_HOST%",
    "method": "%REQ(:METHOD):20%",
    "path": "%PATH(NQ:ORIG_OR_PATH):300%",
    "protocol": "%PROTOCOL%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "ms": "%DURATION%",
    "upstream_ms": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "body_us": "%COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)%",
    "wait_us": "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
    "model_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    "answer_us": "%COMMON_DURATION(US_RX_BEG:DS_TX_END:us)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client_request_id": "%REQ(X-MS-CLIENT-REQUEST-ID):40%",
    "auth": f"%METADATA(ROUTE:{NAMESPACE}:auth)%",
    "client": "%REQ(X-PORTWAY-CLIENT)%",
    "user_agent": "%REQ(USER-AGENT):70%",
    "address": "%REQ(X-ENVOY-EXTERNAL-ADDRESS)%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "model_status": "%RESP(MS-AZUREML-MODEL-ERROR-STATUSCODE)%",
    "model_reason": "%RESP(MS-AZUREML-MODEL-ERROR-REASON):200%",
}


def render_listeners(front: Front) -> list[Json]:
    doors = [_listener(front, "public-tls", front.bind, front.tls_port, PUBLIC, tls=True)]
    if front.http_port is not None:
        doors.append(_listener(front, "public-http", front.bind, front.http_port, PUBLIC, tls=False))
    if front.private_port is not None:
        doors.append(_listener(front, "private-tls", front.private_bind, front.private_port, PRIVATE, tls=True))
    return doors


def render_secrets(front: Front) -> list[Json]:
    """The certificate by reference: only SDS follows files that are renamed into place."""
    pair = {
        "certificate_chain": {"filename": str(front.certificate)},
        "private_key": {"filename": str(front.private_key)},
        "watched_directory": {"path": str(front.certificate.parent)},
    }
    return [typed("envoy.extensions.transport_sockets.tls.v3.Secret", name=CERTIFICATE, tls_certificate=pair)]


def _listener(front: Front, name: str, bind: str, port: int, routes: str, *, tls: bool) -> Json:
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": _manager(front, routes)}
    chain: Json = {"filters": [manager]}
    if tls:
        chain["transport_socket"] = _tls(front)
    return typed(
        "envoy.config.listener.v3.Listener",
        name=name,
        address={"socket_address": {"address": bind, "port_value": port}},
        per_connection_buffer_limit_bytes=MEBIBYTE,
        filter_chains=[chain],
    )


def _tls(front: Front) -> Json:
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(front.xds / SECRETS_FILE)}}
    context = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [{"name": CERTIFICATE, "sds_config": source}],
    }
    kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed(kind, common_tls_context=context)}


def _manager(front: Front, routes: str) -> Json:
    return typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=STAT_PREFIX,
        codec_type="AUTO",
        server_header_transformation="PASS_THROUGH",
        **_hygiene(front),
        **_identity(),
        **_patience(),
        access_log=[*_access_log(front), *statistics()],
        local_reply_config=local_replies(),
        rds={
            "route_config_name": routes,
            "config_source": {
                "resource_api_version": "V3",
                "path_config_source": {"path": str(front.xds / route_file(routes))},
            },
        },
        http_filters=http_filters(front),
    )


def _hygiene(front: Front) -> Json:
    """Dot segments are resolved before a route is chosen.

    Escaped and double slashes stay as they are: artifact and blob names need them. Scoring routes match a whole literal
    prefix, so an escaped slash can only end up inside what the authorised endpoint's own model sees. Headers with an
    underscore, which some servers take for those with a dash, are gone but for those that the SDK writes so.
    """
    return {
        "use_remote_address": True,
        "xff_num_trusted_hops": front.trusted_hops,
        "internal_address_config": {"unix_sockets": False, "cidr_ranges": [NOBODY]},
        "normalize_path": True,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": typed(
                    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    mutations=[
                        _with_a_dash(REQUEST_ID),
                        _with_a_dash(UPLOADED),
                        *(_without({"prefix": prefix}) for prefix in FORGEABLE),
                        _without({"contains": "_"}),
                    ],
                ),
            },
        ],
    }


def _with_a_dash(name: str) -> Json:
    """What came under the name with an underscore, under one that every server reads alike."""
    header = {"key": name.replace("_", "-"), "value": f"%REQ({name})%"}
    return {"append": {"header": header, "append_action": "ADD_IF_ABSENT", "keep_empty_value": False}}


def _without(key: Json) -> Json:
    return {"remove_on_match": {"key_matcher": key}}


def _identity() -> Json:
    """As on Azure the platform names every request; a client's own id goes into x-ms-client-request-id."""
    return {
        "generate_request_id": True,
        "preserve_external_request_id": False,
        "always_set_request_id_in_response": True,
    }


def _patience() -> Json:
    return {
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {"idle_timeout": "3600s", "headers_with_underscores_action": "ALLOW"},
        "http2_protocol_options": {"max_concurrent_streams": 256},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }


def _access_log(front: Front) -> list[Json]:
    """Two writers of one file: each request is written by one of them."""
    kind = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    match: Json = {"name": ":path", "string_match": {"contains": ONE_TIME, "ignore_case": True}}
    match["treat_missing_header_as_empty"] = True  # what is no request at all is written too
    writers = []
    for hidden in (False, True):
        line = {**ACCESS_LOG, **({"path": HIDDEN} if hidden else {})}
        log = typed(kind, path=str(front.access_log), log_format={"json_format": line})
        only = {"header_filter": {"header": {**match, **({} if hidden else {"invert_match": True})}}}
        writers.append({"name": "envoy.access_loggers.file", "filter": only, "typed_config": log})
    return writers

"""What Envoy answers itself: one JSON shape, one stable code per cause, and a sentence that says what to do next."""

from pathlib import Path

from apps.gateway.envoy.types import NAMESPACE, Json

PAGES = Path(__file__).resolve().parent.parent / "pages"

REQUEST_ID = "%REQ(X-REQUEST-ID)%"
RETRY_UNAVAILABLE = "5"
RETRY_BUSY = "1"
UNAVAILABLE_FLAGS = ["UH", "UF", "UC", "UR", "URX", "LH", "LR", "NC"]

OWN = "x-portway-reply"
"""Says `gateway` on what Envoy answered itself: callers may look at it, model_error.lua does."""

REST = ("Http%RESPONSE_CODE%", "%LOCAL_REPLY_BODY% (%RESPONSE_CODE_DETAILS%)")
UNAUTHORIZED = (
    "The key or token is missing, wrong or expired (%LOCAL_REPLY_BODY%). "
    "Send the header 'Authorization: Bearer <key or token>'. The endpoint's Consume page shows which it wants."
)
FORBIDDEN = "This token is valid, but not for this endpoint. Ask for a token of the endpoint you are calling."
TIMEOUT = (
    "The deployment did not answer within its request timeout, waiting time included. "
    "Send less per request, or raise request_timeout_ms of the deployment."
)
QUEUE_FULL = (
    "All slots of the deployment are busy and its queue is full. Try again with growing pauses; "
    "if this goes on, add instances or raise max_concurrent_requests_per_instance."
)
RATE = "The endpoint gets more requests per second than its limit allows. Send fewer, or try again in a second."
TOO_LARGE = "The request body is larger than this address accepts. Send less per request."
MODEL_DOWN = (
    "No replica of the deployment can take the request right now (%RESPONSE_FLAGS%). "
    "Try again in a few seconds; if it stays like this, look at the deployment's status and logs."
)
STUDIO_DOWN = (
    "The part of Portway that answers this address is not running (%RESPONSE_FLAGS%). Try again in a few seconds."
)
BAD_REQUEST = "The request is not well formed (%RESPONSE_CODE_DETAILS%). Header names must not contain an underscore."


def local_replies() -> Json:
    """The mappers in the order they are tried: the first match wins, so causes come before status codes."""
    return {
        "mappers": [
            _mapper(_all(_flags("UAEX"), _status("LE", 403), _wants_html()), page="sign_in"),
            _mapper(_all(_flags("UAEX"), _status("LE", 499)), code="Unauthorized", message=UNAUTHORIZED),
            _mapper(_flags("UT", "SI", "DT"), code="RequestTimeout", message=TIMEOUT, status=408),
            _mapper(_flags("UO"), code="TooManyPendingRequests", message=QUEUE_FULL, status=429, retry=RETRY_BUSY),
            # local_ratelimit has not set its flag yet when the mappers run: its status, after UO
            _mapper(_status("EQ", 429), code="RateLimited", message=RATE),
            _mapper(_all(_unavailable(), _wants_html(), _not_model()), page="maintenance", retry=RETRY_UNAVAILABLE),
            _mapper(
                _all(_unavailable(), _not_model()),
                code="ServiceUnavailable",
                message=STUDIO_DOWN,
                retry=RETRY_UNAVAILABLE,
            ),
            _mapper(_unavailable(), code="ServiceUnavailable", message=MODEL_DOWN, retry=RETRY_UNAVAILABLE),
            _mapper(_status("EQ", 400), code="BadRequest", message=BAD_REQUEST),
            _mapper(_status("EQ", 401), code="Unauthorized", message=UNAUTHORIZED),
            _mapper(_status("EQ", 403), code="Forbidden", message=FORBIDDEN),
            _mapper(_status("EQ", 404), code=f"%METADATA(ROUTE:{NAMESPACE}:code)%", message="%LOCAL_REPLY_BODY%"),
            _mapper(_status("EQ", 413), code="PayloadTooLarge", message=TOO_LARGE),
            _mapper(_status("GE", 100), code=REST[0], message=REST[1]),
        ],
        "body_format": _error(*REST),
    }


def _mapper(
    when: Json, *, code: str = "", message: str = "", page: str = "", status: int | None = None, retry: str = ""
) -> Json:
    mapper: Json = {"filter": when}
    if status is not None:
        mapper["status_code"] = status
    mapper["headers_to_add"] = [_header(OWN, "gateway"), *([_header("retry-after", retry)] if retry else [])]
    if page:
        text = (
            (PAGES / f"{page}.html")
            .read_text(encoding="utf-8")
            .replace("%", "%%")
            .replace("__REQUEST_ID__", REQUEST_ID)
        )
        mapper["body_format_override"] = {
            "text_format_source": {"inline_string": text},
            "content_type": "text/html; charset=utf-8",
        }
    else:
        mapper["body_format_override"] = _error(code, message)
    return mapper


def _header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _error(code: str, message: str) -> Json:
    return {"json_format": {"error": {"code": code, "message": message, "request_id": REQUEST_ID}}}


def _all(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(op: str, status: int) -> Json:
    value = {"default_value": status, "runtime_key": f"portway.unused.{op.lower()}{status}"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _unavailable() -> Json:
    """Nobody there: the upstream itself, or the part of Portway that would have said who may pass."""
    asked_in_vain = _all(_flags("UAEX"), _status("EQ", 503))
    return {"or_filter": {"filters": [_flags(*UNAVAILABLE_FLAGS), asked_in_vain]}}


def _wants_html() -> Json:
    return {"header_filter": {"header": {"name": "accept", "string_match": {"contains": "text/html"}}}}


def _not_model() -> Json:
    """Only scoring routes rewrite the path; gRPC ones cannot, but say so in the content type."""
    rewritten = {"name": "x-envoy-original-path", "present_match": True, "invert_match": True}
    grpc = {
        "name": "content-type",
        "string_match": {"prefix": "application/grpc"},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    }
    return _all({"header_filter": {"header": rewritten}}, {"header_filter": {"header": grpc}})

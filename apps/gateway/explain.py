"""What a line of the log of requests means, in words: what happened, whose fault it was, what to do next.

`flags` are Envoy's response flags, `details` its response code details; the codes of the answers are in spec 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from apps.core.errors import Fault

OK, REDIRECTS, CLIENT_ERRORS, SERVER_ERRORS = 200, 300, 400, 500
USER, CAPACITY, SYSTEM = Fault.USER, Fault.CAPACITY, Fault.SYSTEM
CLUSTER = "dep__"


@dataclass(frozen=True)
class Verdict:
    """`fault` is None when nothing went wrong."""

    code: str
    fault: Fault | None
    title: str | Promise
    message: str | Promise
    next_step: str | Promise = ""

    @property
    def tone(self) -> str:
        return {None: "ok", USER: "degraded", CAPACITY: "degraded", SYSTEM: "failed"}[self.fault]


VERDICTS = {
    each.code: each
    for each in (
        Verdict("answered", None, _("Answered"), _("The model answered, and the caller got the answer.")),
        Verdict("redirected", None, _("Answered"), _("The model answered with a redirection.")),
        Verdict("unauthorized", USER, _("Refused: no valid key or token"), _("The key or token was missing, wrong or expired. The model never saw the request."), _("Send the header “Authorization: Bearer <key or token>”; the endpoint's Keys tab shows both keys. After a key was regenerated the old one no longer works.")),
        Verdict("wrong-token", USER, _("Refused: a token of another endpoint"), _("The token is valid, but was issued for another endpoint (rbac_access_denied). The model never saw the request."), _("Ask for a token of the endpoint you are calling.")),
        Verdict("no-endpoint", USER, _("No endpoint at this address"), _("No endpoint of this name answers at this address."), _("Compare the address with the scoring URI on the endpoint's page.")),
        Verdict("no-deployment", USER, _("No deployment of this name"), _("The header azureml-model-deployment names a deployment that the endpoint did not have."), _("Correct the name, or leave the header out to follow the traffic split.")),
        Verdict("no-traffic", USER, _("No deployment has traffic"), _("No deployment of the endpoint had a share of the traffic above 0 %, and the request named none."), _("Give one a share on the Traffic tab, or name one in the header azureml-model-deployment.")),
        Verdict("too-large", USER, _("Refused: the body is too large"), _("The body was larger than the endpoint accepts. The model never saw the request."), _("Send fewer rows per request, or use a batch endpoint.")),
        Verdict("bad-request", USER, _("Refused: not a well-formed request"), _("The gateway could not read the request. Header names must not contain an underscore."), _("Compare the request with the example on the Keys tab.")),
        Verdict("timeout", USER, _("Timed out"), _("The deployment did not answer within its request timeout, waiting time included. The model may have gone on computing after that."), _("Send less per request, make run() faster, or raise request_timeout_ms of the deployment.")),
        Verdict("queue-full", CAPACITY, _("Refused: too many requests at once"), _("All slots of the deployment were busy and its queue was full, so the request was refused at once. The model never saw it."), _("Try again with growing pauses. If this goes on, add instances, or raise max_concurrent_requests_per_instance.")),
        Verdict("rate-limited", CAPACITY, _("Refused: too many requests per second"), _("The endpoint got more requests in this second than its limit allows. The model never saw the request."), _("Send fewer per second, try again with growing pauses, or ask the operator for a higher limit.")),
        Verdict("model-error", USER, _("The model answered with an error"), _("The request reached the model, and the model's own code answered with an error. Callers get 424 and the model's status in a header."), _("Read the lines below: a traceback says where the scoring script failed.")),
        Verdict("model-refused", USER, _("The model refused the request"), _("The request reached the model server, and it refused the input. Callers get 424 and the model's status in a header."), _("Compare the body with the sample on the Test tab; the answer's text says what was wrong with it.")),
        Verdict("model-gone", USER, _("The model server ended while it answered"), _("The instance closed the connection before its answer was complete: its process crashed, was killed for its memory, or called exit()."), _("Read the last lines of the instance, and why it ended.")),
        Verdict("no-instance", CAPACITY, _("No instance was ready"), _("No instance of the deployment could take the request: all were starting, restarting or failing their health check."), _("Look at the deployment's state and log. Two or more instances keep an endpoint answering while one restarts.")),
        Verdict("unreachable", SYSTEM, _("The instance could not be reached"), _("The gateway could not open a connection to the instance; it was ending or had just ended. It tried other instances first."), _("Try again. Two or more instances keep an endpoint answering while one restarts.")),
        Verdict("not-http", USER, _("The model server's answer was not valid HTTP"), _("The instance answered with something that is not HTTP."), _("Headers set by the scoring script must be plain text. Read the instance's lines below.")),
        Verdict("hung-up", USER, _("The caller hung up"), _("The caller closed the connection before the answer was complete, usually because its own timeout was shorter than the model's answer took."), _("Give the client a longer timeout, or make the request smaller.")),
        Verdict("overload", CAPACITY, _("The gateway was overloaded"), _("The gateway itself had too many connections and refused the request."), _("Try again with growing pauses, and tell the operator.")),
        Verdict("no-route", USER, _("No address matched"), _("The gateway knows no such address."), _("Compare the address with the scoring URI on the endpoint's page.")),
        Verdict("unknown", SYSTEM, _("It did not go through"), _("The request failed in a way for which there is no explanation yet."), _("Show the operator the technical details below.")),
    )
}  # fmt: skip

BY_FLAG = (
    (("UT", "SI", "DT", "UMSDR"), "timeout"),
    (("UO",), "queue-full"),
    (("RL",), "rate-limited"),
    (("DC",), "hung-up"),
    (("OM",), "overload"),
    (("UPE",), "not-http"),
    (("UC", "UR", "LR"), "model-gone"),
    (("UF",), "unreachable"),
    (("UH", "NC", "LH"), "no-instance"),
    (("DPE", "IH"), "bad-request"),
    (("NR",), "no-route"),
)
BY_STATUS = {
    400: "bad-request",
    401: "unauthorized",
    403: "wrong-token",
    408: "timeout",
    413: "too-large",
    429: "rate-limited",
    431: "bad-request",
}
FLAG_WORDS = {
    "UAEX": _("refused by the check of the credential"),
    "UT": _("the model took longer than the request timeout"),
    "SI": _("the connection was silent for too long"),
    "DT": _("the request as a whole took too long"),
    "UO": _("the queue of the deployment was full"),
    "RL": _("above the rate limit"),
    "DC": _("the caller closed the connection"),
    "OM": _("the gateway was overloaded"),
    "UPE": _("the instance broke the HTTP protocol"),
    "DPE": _("the caller broke the HTTP protocol"),
    "UC": _("the instance closed the connection"),
    "UR": _("the instance reset the connection"),
    "UF": _("no connection to the instance"),
    "UH": _("no healthy instance"),
    "URX": _("tried on other instances too"),
    "NC": _("the deployment was just removed"),
    "NR": _("no such address"),
    "LH": _("the instance failed its health check"),
}


def verdict(line: dict[str, Any]) -> Verdict:
    """What became of the request of this line."""
    status, flags = number(line, "code"), flags_of(line)
    route, details = str(line.get("route") or ""), str(line.get("details") or "")
    if route.endswith("/too-large"):
        code = "too-large"
    elif route.endswith("no-endpoint"):
        code = "no-endpoint"
    elif details.startswith("rbac_access_denied"):
        code = "wrong-token"
    elif model := number(line, "model_status"):
        code = "model-refused" if model < SERVER_ERRORS else "model-error"
    elif "UAEX" in flags or status in {401, 403}:
        code = BY_STATUS.get(status, "unauthorized")
    elif found := next((name for each, name in BY_FLAG if flags & set(each)), ""):
        code = found
    elif status == 404 and route.endswith("/unknown"):  # noqa: PLR2004
        code = "no-deployment"
    elif status == 404 and route.endswith("/idle"):  # noqa: PLR2004
        code = "no-traffic"
    elif OK <= status < CLIENT_ERRORS:
        code = "answered" if status < REDIRECTS else "redirected"
    else:
        code = BY_STATUS.get(status, "unknown")
    return VERDICTS[code]


def flags_of(line: dict[str, Any]) -> frozenset[str]:
    return frozenset(each for each in str(line.get("flags") or "").split(",") if each not in {"", "-"})


def number(line: dict[str, Any], name: str) -> int:
    """A number of the line; 0 for none, and for what a stranger may have made of it."""
    value = line.get(name)
    text = str(value)
    return int(text) if isinstance(value, int | str) and text.isascii() and text.isdigit() and len(text) < 19 else 0  # noqa: PLR2004


def deployment_of(line: dict[str, Any]) -> str:
    """Who answered, else for whom the request was meant; the caller does not learn the latter before it is known."""
    if name := str(line.get("deployment") or ""):
        return name
    cluster = str(line.get("cluster") or "")
    return cluster.split("__")[2] if cluster.startswith(CLUSTER) else ""  # what follows says that it was gRPC


def began_at(line: dict[str, Any]) -> datetime:
    """Raises ValueError for a line without a time."""
    return datetime.fromisoformat(line["ts"]).astimezone(UTC)


@dataclass(frozen=True)
class Spent:
    """Where the time went; milliseconds, None for a part that never came."""

    body: float | None
    queue: float | None
    model: float | None
    answer: float | None
    total: float


def spent(line: dict[str, Any]) -> Spent:
    """`queue`: from the caller's last byte until a replica took the request; a body that streams hides it."""

    def milliseconds(name: str) -> float | None:
        return number(line, name) / 1000 if isinstance(line.get(name), int) else None

    body, wait = milliseconds("body_us"), milliseconds("wait_us")
    queue = max(0.0, wait - (body or 0.0)) if wait is not None else None
    model, answer = milliseconds("model_us"), milliseconds("answer_us")
    # the gateway's total is cut to whole milliseconds: it is never less than what came one after the other
    total = max(float(number(line, "ms")), (wait or 0.0) + (model or 0.0) + (answer or 0.0))
    return Spent(body, queue, model, answer, total)

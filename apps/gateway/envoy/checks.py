"""What Envoy would accept without a word, or refuse only after the push: refused here, with a sentence."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from apps.gateway.envoy.types import Auth, Deployment, Endpoint, KeyAuth, TokenAuth, parse_address

NAME = re.compile(r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
DIGEST = re.compile(r"[0-9a-f]{64}")
CLIENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
SESSION = re.compile(r"[\x21-\x24\x26-\x7e]{0,128}")
ORIGIN = re.compile(r"\*|https?://[^/\s]+")
NAME_MAX = 63
WHOLE = 100


def check(endpoints: Iterable[Endpoint]) -> None:
    """Raise ValueError naming the first thing that would not work as it reads."""
    endpoints = tuple(endpoints)
    _unique("endpoint", (endpoint.name for endpoint in endpoints))
    for endpoint in endpoints:
        _name("endpoint", endpoint.name)
        _endpoint(endpoint)


def _endpoint(endpoint: Endpoint) -> None:
    where = f"Endpoint {endpoint.name!r}"
    _unique(f"deployment of endpoint {endpoint.name!r}", (d.name for d in endpoint.deployments))
    for deployment in endpoint.deployments:
        _name("deployment", deployment.name)
        _deployment(f"Deployment {endpoint.name}/{deployment.name}", deployment)
    names = {deployment.name for deployment in endpoint.deployments}
    _shares(f"{where}: traffic", endpoint.traffic, names)
    _shares(f"{where}: mirror", endpoint.mirror, names)
    total = sum(endpoint.traffic.values())
    if total not in (0, WHOLE):
        raise ValueError(f"{where}: traffic adds up to {total}; it must be 0 (off) or 100.")
    if sum(share > 0 for share in endpoint.mirror.values()) > 1:
        raise ValueError(f"{where}: traffic can be mirrored to one deployment only.")
    if endpoint.rate_per_second < 1:
        raise ValueError(f"{where}: the rate limit must be at least 1 request per second.")
    if endpoint.body_limit_bytes < 1:
        raise ValueError(f"{where}: the body limit must be at least 1 byte.")
    for origin in endpoint.cors_origins:
        if not ORIGIN.fullmatch(origin):
            raise ValueError(f"{where}: {origin!r} is not an origin; write https://host[:port] or *.")
    _auth(where, endpoint.auth)


def _deployment(where: str, deployment: Deployment) -> None:
    if deployment.concurrency < 1:
        raise ValueError(f"{where}: concurrency must be at least 1.")
    if deployment.request_timeout_ms < 1:
        raise ValueError(f"{where}: the request timeout must be at least 1 ms (0 would mean forever).")
    if deployment.idle_timeout_s <= 0:
        raise ValueError(f"{where}: the idle timeout of connections must be above 0 (0 would mean never closing them).")
    if not deployment.ready_path.startswith("/"):
        raise ValueError(f"{where}: the readiness path {deployment.ready_path!r} does not begin with '/'.")
    if not SESSION.fullmatch(deployment.session):
        raise ValueError(
            f"{where}: the session {deployment.session!r} has characters a header cannot carry as they are."
        )
    _addresses(where, deployment.replicas)
    _addresses(f"{where}: gRPC", deployment.grpc_replicas)


def _addresses(where: str, replicas: tuple[str, ...]) -> None:
    _unique(f"replica of {where.lower()}", replicas)
    try:
        addresses = [parse_address(replica) for replica in replicas]
    except ValueError as problem:
        raise ValueError(f"{where}: {problem}") from None
    if any(a.named for a in addresses) and any(a.path for a in addresses):
        raise ValueError(f"{where}: host names and unix sockets cannot serve the same deployment.")


def _auth(where: str, auth: Auth) -> None:
    if isinstance(auth, TokenAuth) and not auth.audience:
        raise ValueError(f"{where}: token authentication without an audience would take every token.")
    if not isinstance(auth, KeyAuth):
        return
    if not auth.salt:
        raise ValueError(f"{where}: key authentication without a salt refuses every key.")
    for digest, client in auth.digests.items():
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{where}: {digest[:12]!r}… is not a SHA-256 digest in lower-case hex.")
        if not CLIENT.fullmatch(client):
            raise ValueError(f"{where}: {client!r} cannot be a client name (letters, digits, '.', '_' and '-').")


def _shares(where: str, shares: Mapping[str, int], names: set[str]) -> None:
    for name, share in shares.items():
        if name not in names:
            raise ValueError(f"{where} goes to {name!r}, which is no deployment of this endpoint.")
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= WHOLE:
            raise ValueError(f"{where} of {name!r} is {share!r}; it must be a whole number from 0 to 100.")


def _name(kind: str, name: str) -> None:
    if len(name) > NAME_MAX or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of an {kind}: letters, digits and single dashes only, no dot.")


def _unique(kind: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"There is more than one {kind} called {twice[0]!r}.")

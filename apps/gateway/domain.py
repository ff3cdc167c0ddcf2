"""What the gateway should serve, and giving it that.

The configuration is rendered from the database every time and written only where it changed, so publishing is safe to
repeat. Workers publish at once; the controller publishes whatever was missed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db import transaction

from apps.compute import probe
from apps.compute.domain import addresses
from apps.core import leases, limits
from apps.core.errors import Problem
from apps.gateway import envoy
from apps.gateway.models import EndpointKey, Publication, Route
from apps.gateway.publisher import Publisher

log = structlog.get_logger(__name__)

ISSUER = "portway"
AAD = "AADToken"  # endpoints that take a user's own token
TOKEN_S = 3600
LEASE_S = 15.0
STARTING_S = 10.0  # how long an operation waits for an Envoy that does not answer
REPLICA_IDLE_S = 25.0  # below the 30 s after which our scoring server closes an idle connection


@dataclass(frozen=True)
class Target:
    """One deployment as the gateway must know it."""

    name: str
    replica_set: str
    concurrency: int
    request_timeout_ms: int
    session: str
    ready_path: str = "/readyz"
    ready_port: int | None = None
    grpc_port: int | None = None
    idle_s: float = REPLICA_IDLE_S


def put_route(
    *,
    endpoint: str,
    workspace: str,
    auth: str,
    traffic: dict[str, int],
    mirror: dict[str, int],
    targets: list[Target],
    public: bool,
    rate_per_second: int,
) -> None:
    """Say what the gateway should do for an endpoint; `publish()` makes it so."""
    Route.objects.update_or_create(
        endpoint=endpoint,
        defaults={
            "workspace": workspace,
            "auth": auth,
            "traffic": traffic,
            "mirror": mirror,
            "public": public,
            "rate_per_second": rate_per_second,
            "deployments": {target.name: asdict(target) for target in targets},
        },
    )


def set_rate(per_second: int) -> None:
    """Give every route this limit; the controller publishes it within seconds."""
    Route.objects.update(rate_per_second=per_second)


def drop_route(endpoint: str) -> None:
    Route.objects.filter(endpoint=endpoint).delete()
    EndpointKey.objects.filter(endpoint=endpoint).delete()


# ---- keys and tokens


def ensure_keys(endpoint: str, *, initial: dict[str, str] | None = None) -> None:
    """Give the endpoint its two keys, if it has none; `initial` may bring the caller's own."""
    for slot in ("primary", "secondary"):
        if not EndpointKey.objects.filter(endpoint=endpoint, slot=slot).exists():
            set_key(endpoint, slot, (initial or {}).get(slot))


def set_key(endpoint: str, slot: str, value: str | None = None) -> None:
    """Replace one key; a random one unless a value is given."""
    value = value or secrets.token_urlsafe(32)
    salt = _salt(endpoint)
    digest = hashlib.sha256((salt + value).encode()).hexdigest()
    EndpointKey.objects.update_or_create(
        endpoint=endpoint, slot=slot, defaults={"salt": salt, "digest": digest, "value": value}
    )


def _salt(endpoint: str) -> str:
    """Both keys share one salt, because the gateway hashes what it gets once."""
    found = EndpointKey.objects.filter(endpoint=endpoint).values_list("salt", flat=True).first()
    return found or secrets.token_hex(8)


def keys_of(endpoint: str) -> dict[str, str]:
    return {key.slot: key.value for key in EndpointKey.objects.filter(endpoint=endpoint)}


@lru_cache(maxsize=1)
def _signing_key() -> rsa.RSAPrivateKey:
    path = settings.HOME.secrets / "tokens.pem"
    if not path.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        settings.HOME.write_secret("tokens.pem", pem)
    # made above and private: checking its primes again would cost every process a tenth of a second at its start
    key = serialization.load_pem_private_key(path.read_bytes(), password=None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path} is not an RSA key")
    return key


def jwks() -> dict[str, Any]:
    """The public half of the key that signs endpoint tokens."""
    data = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_signing_key().public_key()))
    kid = hashlib.sha256(data["n"].encode()).hexdigest()[:16]
    return {"keys": [{**data, "kid": kid, "alg": "RS256", "use": "sig"}]}


def issue_token(endpoint: str, *, subject: str) -> dict[str, Any]:
    """A token for one endpoint, in Azure's shape (spec 4.5): valid an hour, to be renewed after 80 % of it."""
    now = int(time.time())
    return {
        "accessToken": sign({"aud": endpoint, "sub": subject, "iat": now, "exp": now + TOKEN_S}),
        "tokenType": "Bearer",
        "expiryTimeUtc": now + TOKEN_S,
        "refreshAfterTimeUtc": now + TOKEN_S * 8 // 10,
    }


def sign(claims: dict[str, Any]) -> str:
    """A token that the gateway takes."""
    signed = {"iss": ISSUER, **claims}
    return jwt.encode(signed, _signing_key(), algorithm="RS256", headers={"kid": jwks()["keys"][0]["kid"]})


def claims_of(token: str, *, require: list[str]) -> dict[str, Any]:
    """What a token says that `sign` made. Raises jwt.InvalidTokenError."""
    options: Any = {"verify_aud": False, "require": ["exp", *require]}
    found: dict[str, Any] = jwt.decode(
        token, _signing_key().public_key(), algorithms=["RS256"], issuer=ISSUER, options=options
    )
    return found


# ---- rendering and publishing


def front() -> envoy.Front:
    """The gateway's own settings."""
    home = settings.HOME
    return envoy.Front(
        bind=settings.BIND,
        tls_port=settings.PORT,
        http_port=settings.HTTP_PORT,
        private_port=settings.PRIVATE_PORT,
        xds=home.gateway / "xds",
        access_log=home.logs / "access.jsonl",
        envoy_log=home.logs / "gateway.log",
        admin_socket=home.envoy_admin_socket,
        certificate=home.gateway / "certs" / "tls.crt",
        private_key=home.gateway / "certs" / "tls.key",
        web=f"unix:{home.web_socket}",
        mlflow=f"unix:{home.mlflow_socket}",
        issuer=ISSUER,
        jwks=jwks(),
    )


def write_bootstrap() -> None:
    """What Envoy is started with: its bootstrap, and a configuration as the database has it now."""
    set_rate(limits.get("requests_per_second"))  # the operator may have changed it
    setup = front()
    setup.xds.mkdir(parents=True, exist_ok=True)
    draft = setup.xds.parent / "bootstrap.json.draft"
    draft.write_text(json.dumps(envoy.render_bootstrap(setup), indent=1))
    draft.replace(setup.xds.parent / "bootstrap.json")
    settings.HOME.write_private(setup.xds.parent / "argv.json", json.dumps(envoy.envoy_argv(setup)))
    publish()


def desired() -> tuple[envoy.Endpoint, ...]:
    """Every endpoint with its replicas, as the database has it now."""
    digests: dict[str, dict[str, str]] = {}
    salts: dict[str, str] = {}
    for key in EndpointKey.objects.only("endpoint", "slot", "salt", "digest"):
        digests.setdefault(key.endpoint, {})[key.digest] = key.slot
        salts[key.endpoint] = key.salt
    found = []
    for route in Route.objects.all():
        endpoint = envoy.Endpoint(
            name=route.endpoint,
            auth=(
                envoy.KeyAuth(salts.get(route.endpoint, ""), digests.get(route.endpoint, {}))
                if route.auth == "Key"
                else envoy.TokenAuth(route.endpoint, route.workspace if route.auth == AAD else "")
            ),
            deployments=tuple(_deployment(name, data) for name, data in sorted(route.deployments.items())),
            traffic=route.traffic,
            mirror=route.mirror,
            rate_per_second=route.rate_per_second,
            public=route.public,
            workspace=route.workspace,
        )
        try:
            envoy.check([endpoint])
        except ValueError as error:  # one endpoint that cannot be told must not keep all others from being published
            log.warning("gateway.route_left_out", endpoint=route.endpoint, workspace=route.workspace, reason=str(error))
            continue
        found.append(endpoint)
    return tuple(found)


def _deployment(name: str, data: dict[str, Any]) -> envoy.Deployment:
    """Routes written by an older version lack the fields with a default."""
    replicas = addresses(data["replica_set"])
    grpc_port = data.get("grpc_port")
    return envoy.Deployment(
        name=name,
        replicas=tuple(replicas),
        grpc_replicas=() if grpc_port is None else tuple(probe.grpc_at(each, grpc_port) for each in replicas),
        concurrency=data["concurrency"],
        request_timeout_ms=data["request_timeout_ms"],
        ready_path=data["ready_path"],
        ready_port=data.get("ready_port"),
        session=data["session"],
        idle_timeout_s=data.get("idle_s", REPLICA_IDLE_S),
    )


def publish(*, wait_s: float = 10.0) -> Publication:
    """Give the gateway what the database says. Cheap when nothing changed.

    Raises:
        LeaseTaken: somebody else was publishing for longer than `wait_s`.
    """
    with leases.held("gateway/publish", ttl_s=LEASE_S, wait_s=wait_s) as grant:
        setup, endpoints = front(), desired()
        resources = envoy.render(setup, endpoints)
        digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
        last = Publication.objects.order_by("pk").first() or Publication.objects.create()
        if last.digest == digest and last.accepted:
            return last
        if not leases.holds(grant):  # rendering took so long that somebody else has published newer rows
            raise leases.LeaseTaken(grant.name)
        last.version += 1
        outcome = Publisher(setup.xds, setup.admin_socket, setup.envoy_log).publish(resources, version=last.version)
        last.digest, last.accepted, last.reason, last.seconds = (
            digest,
            outcome.accepted,
            outcome.reason or "",
            outcome.seconds,
        )
        last.save()
        log.info(
            "gateway.published",
            version=last.version,
            accepted=last.accepted,
            changed=outcome.changed,
            seconds=round(outcome.seconds, 3),
        )
        return last


def publish_or_fail() -> None:
    """Publish, for a handler that must know that it worked. Waits for an Envoy that is just starting.

    Raises:
        Problem: "gateway-refused" with Envoy's reason, or "gateway-down" when Envoy does not run.
    """
    deadline = time.monotonic() + STARTING_S
    while (outcome := _try_to_publish()) is None or outcome.accepted is None:
        if time.monotonic() > deadline:
            raise Problem("gateway-down")
        time.sleep(0.1)
    if not outcome.accepted:
        raise Problem("gateway-refused", evidence=outcome.reason)


def _try_to_publish() -> Publication | None:
    try:
        return publish()
    except leases.LeaseTaken:
        return None


@transaction.atomic
def forget_publication() -> None:
    """Make the next `publish()` write everything again, e.g. after the gateway's folder was lost."""
    Publication.objects.all().delete()

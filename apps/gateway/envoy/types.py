"""What the renderer is told: plain frozen values, no database rows."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

NAMESPACE = "portway"
MEBIBYTE = 1024 * 1024
DEFAULT_BODY_LIMIT = 100 * MEBIBYTE
DEFAULT_RATE = 500


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment and the addresses of its replicas: `unix:/abs/path` or `host:port`.

    `ready_port`: where hosts answer `ready_path`, when it is another port. `grpc_replicas`: where the same replicas
    speak gRPC, in the same order; empty when they do not.
    """

    name: str
    replicas: tuple[str, ...]
    concurrency: int
    request_timeout_ms: int
    ready_path: str = "/"
    ready_port: int | None = None
    grpc_replicas: tuple[str, ...] = ()
    session: str = ""
    # Below the model server's own keep-alive (gunicorn 2 s, uvicorn 5 s), or requests meet a closing connection.
    # Longer is better where the server allows it: a connection being opened takes a place in the queue.
    idle_timeout_s: float = 1.5

    @property
    def queue(self) -> int:
        """How many requests may wait: as many as may run, so that 2 x C x N are inside at once."""
        return self.concurrency * max(1, len(self.replicas))


@dataclass(frozen=True, slots=True)
class KeyAuth:
    """Keys as `{hex sha256(salt + key): client name}`; the keys themselves never get here."""

    salt: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """A signed token whose `aud` is exactly this string, or whose `workspaces` hold `workspace`, if there is one."""

    audience: str
    workspace: str = ""


@dataclass(frozen=True, slots=True)
class OpenAuth:
    """No credential at all. Said explicitly, because silence is a 401."""


AUTH_NAMES = {KeyAuth: "key", TokenAuth: "token", OpenAuth: "open"}
Auth: TypeAlias = KeyAuth | TokenAuth | OpenAuth


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    auth: Auth
    deployments: tuple[Deployment, ...]
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    rate_per_second: int = DEFAULT_RATE
    public: bool = True
    body_limit_bytes: int = DEFAULT_BODY_LIMIT
    cors_origins: tuple[str, ...] = ()
    workspace: str = ""

    @property
    def live(self) -> tuple[tuple[Deployment, int], ...]:
        """The deployments that get a share of the split, in the order they were given."""
        return tuple((d, self.traffic[d.name]) for d in self.deployments if self.traffic.get(d.name, 0) > 0)


@dataclass(frozen=True, slots=True)
class Front:
    """The front door of one installation. Paths are absolute: Envoy resolves nothing for us."""

    xds: Path
    admin_socket: Path
    access_log: Path
    envoy_log: Path
    certificate: Path
    private_key: Path
    web: str
    mlflow: str
    issuer: str
    jwks: Mapping[str, Any]
    bind: str = "127.0.0.1"
    tls_port: int = 8443
    http_port: int | None = 8080
    private_bind: str = "127.0.0.1"
    private_port: int | None = None
    trusted_hops: int = 0
    node: str = "portway-gateway-1"
    max_connections: int = 10_000
    access_log_flush_ms: int = 1_000


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed replica address. Exactly one of `path` and `host` is set."""

    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def named(self) -> bool:
        """Whether the host must be looked up in DNS."""
        if not self.host:
            return False
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False

    def render(self) -> Json:
        if self.path:
            return {"pipe": {"path": self.path}}
        return {"socket_address": {"address": self.host, "port_value": self.port}}


UNIX_PATH_MAX = 107
PORT_MAX = 65_535


def parse_address(text: str) -> Address:
    """Turn `unix:/abs/path`, `host:port` or `[v6]:port` into an Address, or raise ValueError with a sentence."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"The socket path in {text!r} is not absolute.")
        if len(path.encode()) > UNIX_PATH_MAX:
            raise ValueError(f"The socket path in {text!r} is longer than the {UNIX_PATH_MAX} bytes the kernel takes.")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"{text!r} is not an address: write unix:/absolute/path or host:port.")
    return Address(host=host, port=int(port))


def cluster_name(endpoint: str, deployment: str) -> str:
    """Never with a dot: Envoy's statistics split names there."""
    return f"dep__{endpoint}__{deployment}"


def grpc_cluster_name(endpoint: str, deployment: str) -> str:
    """No name of ours holds two underscores, so it is no other deployment's."""
    return f"{cluster_name(endpoint, deployment)}__grpc"


def all_clusters(endpoints: Iterable[Endpoint]) -> list[tuple[Endpoint, Deployment]]:
    return [(endpoint, deployment) for endpoint in endpoints for deployment in endpoint.deployments]


def typed(kind: str, **fields: Any) -> Json:
    """An `Any` as Envoy's JSON wants it."""
    return {"@type": f"type.googleapis.com/{kind}", **fields}

"""A gateway with a real Envoy, real upstreams, and the endpoints most tests talk to."""

import dataclasses
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from apps.gateway.certificates import ensure_certificates
from apps.gateway.envoy import (
    Deployment,
    Endpoint,
    Front,
    KeyAuth,
    OpenAuth,
    TokenAuth,
    envoy_argv,
    render,
    render_bootstrap,
)
from apps.gateway.publisher import Published, Publisher
from tests.gateway.upstream import Loop, Upstream, wait_for

SALT = "pepper"
KEY, SECOND = "primary-key-0123456789", "secondary-key-0123456789"
START_S = 30
PATIENT_S = 15.0  # other work may share the machine
SIGNING = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def digest(key: str, salt: str = SALT) -> str:
    return hashlib.sha256((salt + key).encode()).hexdigest()


def keys() -> KeyAuth:
    return KeyAuth(SALT, {digest(KEY): "primary", digest(SECOND): "secondary"})


def jwks() -> dict:
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(SIGNING.public_key()))
    return {"keys": [{**key, "kid": "test", "alg": "RS256", "use": "sig"}]}


def token(audience: str, *, seconds: int = 600, signer=SIGNING, issuer: str = "portway", **more) -> str:
    claims = {"iss": issuer, "aud": audience, "sub": "ada", "exp": int(time.time()) + seconds, **more}
    return jwt.encode(claims, signer, algorithm="RS256", headers={"kid": "test"})


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.loop = Loop()
        self.upstreams: dict[str, Upstream] = {}
        self.tls_port, self.port, self.private_port, self.tcp_port = free_ports(4)
        self.version = 0
        self.process: subprocess.Popen | None = None
        self.files = ensure_certificates(root / "certs", ca_pem=root / "ca.pem")
        for name in ("m1", "m2", "shadow", "web", "mlflow", "one", "two", "slow"):
            self.serve(name)
        self.serve("green", f"127.0.0.1:{self.tcp_port}")
        self.front = Front(
            xds=root / "xds",
            admin_socket=root / "admin.sock",
            access_log=root / "access.jsonl",
            envoy_log=root / "envoy.log",
            certificate=self.files.certificate,
            private_key=self.files.private_key,
            web=self.upstreams["web"].address,
            mlflow=self.upstreams["mlflow"].address,
            issuer="portway",
            jwks=jwks(),
            tls_port=self.tls_port,
            http_port=self.port,
            private_port=self.private_port,
            access_log_flush_ms=50,
        )
        self.publisher = Publisher(self.front.xds, self.front.admin_socket, self.front.envoy_log)

    def serve(self, name: str, address: str | None = None) -> Upstream:
        return self.upstreams.setdefault(name, self.loop.serve(Upstream(name), address or self.socket(name)))

    def socket(self, name: str) -> str:
        return f"unix:{self.root}/{name}.sock"

    def deployment(self, name: str, *upstreams: str, **fields) -> Deployment:
        addresses = tuple(self.upstreams[upstream].address for upstream in upstreams)
        return Deployment(name, addresses, **{"concurrency": 64, "request_timeout_ms": 3000, **fields})

    def main(self, **fields) -> Endpoint:
        given = {
            "traffic": {"blue": 90, "green": 10},
            "mirror": {"shadow": 30},
            "rate_per_second": 1_000_000,
            "body_limit_bytes": 100_000,
            "workspace": "lab",
            **fields,
        }
        deployments = (
            self.deployment("blue", "m1", "m2", session="blue-1"),
            self.deployment("green", "green"),
            self.deployment("shadow", "shadow"),
            Deployment("none", (), 1, 1000),
        )
        return Endpoint("main", given.pop("auth", keys()), deployments, **given)

    def endpoints(self) -> list[Endpoint]:
        blue = (self.deployment("blue", "m1"),)
        all_blue = {"blue": 100}
        return [
            self.main(),
            Endpoint("tok", TokenAuth("tok"), blue, all_blue),
            Endpoint("tok2", TokenAuth("tok2", "lab"), blue, all_blue),
            Endpoint("pub", OpenAuth(), blue, all_blue, cors_origins=("https://a.example",)),
            Endpoint("kcors", keys(), blue, all_blue, cors_origins=("https://a.example",)),
            Endpoint("idle", keys(), blue),
            Endpoint("none", OpenAuth(), (Deployment("blue", (), 1, 1000),), all_blue),
            Endpoint("rated", OpenAuth(), (*blue, self.deployment("green", "green")), all_blue, rate_per_second=5),
            Endpoint("slots", OpenAuth(), (self.deployment("b", "one", concurrency=4),), {"b": 100}),
            Endpoint("slots2", OpenAuth(), (self.deployment("b", "one", "two", concurrency=4),), {"b": 100}),
            Endpoint("slow", OpenAuth(), (self.deployment("b", "slow", request_timeout_ms=300),), {"b": 100}),
            Endpoint("gone", OpenAuth(), (Deployment("b", (self.socket("nobody"),), 4, 1000),), {"b": 100}),
            Endpoint("hid", keys(), blue, all_blue, public=False),
        ]

    def publish(self, endpoints: list[Endpoint], **front) -> Published:
        self.version += 1
        resources = render(dataclasses.replace(self.front, **front), endpoints)
        return self.publisher.publish(resources, version=self.version, timeout_s=PATIENT_S)

    def start(self) -> None:
        bootstrap = self.root / "bootstrap.json"
        bootstrap.write_text(json.dumps(render_bootstrap(self.front)))
        with self.front.envoy_log.open("ab") as log:
            argv = envoy_argv(self.front, bootstrap)
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.publisher.running() and self.listening(), START_S)

    def listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self, sign: int = signal.SIGKILL) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, sign)
            self.process.wait(10)
        self.process = None

    def healthy(self, cluster: str, count: int) -> None:
        wait_for(lambda: self.publisher.stats()[cluster].healthy == count)

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.ca))

    def clear(self) -> None:
        for upstream in self.upstreams.values():
            upstream.clear()
            upstream.ready = True
            upstream.authz = "allow"

    def log_line(self, request_id: str) -> dict:
        def find():
            lines = self.front.access_log.read_text().splitlines()
            return next((line for line in map(json.loads, lines) if line["request_id"] == request_id), None)

        return wait_for(find)

    def close(self) -> None:
        self.stop()
        self.loop.close()

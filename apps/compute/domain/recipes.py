"""What a replica is started from: the frozen recipe of its set, and the driver that runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings

from apps.compute.drivers.base import (
    Driver,
    DriverUnavailable,
    Handle,
    LogChunk,
    LogLine,
    Mount,
    Network,
    ReplicaSpec,
    Resources,
    SpecError,
)
from apps.compute.models import Replica, ReplicaSet
from apps.core.errors import Problem

OWNER = "portway"


@dataclass(frozen=True)
class Recipe:
    """What one revision of a deployment runs; stored as JSON in `ReplicaSet.spec`.

    `port`, `ready_port`, `live_port`: TCP ports of a container; None is the socket, or the port before it.
    `grpc_port`: where it speaks gRPC, None: nowhere. A server on sockets gives any number and listens on `g.sock`.
    `live_path`: "" when being ready is being alive. `probe_s`: how long one question may take.
    `idle_s`: how long the gateway may keep an idle connection; less than the server's own keep-alive.
    `score_path`: what clients call, below the endpoint.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    mounts: tuple[tuple[str, str], ...]
    cpu_milli: int
    mem_bytes: int
    gpus: int = 0
    egress: bool = False
    image: str = ""
    image_user: bool = False
    port: int | None = None
    ready_port: int | None = None
    ready_path: str = "/readyz"
    live_port: int | None = None
    live_path: str = ""
    grpc_port: int | None = None
    score_path: str = "/score"
    probe_s: float = 1.0
    idle_s: float = 25.0
    grace_s: float = 10.0
    start_deadline_s: float = 300.0
    liveness_s: float = 300.0
    labels: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        return cls(**{**data, "argv": tuple(data["argv"]), "mounts": tuple(tuple(each) for each in data["mounts"])})


@lru_cache(maxsize=8)
def driver(name: str) -> Driver:
    """The driver of that name, made once per process.

    Raises:
        Problem: "unsupported", there is none of that name.
        DriverUnavailable: this installation is not set up for it.
    """
    if name == "process":
        from apps.compute.drivers.process import ProcessDriver  # noqa: PLC0415 -- only where replicas are run

        return ProcessDriver(
            root=settings.HOME.replicas, run_dir=settings.HOME.run / "r", require=settings.ISOLATION_REQUIRED or None
        )
    if name == "docker":
        if not settings.DOCKER_URL:  # it may have been switched off: what runs there is then not known, and not gone
            raise DriverUnavailable("this installation has no container engine (PORTWAY_DOCKER)", retry_after=60.0)
        from apps.compute.drivers.docker import DockerDriver  # noqa: PLC0415 -- only where there is an engine

        return DockerDriver(
            url=settings.DOCKER_URL,
            installation=settings.HOME.installation,
            base_image=settings.BASE_IMAGE,
            run_dir=settings.HOME.run / "r",
        )
    if name == "fake":
        from apps.compute.drivers.fake import FakeDriver  # noqa: PLC0415 -- tests and demos only

        return FakeDriver(run_dir=settings.HOME.run / "r")
    raise Problem("unsupported", what=f"Compute driver {name}", reason="there is none of that name")


def drivers() -> list[str]:
    """The drivers of this installation: those it may start replicas with, and those that still have some."""
    used = ReplicaSet.objects.order_by().values_list("driver", flat=True).distinct()
    engines = ["docker"] if settings.DOCKER_URL else []
    return sorted({settings.DEFAULT_DRIVER, *engines, *used})


def replica_name(owner_key: str, revision: int, index: int) -> str:
    """Short, because it is part of a socket's path; the same for the same replica for ever."""
    return f"{hashlib.sha256(owner_key.encode()).hexdigest()[:10]}-r{revision}-{index}"


def spec_of(replica: Replica) -> ReplicaSpec:
    recipe = Recipe.from_json(replica.set.spec)
    return ReplicaSpec(
        name=replica.name,
        owner=OWNER,
        argv=recipe.argv,
        env=recipe.env,
        resources=Resources(cpu_milli=recipe.cpu_milli, mem_bytes=recipe.mem_bytes, gpus=recipe.gpus),
        mounts=tuple(Mount(source, target) for source, target in recipe.mounts),
        labels={**recipe.labels, "owner-key": replica.set.owner_key, "revision": str(replica.set.revision)},
        network=Network.EGRESS if recipe.egress else Network.NONE,
        grace_s=recipe.grace_s,
        image=recipe.image,
        port=recipe.port,
        image_user=recipe.image_user,
    )


def handle_of(replica: Replica) -> Handle | None:
    return Handle(**replica.handle) if replica.handle else None


def validate(recipe: Recipe, driver_name: str) -> None:
    """Ask the driver whether it could ever run the recipe.

    Raises:
        Problem: "unsupported" when it could not; "driver-unavailable" when its back end does not answer.
    """
    probe_spec = ReplicaSpec(
        name="validate",
        owner=OWNER,
        argv=recipe.argv,
        env=recipe.env,
        resources=Resources(recipe.cpu_milli, recipe.mem_bytes, gpus=recipe.gpus),
        mounts=tuple(Mount(source, target) for source, target in recipe.mounts),
        image=recipe.image,
        port=recipe.port,
        image_user=recipe.image_user,
    )
    try:
        with answering():
            driver(driver_name).validate(probe_spec)
    except SpecError as error:
        raise Problem("unsupported", what="This deployment", reason=str(error)) from None


@contextmanager
def answering() -> Iterator[None]:
    """For those who ask on somebody's behalf: a back end that does not answer is Problem "driver-unavailable"."""
    try:
        yield
    except DriverUnavailable as error:
        raise Problem("driver-unavailable", reason=str(error)) from None


def logs(replica: Replica, *, tail: int = 200) -> list[LogLine]:
    with answering():
        return _logs(replica, tail=tail)


def _logs(replica: Replica, *, tail: int) -> list[LogLine]:
    handle = handle_of(replica)
    return driver(replica.set.driver).logs(handle, tail=tail) if handle is not None else []


def mark_log(replica: Replica, *, back: int = 0) -> str:
    """Where the last `back` lines begin; see the driver."""
    with answering():
        return driver(replica.set.driver).mark(_named(replica), back=back)


def read_log(replica: Replica, *, after: str = "") -> LogChunk:
    """The lines behind a mark; also of one that stands down and waits to be started again."""
    with answering():
        return driver(replica.set.driver).read(_named(replica), after=after)


def _named(replica: Replica) -> Handle:
    return handle_of(replica) or Handle(replica.set.driver, replica.name)


def last_line(replica: Replica) -> str:
    """The last line with text that a replica wrote, for the evidence of a problem."""
    lines = [line.text for line in _logs(replica, tail=30) if line.text.strip()]
    return lines[-1][:400] if lines else ""

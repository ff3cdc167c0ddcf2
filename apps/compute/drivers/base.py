"""What a compute driver is: plain Python over frozen dataclasses, no Django.

A driver starts *replicas*: one model server each. It knows nothing of endpoints or deployments. Callers are Celery
workers and the controller; both may call at the same time for different replicas, never for the same one (they hold
the lease of the replica's set).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

SOCKET_DIR = "/run/s"
"""Where a replica finds its socket folder when the driver can bind mount; else see `ReplicaSpec`."""

SOCKET_NAME = "m.sock"
GRPC_SOCKET_NAME = "g.sock"
FAILURE_NAME = "failure.json"


class Network(StrEnum):
    NONE = "none"
    EGRESS = "egress"


class State(StrEnum):
    STARTING = "starting"  # the process exists or is about to; its socket is not there yet
    RUNNING = "running"  # alive, socket present. Says nothing about readiness: callers probe
    EXITED = "exited"
    GONE = "gone"  # the driver has no trace of it


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine that the replica sees read-only at `target` (absolute)."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Resources:
    """What one replica may use: thousandths of a core, bytes, processes and threads, whole graphics cards."""

    cpu_milli: int
    mem_bytes: int
    pids: int = 512
    gpus: int = 0


@dataclass(frozen=True)
class ReplicaSpec:
    """Everything a driver needs to start one replica.

    `name` is unique in the installation and safe as a file name (letters, digits, dashes; at most 63). A driver that
    cannot bind mount rewrites each argument and each environment value that equals a mount's target, or starts with
    target + "/", to the source; callers therefore always write targets.
    The replica listens on the unix socket SOCKET_DIR/SOCKET_NAME, unless it names a `port`, and may leave
    SOCKET_DIR/FAILURE_NAME (JSON with `code`, `message`, `evidence`) when it gives up by itself.

    For drivers with containers only; the others refuse them:
    `image`: what it runs in; "" is the driver's own base image. `argv` may then be empty: the image's own command.
    `port`: it listens on this TCP port of its own address instead of the socket.
    `image_user`: it runs as the image's own user instead of one without any rights.
    """

    name: str
    owner: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    resources: Resources
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    network: Network = Network.NONE
    grace_s: float = 10.0
    image: str = ""
    port: int | None = None
    image_user: bool = False

    @property
    def contained(self) -> bool:
        """Whether only a driver with containers can run it."""
        return bool(self.image) or self.port is not None or self.image_user


@dataclass(frozen=True)
class Handle:
    """How to find a replica again after any restart of the control plane; JSON, stored with the replica."""

    driver: str
    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """What a replica wrote about its own end."""

    code: str
    message: str
    evidence: str = ""


@dataclass(frozen=True)
class Observation:
    """What is true of one replica now. `exit_code` is None while it lives; a death by signal N is -N."""

    name: str
    state: State
    address: str | None = None  # "unix:/path" or "host:port"; None until the server listens
    exit_code: int | None = None
    oom: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None  # when it is known
    failure: Failure | None = None
    isolation: str = ""  # the level reached, e.g. "bwrap+cgroup", for people to read


@dataclass(frozen=True)
class Usage:
    """`cpu_seconds` since the start of the replica; `mem_bytes` is what it holds now."""

    cpu_seconds: float
    mem_bytes: int


@dataclass(frozen=True)
class LogLine:
    at: datetime
    text: str
    stream: str = "stdout"


@dataclass(frozen=True)
class LogChunk:
    """Some lines of a log, and the mark behind them: what `read` goes on from. No lines: there are no more yet."""

    lines: list[LogLine]
    mark: str


class DriverError(Exception):
    """Base of what a driver raises; `str(error)` may be shown to the user."""


class SpecError(DriverError):
    """The spec can never run here: more memory than the machine has, an unknown mount source, a bad name."""


class CapacityError(DriverError):
    """It could run, but not now."""


class ImageError(DriverError):
    """The program to run is missing or broken (interpreter, image)."""


class DriverUnavailable(DriverError):  # noqa: N818 -- it is a condition, callers wait and try again
    """The back end does not answer; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Driver(Protocol):
    name: str

    def validate(self, spec: ReplicaSpec) -> None:
        """Raise SpecError when this spec can never be started here. Cheap; starts nothing."""

    def start(self, spec: ReplicaSpec) -> Handle:
        """Start the replica, adopt a living one of that name, replace a dead one. Does not wait for readiness."""

    def observe(self, handle: Handle) -> Observation:
        """Tell what is true now. Never raises for a replica that is gone.

        Raises DriverUnavailable when the back end does not answer: nothing is known then, least of all that it ended.
        """

    def stop(self, handle: Handle, *, grace_s: float) -> None:
        """TERM, wait up to `grace_s` seconds, KILL. Nothing of it is left then. Fine when it is already gone."""

    def forget(self, handle: Handle) -> None:
        """Remove what a replica left behind (logs, exit record, socket folder); stops it first when it lives.

        Callers keep the log elsewhere before: `read` gives all of it.
        """

    def logs(self, handle: Handle, *, tail: int = 200) -> list[LogLine]:
        """The last `tail` lines, oldest first; also after the replica is dead, until `forget`."""

    def mark(self, handle: Handle, *, back: int = 0) -> str:
        """Where the last `back` lines begin, to `read` from; "" (the beginning) when there are no more than that."""

    def read(self, handle: Handle, *, after: str = "", most_bytes: int = 2**18) -> LogChunk:
        """The lines behind a mark, about `most_bytes` of them at once; never waits.

        A replica that is started again under its name goes on in the same log. A mark that is no longer (the log was
        rotated past it, or begun anew) is taken for the beginning of what there is; any text is a mark.
        """

    def follow(self, handle: Handle, *, timeout_s: float) -> Iterator[LogLine]:
        """Lines as they come, from now on; ends after `timeout_s` seconds or when the replica is gone."""

    def usage(self, handle: Handle) -> Usage | None:
        """None when it does not run."""

    def list(self, *, owner: str) -> list[Handle]:
        """Everything of this owner that this driver knows, living or dead; one cheap call."""

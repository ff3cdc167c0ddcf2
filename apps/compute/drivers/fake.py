"""A driver without processes that goes wrong on demand: for tests, demos and work on the pages.

Replicas live in this process's memory, and each serves real HTTP on a unix socket, so that probes and the gateway work.
"""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from apps.compute.drivers.base import (
    SOCKET_NAME,
    CapacityError,
    DriverUnavailable,
    Failure,
    Handle,
    ImageError,
    LogChunk,
    LogLine,
    Observation,
    ReplicaSpec,
    SpecError,
    State,
    Usage,
)

LABEL = "fake."
LOG_LINES = 10_000
LONGEST_MARK = 19
BODY_BYTES = 16 * 1024 * 1024
IDLE_SECONDS = 60.0
POLL_SECONDS = 0.02
OOM_EXIT, INIT_EXIT, CRASH_EXIT = -9, 3, 1
HEALTHY = b"Healthy"


class Fault(StrEnum):
    """Where it goes wrong; `fail_on` or the label `fake.fail_on`."""

    VALIDATE = "validate"  # SpecError
    START = "start"  # DriverUnavailable
    IMAGE = "image"  # ImageError
    NEVER = "never"  # stays STARTING
    EXIT = "exit"  # ends at once with code 3 and a failure report
    OOM = "oom"  # ends at once, killed for its memory
    PROBE = "probe"  # runs, and answers GET / with 503
    SCORE = "score"  # runs, and answers POST /score with 500
    STOP = "stop"  # ignores TERM: takes the whole grace, then KILL


@dataclass(frozen=True)
class Behaviour:
    start_delay: float = 0.0
    fail_on: Fault | None = None
    die_after: float | None = None
    score_delay: float = 0.0


@dataclass
class Replica:
    """One fake replica: its state, its log and, while it runs, its server."""

    spec: ReplicaSpec
    behaviour: Behaviour
    socket: Path
    started_at: datetime = field(default_factory=lambda: datetime.fromtimestamp(time.time(), UTC))
    born: float = field(default_factory=time.monotonic)
    exit_code: int | None = None
    oom: bool = False
    ended_at: datetime | None = None
    failure: Failure | None = None
    server: Server | None = None
    in_flight: int = 0
    requests: int = 0
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    written: int = 0
    log_name: str = field(default_factory=lambda: str(time.time_ns()))
    lock: threading.RLock = field(default_factory=threading.RLock)
    timers: list[threading.Timer] = field(default_factory=list)

    def log(self, text: str, stream: str = "stdout") -> None:
        with self.lock:
            self.lines.append(LogLine(datetime.fromtimestamp(time.time(), UTC), text, stream))
            self.written += 1

    @property
    def living(self) -> bool:
        return self.exit_code is None

    def begin(self) -> None:
        self.log(f"starting {' '.join(self.spec.argv)}")
        fault = self.behaviour.fail_on
        if fault is Fault.NEVER:
            return
        if fault in {Fault.EXIT, Fault.OOM} or self.behaviour.start_delay <= 0:
            self.arrive()
        else:
            self.later(self.behaviour.start_delay, self.arrive)

    def later(self, seconds: float, action: object) -> None:
        timer = threading.Timer(seconds, action)  # type: ignore[arg-type]
        timer.daemon = True
        self.timers.append(timer)
        timer.start()

    def arrive(self) -> None:
        """The moment a real server would listen."""
        fault = self.behaviour.fail_on
        with self.lock:
            if not self.living:
                return
            if fault is Fault.EXIT:
                self.end(INIT_EXIT, failure=Failure("init_failed", "init() raised an error.", "RuntimeError: fake"))
            elif fault is Fault.OOM:
                self.end(OOM_EXIT, oom=True)
            else:
                self.serve()

    def serve(self) -> None:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        self.server = Server(self)
        threading.Thread(target=self.server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        self.log("listening")
        if self.behaviour.die_after is not None:
            self.later(self.behaviour.die_after, lambda: self.end(CRASH_EXIT))

    def end(self, code: int, *, oom: bool = False, failure: Failure | None = None) -> None:
        with self.lock:
            if not self.living:
                return
            self.log(f"ended with {code}", "stderr")  # before it counts as ended: who follows the log stops then
            self.exit_code, self.oom, self.failure = code, oom, failure
            self.ended_at = datetime.fromtimestamp(time.time(), UTC)
            server, self.server = self.server, None
        for timer in self.timers:
            timer.cancel()
        if server:
            server.end()
        self.socket.unlink(missing_ok=True)

    def stop(self, grace_s: float) -> None:
        """As a real server on TERM: take no new connection, finish what is in flight, end; KILL after the grace."""
        deadline = time.monotonic() + grace_s
        stubborn = self.behaviour.fail_on is Fault.STOP
        if not stubborn and self.server:
            self.socket.unlink(missing_ok=True)
        while (stubborn or self.in_flight) and self.living and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.end(OOM_EXIT if stubborn or self.in_flight else 0)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        super().__init__(str(replica.socket), Answer)
        replica.socket.chmod(0o666)

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    timeout = IDLE_SECONDS

    @property
    def replica(self) -> Replica:
        return self.server.replica

    def do_GET(self) -> None:
        ill = self.replica.behaviour.fail_on is Fault.PROBE
        self.reply(503 if ill else 200, b"Unhealthy" if ill else HEALTHY, "text/plain")

    def do_POST(self) -> None:
        replica = self.replica
        with replica.lock:
            replica.in_flight += 1
            replica.requests += 1
        try:
            self.score(replica)
        finally:
            with replica.lock:
                replica.in_flight -= 1

    def score(self, replica: Replica) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES:
            self.close_connection = True
            self.reply(413, b"{}", "application/json")
            return
        body = self.rfile.read(length)
        time.sleep(replica.behaviour.score_delay)
        if replica.behaviour.fail_on is Fault.SCORE:
            self.reply(500, b'{"error": "fake"}', "application/json")
            return
        value: object = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError):
            value = json.loads(body)
        echo = {"replica": replica.spec.name, "path": self.path, "echo": value}
        self.reply(200, json.dumps(echo).encode(), "application/json")

    def reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
        self.replica.log(format % args)


_registries: dict[str, dict[str, Replica]] = {}
_registries_lock = threading.RLock()


class FakeDriver:
    """The fault-injecting driver. Drivers with the same `registry` share their replicas, as two workers would.

    Each behaviour can be given per replica by a label: `fake.start_delay`, `fake.fail_on`, `fake.die_after`,
    `fake.score_delay`. `capacity`: how many replicas may live at once.
    """

    name = "fake"

    def __init__(
        self,
        *,
        start_delay: float = 0.0,
        fail_on: Fault | str | None = None,
        die_after: float | None = None,
        score_delay: float = 0.0,
        capacity: int | None = None,
        registry: str = "default",
        run_dir: Path | None = None,
    ) -> None:
        self.behaviour = Behaviour(start_delay, Fault(fail_on) if fail_on else None, die_after, score_delay)
        self.capacity = capacity
        with _registries_lock:
            self.replicas = _registries.setdefault(registry, {})
        self.run_dir = run_dir or Path(tempfile.gettempdir()) / f"pw-fake-{os.getpid()}-{registry}"

    def _behaviour(self, spec: ReplicaSpec) -> Behaviour:
        given = {key.removeprefix(LABEL): value for key, value in spec.labels.items() if key.startswith(LABEL)}
        usual = self.behaviour
        try:
            return Behaviour(
                start_delay=float(given.get("start_delay", usual.start_delay)),
                fail_on=Fault(given["fail_on"]) if given.get("fail_on") else usual.fail_on,
                die_after=float(given["die_after"]) if given.get("die_after") else usual.die_after,
                score_delay=float(given.get("score_delay", usual.score_delay)),
            )
        except ValueError as error:
            raise SpecError(f"A label of the fake driver has a wrong value: {error}.") from error

    def validate(self, spec: ReplicaSpec) -> None:
        if self._behaviour(spec).fail_on is Fault.VALIDATE:
            raise SpecError("The fake driver was told to refuse this spec.")
        if not spec.argv:
            raise SpecError("The program is missing.")

    def start(self, spec: ReplicaSpec) -> Handle:
        self.validate(spec)
        behaviour = self._behaviour(spec)
        handle = Handle(self.name, spec.name)
        with _registries_lock:
            present = self.replicas.get(spec.name)
            if present and present.living:
                return handle
            if behaviour.fail_on is Fault.START:
                raise DriverUnavailable("The fake driver was told not to answer.", retry_after=1.0)
            if behaviour.fail_on is Fault.IMAGE:
                raise ImageError("The fake driver was told that the program is missing.")
            if self.capacity is not None and sum(one.living for one in self.replicas.values()) >= self.capacity:
                raise CapacityError(f"The fake driver holds {self.capacity} replicas at most.")
            replica = Replica(spec, behaviour, self.run_dir / spec.name / SOCKET_NAME)
            if present:  # its log goes on
                replica.lines, replica.written, replica.log_name = present.lines, present.written, present.log_name
            self.replicas[spec.name] = replica
            replica.begin()
        return handle

    def observe(self, handle: Handle) -> Observation:
        replica = self.replicas.get(handle.name)
        if replica is None:
            return Observation(handle.name, State.GONE)
        with replica.lock:
            running = replica.server is not None
            state = State.RUNNING if running else State.STARTING
            return Observation(
                handle.name,
                state if replica.living else State.EXITED,
                address=f"unix:{replica.socket}" if running else None,
                exit_code=replica.exit_code,
                oom=replica.oom,
                started_at=replica.started_at,
                ended_at=replica.ended_at,
                failure=replica.failure,
                isolation="none (fake)",
            )

    def stop(self, handle: Handle, *, grace_s: float) -> None:
        replica = self.replicas.get(handle.name)
        if replica and replica.living:
            replica.stop(grace_s)

    def forget(self, handle: Handle) -> None:
        self.stop(handle, grace_s=0.0)
        replica = self.replicas.pop(handle.name, None)
        if replica:
            with contextlib.suppress(OSError):
                replica.socket.parent.rmdir()
                self.run_dir.rmdir()

    def logs(self, handle: Handle, *, tail: int = 200) -> list[LogLine]:
        replica = self.replicas.get(handle.name)
        if replica is None or tail <= 0:
            return []
        with replica.lock:
            return list(replica.lines)[-tail:]

    def mark(self, handle: Handle, *, back: int = 0) -> str:
        replica = self.replicas.get(handle.name)
        at = replica.written - back if replica else 0
        return f"{replica.log_name}+{at}" if replica and at > 0 else ""

    def read(self, handle: Handle, *, after: str = "", most_bytes: int = 2**18) -> LogChunk:
        replica = self.replicas.get(handle.name)
        if replica is None:
            return LogChunk([], after)
        with replica.lock:
            oldest = replica.written - len(replica.lines)
            name, _, text = after.partition("+")
            fits = name == replica.log_name and text.isascii() and text.isdigit() and len(text) < LONGEST_MARK
            number = int(text) if fits and oldest <= int(text) <= replica.written else oldest
            lines: list[LogLine] = []
            size = 0
            for line in list(replica.lines)[number - oldest :]:
                if size >= most_bytes:
                    break
                lines.append(line)
                size += len(line.text)
            return LogChunk(lines, f"{replica.log_name}+{number + len(lines)}")

    def follow(self, handle: Handle, *, timeout_s: float) -> Iterator[LogLine]:
        replica = self.replicas.get(handle.name)
        return iter(()) if replica is None else self._follow(replica, replica.written, timeout_s)

    @staticmethod
    def _follow(replica: Replica, seen: int, timeout_s: float) -> Iterator[LogLine]:
        deadline = time.monotonic() + timeout_s
        while True:
            over = not replica.living or time.monotonic() >= deadline
            with replica.lock:
                count, seen = replica.written - seen, replica.written
                fresh = list(replica.lines)[-count:] if count else []
            yield from fresh
            if over:
                return
            time.sleep(POLL_SECONDS)

    def usage(self, handle: Handle) -> Usage | None:
        replica = self.replicas.get(handle.name)
        if replica is None or not replica.living:
            return None
        elapsed = time.monotonic() - replica.born
        return Usage(cpu_seconds=elapsed * 0.01, mem_bytes=replica.spec.resources.mem_bytes // 4)

    def list(self, *, owner: str) -> list[Handle]:
        with _registries_lock:
            return [Handle(self.name, name) for name, one in sorted(self.replicas.items()) if one.spec.owner == owner]

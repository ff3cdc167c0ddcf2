"""One node at work for one job, in a thread of whichever Celery worker holds the node: what all kinds of work share.

It may be killed anywhere: what was committed is committed, and the rest is queued again by whoever takes the node away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from django.conf import settings as live
from django.db import connection

from apps.batch.engine import claims, joblogs, lifecycle
from apps.batch.engine.claims import Fenced, Hold
from apps.batch.engine.crew import failure
from apps.batch.engine.launch import Launch
from apps.batch.enums import NodeState
from apps.batch.models import Job, Node
from apps.batch.settings import JobSettings
from apps.compute import domain as compute
from apps.compute.drivers.base import (
    Driver,
    DriverError,
    DriverUnavailable,
    Handle,
    LogLine,
    Mount,
    Observation,
    State,
)
from apps.core.errors import Problem

log = structlog.get_logger(__name__)

TURN_S = 0.1
LOOK_S = 0.5
LOG_S = 1.0


class Stop(Exception):  # noqa: N818 -- how the loop ends, not an error
    """The node is to be given up; `reason` is for the log."""


class NodeThread(threading.Thread):
    """Works on `job` with the node of `hold`; `over` is called when it is done, however."""

    def __init__(
        self,
        hold: Hold,
        job: Job,
        node: Node,
        *,
        stopping: threading.Event,
        over: Callable[[Hold], None],
    ) -> None:
        super().__init__(daemon=True, name=f"node-{hold.node}")
        self.hold, self.job, self.node = hold, job, node
        self.settings = JobSettings.of(job.settings)
        self.launch = Launch.of(job.launch or {})
        self.stopping = stopping
        self._over = over
        self._handle: Handle | None = None
        self._seen: Observation | None = None
        self._seen_at = 0.0
        self._log_mark = ""

    # -- the thread

    def run(self) -> None:
        try:
            self._work()
        except Fenced:
            log.warning("node.fenced", node=self.hold.node, job=self.job.name)
        except Problem as problem:
            self._fail(problem)
        except Exception as error:
            log.exception("node.crashed", node=self.hold.node, job=self.job.name)
            self._fail(Problem("internal", evidence=f"{type(error).__name__}: {error}"[:300]))
        finally:
            try:
                self._clear()
                self._over(self.hold)
            except Exception:
                log.exception("node.clear_failed", node=self.hold.node)
            connection.close()

    def _fail(self, problem: Problem) -> None:
        try:
            claims.renew(self.hold)
            lifecycle.fail(self.job, problem)
        except Fenced:
            log.warning("node.fenced", node=self.hold.node, job=self.job.name)

    def _work(self) -> None:
        raise NotImplementedError

    # -- the program

    @property
    def _driver(self) -> Driver:
        return compute.driver(self.launch.driver)

    def _launched(self, *mounts: Mount) -> None:
        """Start the program of the job. Raises Problem, Stop, Fenced."""
        labels = {"workspace": self.job.workspace.name, "job": self.job.name}
        spec = self.launch.spec(self.node, *mounts, labels=labels)
        deadline = time.monotonic() + live.START_DEADLINE_S
        while self._handle is None:
            try:
                self._handle = self._driver.start(spec)
            except DriverUnavailable as error:
                if time.monotonic() > deadline:
                    raise Problem("driver-unavailable", reason=str(error)) from None
                claims.renew(self.hold)
                self._look()
                time.sleep(1.0)
            except DriverError as error:
                raise Problem("unsupported", what="This job", reason=str(error)) from None

    def _observe(self) -> Observation | None:
        """What the driver says, asked at most ten times a second."""
        if self._handle is not None and time.monotonic() - self._seen_at > TURN_S:
            self._seen_at = time.monotonic()
            try:
                self._seen = self._driver.observe(self._handle)
            except DriverUnavailable:
                return self._seen
        return self._seen

    def _ended(self) -> dict[str, Any] | None:
        """Why the whole program is gone, None while it lives."""
        seen = self._observe()
        if seen is None or seen.state in {State.STARTING, State.RUNNING}:
            return None
        if seen.oom:
            text = (
                f"The node's worker used more than its {self.node.mem_bytes / 2**20:.0f} MiB of memory and was ended."
            )
            return failure("OutOfMemory", text)
        told = seen.failure
        if told is not None:
            return failure(told.code, told.message, told.evidence)
        return failure("WorkerDied", f"The node's worker ended with exit code {seen.exit_code}.")

    # -- whether to go on

    def _look(self) -> tuple[int, int]:
        """(mini-batches left, nodes at work) of the job. Raises Stop when there is nothing to do here any more."""
        job = Job.objects.only("state", "total", "done", "failed").get(pk=self.job.pk)
        if job.state not in claims.RUNNING_JOBS:
            raise Stop(f"the job is {job.get_state_display().lower()}")
        states = list(Node.objects.filter(job=job).values_list("pk", "state", "token"))
        mine = next((each for each in states if each[0] == self.hold.pk), None)
        if mine is None or mine[2] != self.hold.token:
            raise Fenced(self.hold.node)
        if mine[1] == NodeState.PREEMPTED:
            raise Stop("it was preempted")
        return job.total - job.done - job.failed, len(states)

    def _note(self, text: str) -> None:
        joblogs.note(self.job, f"node {self.hold.node}: {text}")

    def _read_log(self) -> None:
        if self._handle is None:
            return
        try:
            for _ in range(16):  # what is printed faster than that is read with the next second
                chunk = self._driver.read(self._handle, after=self._log_mark)
                self._keep_log(chunk.lines)
                self._log_mark = chunk.mark
                if not chunk.lines:
                    return
        except DriverUnavailable as error:
            log.warning("node.log_unread", node=self.hold.node, reason=str(error))

    def _keep_log(self, lines: Sequence[LogLine]) -> None:
        joblogs.sort_out(self.job, self.hold.node, lines)

    def _clear(self) -> None:
        if self._handle is None:
            return
        try:
            self._driver.stop(self._handle, grace_s=1.0)
            self._read_log()
            self._driver.forget(self._handle)
        except DriverUnavailable as error:  # the sweep of its host removes it later
            log.warning("node.not_cleared", node=self.hold.node, reason=str(error))


class Every:
    """Tells when something is due again; at first at once."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def due(self, name: str, period_s: float) -> bool:
        now = time.monotonic()
        if now - self._last.get(name, -1e9) < period_s:
            return False
        self._last[name] = now
        return True

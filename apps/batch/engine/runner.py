"""One node at work for one job: start its worker, feed it mini-batches, commit what comes back, until nothing is left.

It runs in a thread of whichever Celery worker holds the node. It may be killed anywhere: what was committed is
committed, and the rest is queued again by whoever takes the node away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings as live
from django.db import connection
from django.db.models import F
from django.utils import timezone

from apps.batch.engine import claims, folders, joblogs, lifecycle
from apps.batch.engine.claims import Ended, Fenced, Hold
from apps.batch.engine.crew import Crew, Outcome, failure
from apps.batch.engine.inputs import Fetched, Inputs, Mounted
from apps.batch.engine.launch import INPUT, Launch
from apps.batch.engine.results import Segment
from apps.batch.enums import NodeState
from apps.batch.models import Job, Node
from apps.batch.settings import JobSettings
from apps.compute import domain as compute
from apps.compute.drivers.base import Driver, DriverError, DriverUnavailable, Handle, Mount, Observation, State
from apps.core.errors import Problem
from apps.registry import locations

log = structlog.get_logger(__name__)

TURN_S = 0.1
FLUSH_S = 0.25
FLUSH_AT = 256
LOOK_S = 0.5
LOG_S = 1.0
AHEAD_S = 1.0  # of work that is claimed before it is due
MOST_CLAIMED = 512
START_TRIES = 3  # of init() before any process of the node has come up
MOST_DEATHS = 20  # of programs or processes that end without a word before they are ready
FATAL = {"UnsupportedFile", "SignatureMismatch"}  # no other attempt could end better


class Stop(Exception):  # noqa: N818 -- how the loop ends, not an error
    """The node is to be given up; `reason` is for the log."""


class Runner(threading.Thread):
    """Runs `job` on the node of `hold`; `over` is called when it is done, however."""

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
        self._buffer: list[Ended] = []
        self._segment: Segment | None = None

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
        inputs = self._inputs()
        crew = Crew(
            self._address,
            self.settings.max_concurrency_per_instance,
            timeout_s=self.settings.timeout_ms / 1000,
            start_s=live.START_DEADLINE_S,
        )
        try:
            self._start()
            self._loop(crew, inputs)
        except Stop as stop:
            self._note(f"given up: {stop}")
            self._commit(crew, inputs)
            claims.give_back(self.hold, crew.unfinished)
        finally:
            crew.close()
            inputs.close()
            if self._segment is not None:
                self._segment.close()

    def _inputs(self) -> Inputs:
        if any(target == INPUT for _source, target, _read_only in self.launch.mounts):
            return Mounted()
        location = locations.resolve(
            next(iter(self.job.inputs.values()))["uri"], workspace=self.job.workspace, actor=None
        )
        return Fetched(location, folders.stage(self.job, self.hold.node))

    # -- the worker's program

    @property
    def _driver(self) -> Driver:
        return compute.driver(self.launch.driver)

    def _start(self) -> None:
        more: tuple[Mount, ...] = ()
        if not any(target == INPUT for _source, target, _read_only in self.launch.mounts):
            more = (Mount(str(folders.stage(self.job, self.hold.node)), INPUT),)
        labels = {"workspace": self.job.workspace.name, "job": self.job.name}
        spec = self.launch.spec(self.node, *more, labels=labels)
        self._note(
            f"starting on host {self.node.host or '-'} with {self.settings.max_concurrency_per_instance} processes"
        )
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

    def _address(self) -> str | None:
        seen = self._observe()
        return seen.address if seen is not None and seen.state is State.RUNNING else None

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

    # -- the loop

    def _loop(self, crew: Crew, inputs: Inputs) -> None:
        pace = Pace(len(crew.workers))
        every = Every()
        dry = False  # nothing was left to claim when we last asked
        while True:
            if self.stopping.is_set():
                raise Stop("its host is stopping")
            if every.due("look", LOOK_S):
                pace.share(*self._look())
                dry = False
            if not dry and len(crew.queue) < len(crew.workers):
                claimed = claims.claim(self.hold, self.job, pace.most())
                inputs.want(claimed)
                dry = not claimed
            self._hand_over(crew, inputs)
            crew.turn(TURN_S)
            pace.saw(len(crew.outcomes), len(crew.workers))
            self._take(crew, inputs)
            self._starts(crew)
            if (every.due("flush", FLUSH_S) or len(self._buffer) >= FLUSH_AT) and self._commit(crew, inputs):
                dry = False  # what failed may be tried again
            if every.due("log", LOG_S):
                self._read_log()
            if dry and not crew.unfinished and not self._buffer and not inputs.waiting:
                return

    def _hand_over(self, crew: Crew, inputs: Inputs) -> None:
        for claimed, problem in inputs.ready():
            if problem is None:
                crew.queue.append(claimed)
            else:
                error = failure("InputUnreadable", problem.message, problem.evidence)
                self._buffer.append(Ended(claimed, 0, timezone.now(), 0, error=error))

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

    def _take(self, crew: Crew, inputs: Inputs) -> None:
        outcomes, crew.outcomes = crew.outcomes, []
        for each in outcomes:
            inputs.done(each.claimed)
            self._buffer.append(self._kept(each))

    def _kept(self, outcome: Outcome) -> Ended:
        piece = None
        if outcome.error is None and outcome.body:
            if self._segment is None:
                self._segment = Segment(folders.parts(self.job), f"{self.hold.node}-{self.hold.token}.seg")
            piece = self._segment.append(outcome.body)
        return Ended(
            outcome.claimed,
            outcome.process,
            outcome.started_at,
            outcome.duration_ms,
            rows=outcome.rows,
            piece=piece,
            error=outcome.error,
        )

    def _commit(self, crew: Crew, inputs: Inputs) -> bool:
        """Write what has ended; whether an attempt failed. Raises Fenced, Problem for a fatal error."""
        self._take(crew, inputs)
        ended, self._buffer = self._buffer, []
        if self._segment is not None and any(each.piece for each in ended):
            self._segment.secure()
        claims.commit(self.hold, self.job, self.settings, ended)
        bad = [each for each in ended if each.error is not None]
        for each in bad:
            self._report(each)
        if ended:
            lifecycle.advanced(self.job)
        fatal = next((each for each in bad if each.error is not None and each.error["code"] in FATAL), None)
        if fatal is not None and fatal.error is not None:
            raise _as_problem(fatal.error)
        return bool(bad)

    def _report(self, ended: Ended) -> None:
        error = ended.error or {}
        head = f"mini-batch {ended.claimed.number}, attempt {ended.claimed.attempt + 1}: {error['message']}"
        joblogs.note(self.job, f"{head} {error['evidence']}".rstrip(), name=joblogs.ERRORS)
        if error.get("trace"):
            name = f"logs/user/error/{self.hold.node}.txt"
            joblogs.append(self.job, name, [head, error["trace"]])

    def _starts(self, crew: Crew) -> None:
        """End the job when init() fails, the node when its program has ended."""
        told = [each for each in crew.failed_starts if each["code"] != "WorkerDied"]
        if told and not crew.was_ready and len(told) >= START_TRIES:
            raise _as_problem(told[-1])
        if len(crew.failed_starts) >= MOST_DEATHS:
            raise _as_problem(crew.failed_starts[-1])
        gone = self._ended()
        if gone is None:
            return
        for claimed in crew.busy:  # each is a failed attempt: what ends the node must not be tried for ever
            self._buffer.append(Ended(claimed, 0, timezone.now(), 0, error=gone))
        for worker in crew.workers:
            worker.claimed = None
        if not crew.was_ready and (gone["code"] != "WorkerDied" or self._deaths() >= MOST_DEATHS):
            raise _as_problem(gone)
        self._note(f"the worker ended: {gone['message']}")
        raise Stop(gone["message"])

    def _deaths(self) -> int:
        """How often a node of this job ended without a word before it was ready; somebody may have killed it."""
        Job.objects.filter(pk=self.job.pk).update(deaths=F("deaths") + 1)
        return int(Job.objects.values_list("deaths", flat=True).get(pk=self.job.pk))

    # -- logs and the end

    def _note(self, text: str) -> None:
        joblogs.note(self.job, f"node {self.hold.node}: {text}")

    def _read_log(self) -> None:
        if self._handle is None:
            return
        try:
            for _ in range(16):  # what is printed faster than that is read with the next second
                chunk = self._driver.read(self._handle, after=self._log_mark)
                joblogs.sort_out(self.job, self.hold.node, chunk.lines)
                self._log_mark = chunk.mark
                if not chunk.lines:
                    return
        except DriverUnavailable as error:
            log.warning("node.log_unread", node=self.hold.node, reason=str(error))

    def _clear(self) -> None:
        if self._handle is None:
            return
        try:
            self._driver.stop(self._handle, grace_s=1.0)
            self._read_log()
            self._driver.forget(self._handle)
        except DriverUnavailable as error:  # the sweep of its host removes it later
            log.warning("node.not_cleared", node=self.hold.node, reason=str(error))


def _as_problem(error: dict[str, Any]) -> Problem:
    return Problem("job-script", reason=error["message"], evidence=error["evidence"] or error["code"])


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


class Pace:
    """How much to claim at once: about AHEAD_S of work, and never so much that other nodes go hungry at the end."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._per_s = 0.0
        self._count = 0
        self._since = time.monotonic()
        self._fair = workers

    def share(self, remaining: int, nodes: int) -> None:
        self._fair = max(self._workers, remaining // (2 * max(1, nodes)))

    def saw(self, outcomes: int, workers: int) -> None:
        self._workers = workers
        self._count += outcomes
        took = time.monotonic() - self._since
        if took >= LOOK_S:
            self._per_s = self._count / took
            self._count, self._since = 0, time.monotonic()

    def most(self) -> int:
        return max(1, min(MOST_CLAIMED, self._fair, max(2 * self._workers, int(self._per_s * AHEAD_S))))

"""A node at work for a scoring job: starts its worker, feeds it mini-batches, commits what comes back."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings as live
from django.db.models import F
from django.utils import timezone

from apps.batch.engine import claims, folders, joblogs, lifecycle
from apps.batch.engine.claims import Ended
from apps.batch.engine.crew import Crew, Outcome, failure
from apps.batch.engine.inputs import Fetched, Inputs, Mounted
from apps.batch.engine.launch import INPUT
from apps.batch.engine.node_thread import LOG_S, LOOK_S, TURN_S, Every, NodeThread, Stop
from apps.batch.engine.results import Segment
from apps.batch.models import Job
from apps.compute.drivers.base import Mount, State
from apps.core.errors import Problem
from apps.registry import locations

FLUSH_S = 0.25
FLUSH_AT = 256
AHEAD_S = 1.0  # of work that is claimed before it is due
MOST_CLAIMED = 512
START_TRIES = 3  # of init() before any process of the node has come up
MOST_DEATHS = 20  # of programs or processes that end without a word before they are ready
FATAL = {"UnsupportedFile", "SignatureMismatch"}  # no other attempt could end better


class Runner(NodeThread):
    """Of a scoring job: feeds its worker mini-batches and commits what comes back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._buffer: list[Ended] = []
        self._segment: Segment | None = None

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

    def _start(self) -> None:
        more: tuple[Mount, ...] = ()
        if not any(target == INPUT for _source, target, _read_only in self.launch.mounts):
            more = (Mount(str(folders.stage(self.job, self.hold.node)), INPUT),)
        self._note(
            f"starting on host {self.node.host or '-'} with {self.settings.max_concurrency_per_instance} processes"
        )
        self._launched(*more)

    def _address(self) -> str | None:
        seen = self._observe()
        return seen.address if seen is not None and seen.state is State.RUNNING else None

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


def _as_problem(error: dict[str, Any]) -> Problem:
    return Problem("job-script", reason=error["message"], evidence=error["evidence"] or error["code"])


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

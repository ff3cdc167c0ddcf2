"""One replica, one step: look at what the driver sees and do the next thing. The caller holds the set's lease."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import structlog
from django.utils import timezone

from apps.compute import probe
from apps.compute.domain import causes, history
from apps.compute.domain.recipes import driver, handle_of, last_line, spec_of
from apps.compute.drivers.base import CapacityError, DriverError, DriverUnavailable, Handle, Observation, State
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica, ReplicaSet
from apps.compute.probe import Answer
from apps.compute.quantities import gib
from apps.core.errors import Problem
from apps.monitoring.models.logs import Why

log = structlog.get_logger(__name__)

CRASH_LIMIT = 3  # exits while starting, one after the other, before we call it a crash loop
BACKOFF_MAX_S = 60.0
MOST_AT_ONCE = 16
LOOKED_AT = {ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.DRAINING}
STEADY_S = 120.0  # ready for this long: the next exit starts at the smallest back-off again


def update(replica: Replica, **values: Any) -> None:
    """Write what changed; the caller holds the set's lease, so it is the only writer."""
    changed = {name: value for name, value in values.items() if getattr(replica, name) != value}
    if not changed:
        return
    for name, value in changed.items():
        setattr(replica, name, value)
    Replica.objects.filter(pk=replica.pk).update(**changed)
    if "state" in changed:
        log.info("replica.state", replica=replica.name, owner=replica.set.owner_key, state=str(replica.state))


SILENT = Answer(False, "")


@dataclass(frozen=True)
class Look:
    """What is true of a replica now: what its driver sees, and whether its server answers."""

    seen: Observation
    ready: Answer = SILENT
    alive: bool = False
    known: bool = True  # False: the back end does not answer, so nothing is known


def look(replicas: Iterable[Replica]) -> dict[int, Look]:
    """Look at all these replicas. Their servers are asked side by side: together, hung ones cost one timeout.

    So does a back end: once it has not answered, it is not asked for the others.
    """
    seen: dict[int, Observation] = {}
    unknown: dict[int, Look] = {}
    asked: dict[int, tuple[str, dict[str, Any]]] = {}
    silent: set[str] = set()
    for replica in replicas:
        handle = handle_of(replica)
        if handle is None or replica.state not in LOOKED_AT:
            continue
        if replica.set.driver in silent:
            unknown[replica.pk] = Look(Observation(replica.name, State.STARTING), known=False)
            continue
        try:
            seen[replica.pk] = found = driver(replica.set.driver).observe(handle)
        except DriverUnavailable as error:
            log.warning("replica.unknown", replica=replica.name, owner=replica.set.owner_key, reason=str(error))
            unknown[replica.pk] = Look(Observation(replica.name, State.STARTING), known=False)
            silent.add(replica.set.driver)
            continue
        if found.state is State.RUNNING and found.address is not None:
            asked[replica.pk] = (found.address, replica.set.spec)
    answered: Iterable[tuple[Answer, bool]]
    if len(asked) > 1:
        with ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, len(asked))) as pool:
            answered = list(pool.map(lambda one: _ask(*one), asked.values()))
    else:
        answered = [_ask(*one) for one in asked.values()]
    answers = dict(zip(asked, answered, strict=True))
    return unknown | {pk: Look(found, *answers.get(pk, (SILENT, False))) for pk, found in seen.items()}


def _ask(address: str, spec: dict[str, Any]) -> tuple[Answer, bool]:
    """(ready, alive). A server that is ready is alive; one that is not may still be, if it has a route that tells."""
    wait_s = spec.get("probe_s", 1.0)
    ready = probe.ask(probe.at(address, spec.get("ready_port")), spec["ready_path"], timeout_s=wait_s)
    if ready.ok or not spec.get("live_path"):
        return ready, ready.ok
    return ready, probe.ask(probe.at(address, spec.get("live_port")), spec["live_path"], timeout_s=wait_s).ok


def advance(replica: Replica, looked: Look | None) -> None:
    """The next thing for one replica, given what `look` found of it."""
    now = timezone.now()
    if looked is not None and not looked.known:
        return
    if replica.state == ReplicaState.DRAINING:  # wanted again before it was stopped
        update(replica, state=ReplicaState.STARTING)
    if replica.state == ReplicaState.PENDING or (
        replica.state == ReplicaState.BACKOFF and (replica.retry_at is None or replica.retry_at <= now)
    ):
        _start(replica)
    elif replica.state in {ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNREADY}:
        _follow(replica, looked)


def _start(replica: Replica) -> None:
    try:
        handle = driver(replica.set.driver).start(spec_of(replica))
    except DriverUnavailable as error:
        _retry_start(replica, Problem("driver-unavailable", reason=str(error)), after_s=error.retry_after)
    except CapacityError as error:
        asked = gib(replica.set.spec["mem_bytes"])
        problem = Problem(
            "no-capacity", what="memory", place="this machine", asked=asked, free="less", evidence=str(error)
        )
        _retry_start(replica, problem, after_s=5)
    except OSError as error:  # a full disk, no file handles: this machine's trouble, not the deployment's
        _retry_start(replica, Problem("driver-unavailable", reason=str(error)), after_s=5)
    except DriverError as error:
        problem = causes.refused(replica, str(error))
        if replica.set.served:
            _retry_start(replica, problem, after_s=BACKOFF_MAX_S)
        else:
            update(replica, state=ReplicaState.FAILED, reason=problem.as_json())
    else:
        update(
            replica,
            state=ReplicaState.STARTING,
            handle=asdict(handle),
            started_at=timezone.now(),
            ready_at=None,
        )


def _retry_start(replica: Replica, problem: Problem, *, after_s: float) -> None:
    later = timezone.now() + timedelta(seconds=after_s)
    update(replica, state=ReplicaState.BACKOFF, retry_at=later, address="", reason=problem.as_json())


def _follow(replica: Replica, looked: Look | None) -> None:
    handle = handle_of(replica)
    if handle is None or looked is None:
        update(replica, state=ReplicaState.PENDING)
    elif looked.seen.state in {State.EXITED, State.GONE}:
        problem = causes.why_ended(replica, looked.seen)
        history.keep(replica, why=Why.CRASHED, seen=looked.seen, reason=problem)
        _ended(replica, problem)
    elif looked.ready.ok:
        _answered(replica, looked.seen)
    elif replica.state == ReplicaState.STARTING:
        _check_start(replica, handle, looked.ready)
    else:
        _check_liveness(replica, handle, alive=looked.alive)


def _answered(replica: Replica, seen: Observation) -> None:
    now = timezone.now()
    values: dict[str, Any] = {"state": ReplicaState.READY, "address": seen.address, "isolation": seen.isolation}
    values |= {"reason": None, "unready_since": None}
    if replica.ready_at is None:
        values["ready_at"] = now
    elif replica.exits_in_a_row and now - replica.ready_at > timedelta(seconds=STEADY_S):
        values["exits_in_a_row"] = 0
    update(replica, **values)
    if not replica.set.served:
        ReplicaSet.objects.filter(pk=replica.set_id).update(served=True)


def _check_start(replica: Replica, handle: Handle, ready: Answer) -> None:
    """Give a server up that does not become ready in time."""
    limit = replica.set.spec["start_deadline_s"]
    if replica.started_at is None or timezone.now() - replica.started_at <= timedelta(seconds=limit):
        update(replica, reason=Problem("not-yet", reason=ready.said).as_json() if ready.said else None)
        return
    problem = causes.never_ready(replica, ready)
    driver(replica.set.driver).stop(handle, grace_s=1.0)
    history.keep(replica, why=Why.FAILED, reason=problem)
    if replica.set.served:
        _retry_start(replica, problem, after_s=5)
    else:
        update(replica, state=ReplicaState.FAILED, reason=problem.as_json())


def _check_liveness(replica: Replica, handle: Handle, *, alive: bool) -> None:
    """Restart a server that was ready and has not answered for as long as its liveness probe allows."""
    now = timezone.now()
    since = now if alive else replica.unready_since or now
    update(replica, state=ReplicaState.UNREADY, unready_since=since)
    limit = replica.set.spec["liveness_s"]
    if now - since > timedelta(seconds=limit):
        driver(replica.set.driver).stop(handle, grace_s=1.0)
        evidence = last_line(replica)
        name = replica.set.owner_key
        problem = Problem("unresponsive", deployment=name, seconds=int(limit), evidence=evidence)
        history.keep(replica, why=Why.CRASHED, reason=problem)
        _ended(replica, problem)


def _ended(replica: Replica, problem: Problem) -> None:
    was_ready = replica.ready_at is not None
    exits = replica.exits_in_a_row + 1
    log.warning("replica.exited", replica=replica.name, owner=replica.set.owner_key, reason=problem.message)
    values = {"exits_in_a_row": exits, "restarts": replica.restarts + 1, "address": "", "unready_since": None}
    never_served = not was_ready and not replica.set.served
    if never_served and (problem.code in causes.PERMANENT or exits >= CRASH_LIMIT):
        reason = problem if problem.code in causes.SAID_AS_IT_IS else _crash_loop(replica, problem, exits)
        update(replica, state=ReplicaState.FAILED, reason=reason.as_json(), **values)
        return
    delay = 0.0 if was_ready and exits == 1 else min(BACKOFF_MAX_S, 0.5 * 2 ** (exits - 1))
    later = timezone.now() + timedelta(seconds=delay)
    update(replica, state=ReplicaState.BACKOFF, reason=problem.as_json(), retry_at=later, **values)


def _crash_loop(replica: Replica, problem: Problem, exits: int) -> Problem:
    name = replica.set.owner_key
    hint, evidence = problem.params.get("hint", ""), problem.evidence
    return Problem("crash-loop", deployment=name, count=exits, reason=problem.message, evidence=evidence, hint=hint)

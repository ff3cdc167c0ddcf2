"""Replica sets: from a frozen recipe and a number to running, ready model servers.

Everything here is level-triggered: `reconcile()` looks at what the driver sees and does the next thing for each
replica. The worker that runs a deployment's operation calls it in a loop until all is ready; the controller calls it
for ever. Whoever calls holds the lease of the set, so the two never work on one set at the same time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from django.db import transaction

from apps.compute.domain import history
from apps.compute.domain.recipes import OWNER, Recipe, answering, driver, handle_of, replica_name
from apps.compute.domain.replicas import advance, look, update
from apps.compute.drivers.base import DriverUnavailable, Handle
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica, ReplicaSet
from apps.core import leases
from apps.core.errors import Problem, stored_problem
from apps.monitoring.models.logs import Why

log = structlog.get_logger(__name__)

LEASE_S = 30.0
LAST_CHOICE = {ReplicaState.DRAINING: 1, ReplicaState.HELD: 2}
ROUTED = (ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.PENDING, ReplicaState.STARTING)


@transaction.atomic
def ensure_set(*, owner_key: str, revision: int, recipe: Recipe, driver_name: str, desired: int) -> ReplicaSet:
    """The set of that revision, with that many replicas wanted. Running it again changes nothing."""
    found, created = ReplicaSet.objects.get_or_create(
        owner_key=owner_key,
        revision=revision,
        defaults={"driver": driver_name, "spec": recipe.as_json(), "desired": desired},
    )
    if not created and found.desired != desired:
        scale(found, desired)
    return found


def scale(replica_set: ReplicaSet, desired: int) -> None:
    ReplicaSet.objects.filter(pk=replica_set.pk).update(desired=desired)
    replica_set.desired = desired


def addresses(replica_set_id: Any) -> list[str]:
    """Where the replicas that may take traffic listen, in order. Unready ones stay in: the gateway's own checks decide.

    So do those that start again after `stand_down`: they come back where they were.
    """
    rows = Replica.objects.filter(set_id=replica_set_id, state__in=ROUTED).exclude(address="")
    return list(rows.values_list("address", flat=True))


def reconcile(replica_set: ReplicaSet, *, wait_s: float = 0.0) -> bool:
    """Bring the replicas one step nearer to what is wanted. True when the set of addresses changed.

    Does nothing when somebody else is at it. Surplus replicas are only marked DRAINING here: publish the routes, then
    call `stop_draining`.
    """
    try:
        with leases.held(f"replica-set/{replica_set.pk}", ttl_s=LEASE_S, wait_s=wait_s) as grant:
            return _reconcile(replica_set, grant)
    except leases.LeaseTaken:
        return False


def _reconcile(replica_set: ReplicaSet, grant: leases.Grant) -> bool:
    replica_set.refresh_from_db(fields=["desired"])
    before = addresses(replica_set.pk)
    rows = {replica.index: replica for replica in replica_set.replicas.select_related("set")}
    free = (index for index in itertools.count() if index not in rows)
    for index in list(itertools.islice(free, max(0, replica_set.desired - len(rows)))):
        name = replica_name(replica_set.owner_key, replica_set.revision, index)
        rows[index] = Replica.objects.create(set=replica_set, index=index, name=name)
    states = {index: replica.state for index, replica in rows.items()}
    wanted = _wanted(states, replica_set.desired)
    looked = look(replica for index, replica in rows.items() if index in wanted)
    for index, replica in sorted(rows.items()):
        if not _renewed(grant):  # a slow engine took so long that somebody else may be at it
            log.warning("replicas.lease_lost", owner=replica_set.owner_key)
            break
        if index in wanted:
            try:
                advance(replica, looked.get(replica.pk))
            except DriverUnavailable as error:  # it went away in between: the row stays as it is, and is tried again
                log.warning("replica.unknown", replica=replica.name, owner=replica_set.owner_key, reason=str(error))
        elif replica.state != ReplicaState.FAILED:  # halted: its log is what is left of it
            update(replica, state=ReplicaState.DRAINING)
    return addresses(replica_set.pk) != before


def _renewed(grant: leases.Grant) -> bool:
    """Whether the lease is still ours; then for LEASE_S more seconds, in which one replica's step is done."""
    return leases.holds(grant) and leases.acquire(grant.name, holder=grant.holder, ttl_s=LEASE_S) is not None


def _wanted(states: Mapping[int, str], desired: int) -> set[int]:
    """Which indexes stay: the lowest ones, but of those an administrator stopped only when there are no others."""
    return set(sorted(states, key=lambda index: (LAST_CHOICE.get(ReplicaState(states[index]), 0), index))[:desired])


def _wanted_states(replica_set: ReplicaSet) -> list[str]:
    states = dict(replica_set.replicas.values_list("index", "state"))
    return [states[index] for index in _wanted(states, replica_set.desired)]


def stop_draining(replica_set: ReplicaSet) -> None:
    """Stop what is marked DRAINING, letting requests in flight finish; call it after the routes are published."""
    for replica in replica_set.replicas.filter(state=ReplicaState.DRAINING).select_related("set"):
        with answering():
            handle = _stop(replica)
            history.keep(replica, why=Why.SCALED_IN)
            driver(replica_set.driver).forget(handle)
        replica.delete()


def halt(replica_set: ReplicaSet) -> None:
    """Stop the replicas of a set that did not come up, and keep their rows and logs for whoever asks why."""
    scale(replica_set, 0)
    with leases.held(f"replica-set/{replica_set.pk}", ttl_s=LEASE_S, wait_s=10.0):
        for replica in replica_set.replicas.select_related("set"):
            handle = handle_of(replica)
            if handle is not None:
                with answering():
                    driver(replica_set.driver).stop(handle, grace_s=1.0)
                    history.keep(replica, why=Why.FAILED)
            update(replica, state=ReplicaState.FAILED, address="")


def destroy(replica_set: ReplicaSet, *, why: Why = Why.DELETED) -> None:
    """Stop every replica, keep its log, remove all else that is left of it, and the set.

    The routes must be published without it.
    """
    scale(replica_set, 0)
    with leases.held(f"replica-set/{replica_set.pk}", ttl_s=LEASE_S * 2, wait_s=10.0):
        replicas = list(replica_set.replicas.select_related("set"))
        with answering(), ThreadPoolExecutor(max_workers=8) as pool:  # each may take its whole grace time
            for replica, handle in zip(replicas, pool.map(_stop, replicas), strict=True):
                history.keep(replica, why=why)
                driver(replica_set.driver).forget(handle)
        replica_set.delete()


def _stop(replica: Replica) -> Handle:
    handle = history.last_handle(replica)
    driver(replica.set.driver).stop(handle, grace_s=replica.set.spec["grace_s"])
    return handle


def ready_count(replica_set: ReplicaSet) -> int:
    return _wanted_states(replica_set).count(ReplicaState.READY)


def held_count(replica_set: ReplicaSet) -> int:
    """How many of the wanted replicas an administrator keeps down: nobody waits for them."""
    return _wanted_states(replica_set).count(ReplicaState.HELD)


def failure(replica_set: ReplicaSet) -> Problem | None:
    """The reason why a set will not come up, once one of its replicas is given up."""
    replica = replica_set.replicas.filter(state=ReplicaState.FAILED).first()
    return stored_problem(replica.reason) if replica is not None and replica.reason else None


def settle(replica_set: ReplicaSet, *, tick: Callable[[], None], timeout_s: float) -> None:
    """Reconcile until every wanted replica is ready, apart from those an administrator holds; one must be.

    Args:
        tick: called every round; raise there to give up early.

    Raises:
        Problem: why a replica could not come up, "held" when an administrator holds every one, or "not-ready" after
            `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        reconcile(replica_set, wait_s=2.0)
        ready, held = ready_count(replica_set), held_count(replica_set)
        if ready + held >= replica_set.desired:
            if held and not ready:
                raise _why_held(replica_set)
            return
        problem = failure(replica_set)
        if problem is not None:
            raise problem
        if time.monotonic() > deadline:
            raise Problem("not-ready", deployment=replica_set.owner_key, seconds=int(timeout_s))
        tick()
        time.sleep(0.05)


def _why_held(replica_set: ReplicaSet) -> Problem:
    replica = replica_set.replicas.filter(state=ReplicaState.HELD).first()
    return stored_problem(replica.reason) if replica is not None and replica.reason else Problem("held", reason="")


def stand_down(driver_name: str) -> int:
    """Stop every replica on this machine without taking it for a crash; the next reconcile starts them again."""
    back_end = driver(driver_name)
    handles = back_end.list(owner=OWNER)
    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(lambda handle: back_end.stop(handle, grace_s=5.0), handles))
    running = [*ROUTED, ReplicaState.BACKOFF]
    names = [handle.name for handle in handles]
    Replica.objects.filter(name__in=names, state__in=running).update(
        state=ReplicaState.PENDING, handle=None, retry_at=None
    )
    return len(handles)


def take_down(driver_name: str) -> int:
    """Stop every replica on this machine and leave nothing of them but their logs; the next reconcile makes them anew.

    Nobody else may start replicas meanwhile.
    """
    back_end = driver(driver_name)
    stand_down(driver_name)
    rows = {replica.name: replica for replica in Replica.objects.select_related("set")}
    handles = back_end.list(owner=OWNER)
    for handle in handles:
        if handle.name in rows:
            history.keep(rows[handle.name], why=Why.STOPPED)
        back_end.forget(handle)
    leave: Callable[[], None] | None = getattr(back_end, "leave", None)
    if leave is not None:
        leave()
    return len(handles)


def sweep_orphans(driver_name: str) -> int:
    """Stop and remove what runs under our name but no row knows. Returns how many."""
    back_end = driver(driver_name)
    handles = back_end.list(owner=OWNER)
    known = set(Replica.objects.values_list("name", flat=True))  # read after the list: a new replica has its row first
    orphans = [handle for handle in handles if handle.name not in known]
    for handle in orphans:
        log.warning("replica.orphan", replica=handle.name)
        back_end.stop(handle, grace_s=2.0)
        back_end.forget(handle)
    return len(orphans)

"""Replica sets: from a frozen recipe and a number to running, ready model servers.

Everything here is level-triggered: `reconcile()` looks at what the driver sees and does the next thing for each
replica. The worker that runs a deployment's operation calls it in a loop until all is ready; the controller calls it
for ever. Whoever calls holds the lease of the set, so the two never work on one set at the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.compute import probe
from apps.compute.drivers.base import (
    CapacityError,
    Driver,
    DriverError,
    DriverUnavailable,
    Handle,
    LogLine,
    Mount,
    Network,
    Observation,
    ReplicaSpec,
    Resources,
    SpecError,
    State,
)
from apps.compute.enums import ReplicaState
from apps.compute.models import InstanceType, Replica, ReplicaSet
from apps.core import leases
from apps.core.errors import CATALOGUE, Problem

log = structlog.get_logger(__name__)

OWNER = "portway"
LEASE_S = 30.0
CRASH_LIMIT = 3  # exits while starting, one after the other, before we call it a crash loop
BACKOFF_MAX_S = 60.0
STEADY_S = 120.0  # ready for this long: the next exit starts at the smallest back-off again
ROUTED = (ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.PENDING, ReplicaState.STARTING)


@dataclass(frozen=True)
class Recipe:
    """What one revision of a deployment runs; stored as JSON in `ReplicaSet.spec`."""

    argv: tuple[str, ...]
    env: dict[str, str]
    mounts: tuple[tuple[str, str], ...]
    cpu_milli: int
    mem_bytes: int
    egress: bool = False
    ready_path: str = "/readyz"
    grace_s: float = 10.0
    start_deadline_s: float = 300.0
    labels: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        return cls(**{**data, "argv": tuple(data["argv"]), "mounts": tuple(tuple(each) for each in data["mounts"])})


@lru_cache(maxsize=8)
def driver(name: str) -> Driver:
    """The driver of that name, made once per process."""
    if name == "process":
        from apps.compute.drivers.process import ProcessDriver  # noqa: PLC0415 -- only where replicas are run

        return ProcessDriver(
            root=settings.HOME.replicas, run_dir=settings.HOME.run / "r", require=settings.ISOLATION_REQUIRED or None
        )
    if name == "fake":
        from apps.compute.drivers.fake import FakeDriver  # noqa: PLC0415 -- tests and demos only

        return FakeDriver(run_dir=settings.HOME.run / "r")
    raise Problem("unsupported", what=f"Compute driver {name}", reason="this installation has process and fake")


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
        resources=Resources(cpu_milli=recipe.cpu_milli, mem_bytes=recipe.mem_bytes),
        mounts=tuple(Mount(source, target) for source, target in recipe.mounts),
        labels={"owner-key": replica.set.owner_key, "revision": str(replica.set.revision), **recipe.labels},
        network=Network.EGRESS if recipe.egress else Network.NONE,
        grace_s=recipe.grace_s,
    )


def instance_type(name: str) -> InstanceType:
    """Raises Problem "bad-field" for a name this installation does not know."""
    found = InstanceType.objects.filter(name__iexact=name).first()
    if found is None:
        known = ", ".join(InstanceType.objects.values_list("name", flat=True)[:6])
        raise Problem(
            "bad-field",
            field="instanceType",
            reason=f"there is no instance type {name}; known are {known}, …",
            target="instanceType",
        )
    return found


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


def validate(recipe: Recipe, driver_name: str) -> None:
    """Raises Problem "unsupported" when this machine can never run the recipe."""
    probe_spec = ReplicaSpec(
        name="validate",
        owner=OWNER,
        argv=recipe.argv,
        env=recipe.env,
        resources=Resources(recipe.cpu_milli, recipe.mem_bytes),
        mounts=tuple(Mount(source, target) for source, target in recipe.mounts),
    )
    try:
        driver(driver_name).validate(probe_spec)
    except SpecError as error:
        raise Problem("unsupported", what="This deployment", reason=str(error)) from None


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
        with leases.held(f"replica-set/{replica_set.pk}", ttl_s=LEASE_S, wait_s=wait_s):
            return _reconcile(replica_set)
    except leases.LeaseTaken:
        return False


def _reconcile(replica_set: ReplicaSet) -> bool:
    replica_set.refresh_from_db(fields=["desired"])
    before = addresses(replica_set.pk)
    rows = {replica.index: replica for replica in replica_set.replicas.select_related("set")}
    for index in range(replica_set.desired):
        if index not in rows:
            name = replica_name(replica_set.owner_key, replica_set.revision, index)
            rows[index] = Replica.objects.create(set=replica_set, index=index, name=name)
    for index, replica in sorted(rows.items()):
        if index >= replica_set.desired:
            if replica.state == ReplicaState.FAILED:
                continue  # halted: its log is what is left of it
            _update(replica, state=ReplicaState.DRAINING)
        else:
            _advance(replica)
    return addresses(replica_set.pk) != before


def _update(replica: Replica, **values: Any) -> None:
    """Write what changed; the caller holds the set's lease, so it is the only writer."""
    changed = {name: value for name, value in values.items() if getattr(replica, name) != value}
    if not changed:
        return
    for name, value in changed.items():
        setattr(replica, name, value)
    Replica.objects.filter(pk=replica.pk).update(**changed)
    if "state" in changed:
        log.info("replica.state", replica=replica.name, owner=replica.set.owner_key, state=str(replica.state))


def _advance(replica: Replica) -> None:
    now = timezone.now()
    if replica.state == ReplicaState.DRAINING:  # wanted again before it was stopped
        _update(replica, state=ReplicaState.STARTING)
    if replica.state == ReplicaState.PENDING or (
        replica.state == ReplicaState.BACKOFF and (replica.retry_at is None or replica.retry_at <= now)
    ):
        _start(replica)
    elif replica.state in {ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNREADY}:
        _look(replica)


def _start(replica: Replica) -> None:
    back_end = driver(replica.set.driver)
    try:
        handle = back_end.start(spec_of(replica))
    except DriverUnavailable as error:
        _retry_start(replica, Problem("driver-unavailable", reason=str(error)), after_s=error.retry_after)
    except CapacityError as error:
        problem = Problem(
            "no-capacity", what="memory", asked=replica.set.spec["mem_bytes"], free="less", evidence=str(error)
        )
        _retry_start(replica, problem, after_s=5)
    except OSError as error:  # a full disk, no file handles: this machine's trouble, not the deployment's
        _retry_start(replica, Problem("driver-unavailable", reason=str(error)), after_s=5)
    except DriverError as error:
        problem = Problem("start-failed", deployment=replica.set.owner_key, reason=str(error), hint="")
        if replica.set.served:
            _retry_start(replica, problem, after_s=BACKOFF_MAX_S)
        else:
            _update(replica, state=ReplicaState.FAILED, reason=problem.as_json())
    else:
        _update(
            replica,
            state=ReplicaState.STARTING,
            handle=asdict(handle),
            started_at=timezone.now(),
            ready_at=None,
        )


def _retry_start(replica: Replica, problem: Problem, *, after_s: float) -> None:
    later = timezone.now() + timedelta(seconds=after_s)
    _update(replica, state=ReplicaState.BACKOFF, retry_at=later, address="", reason=problem.as_json())


def handle_of(replica: Replica) -> Handle | None:
    return Handle(**replica.handle) if replica.handle else None


def _look(replica: Replica) -> None:
    handle = handle_of(replica)
    if handle is None:
        _update(replica, state=ReplicaState.PENDING)
        return
    seen = driver(replica.set.driver).observe(handle)
    if seen.state in {State.EXITED, State.GONE}:
        _ended(replica, seen)
        return
    answers = seen.address is not None and probe.answers(seen.address, replica.set.spec["ready_path"])
    now = timezone.now()
    if answers:
        values: dict[str, Any] = {
            "state": ReplicaState.READY,
            "address": seen.address,
            "isolation": seen.isolation,
            "reason": None,
        }
        if replica.ready_at is None:
            values["ready_at"] = now
        elif replica.exits_in_a_row and now - replica.ready_at > timedelta(seconds=STEADY_S):
            values["exits_in_a_row"] = 0
        _update(replica, **values)
        if not replica.set.served:
            ReplicaSet.objects.filter(pk=replica.set_id).update(served=True)
    elif replica.state == ReplicaState.STARTING:
        _check_deadline(replica)
    else:
        _update(replica, state=ReplicaState.UNREADY)


def _check_deadline(replica: Replica) -> None:
    limit = replica.set.spec["start_deadline_s"]
    if replica.started_at and timezone.now() - replica.started_at > timedelta(seconds=limit):
        problem = Problem(
            "not-ready", deployment=replica.set.owner_key, seconds=int(limit), evidence=last_line(replica)
        )
        handle = handle_of(replica)
        if handle is not None:
            driver(replica.set.driver).stop(handle, grace_s=1.0)
        if replica.set.served:
            _retry_start(replica, problem, after_s=5)
        else:
            _update(replica, state=ReplicaState.FAILED, reason=problem.as_json())


PERMANENT = {"script-import", "script-function", "script-init", "model-load"}
RUNTIME_CODES = {
    "UserScriptImportError": "script-import",
    "UserScriptFunctionNotFound": "script-function",
    "UserScriptInitFailed": "script-init",
    "ModelLoadFailed": "model-load",
}


def problem_of(replica: Replica, seen: Observation) -> Problem:
    """Why a replica ended, in the catalogue's words, with the line that proves it."""
    name = replica.set.owner_key
    if seen.oom:
        limit = f"{replica.set.spec['mem_bytes'] // 2**20} MiB"
        return Problem("out-of-memory", deployment=name, limit=limit, evidence=last_line(replica))
    if seen.failure is not None:
        code = RUNTIME_CODES.get(seen.failure.code, "start-failed")
        params = {"deployment": name, "hint": ""} if code == "start-failed" else {}
        return Problem(code, reason=seen.failure.message, evidence=seen.failure.evidence, **params)
    reason = "it left no trace" if seen.state is State.GONE else f"exit code {seen.exit_code}"
    if seen.exit_code is not None and seen.exit_code < 0:
        reason = f"killed by signal {-seen.exit_code}"
    return Problem(
        "start-failed", deployment=name, reason=reason, hint="Read the deployment's log.", evidence=last_line(replica)
    )


def _ended(replica: Replica, seen: Observation) -> None:
    problem = problem_of(replica, seen)
    was_ready = replica.ready_at is not None
    exits = replica.exits_in_a_row + 1
    log.warning("replica.exited", replica=replica.name, owner=replica.set.owner_key, reason=problem.message)
    values: dict[str, Any] = {
        "reason": problem.as_json(),
        "exits_in_a_row": exits,
        "restarts": replica.restarts + 1,
        "address": "",
    }
    if not was_ready and not replica.set.served:
        if problem.code in PERMANENT or exits >= CRASH_LIMIT:
            if problem.code not in PERMANENT | {"out-of-memory"}:
                values["reason"] = Problem(
                    "crash-loop",
                    deployment=replica.set.owner_key,
                    count=exits,
                    reason=problem.message,
                    evidence=problem.evidence,
                ).as_json()
            _update(replica, state=ReplicaState.FAILED, **values)
            return
    delay = 0.0 if was_ready and exits == 1 else min(BACKOFF_MAX_S, 0.5 * 2 ** (exits - 1))
    _update(replica, state=ReplicaState.BACKOFF, retry_at=timezone.now() + timedelta(seconds=delay), **values)


def stop_draining(replica_set: ReplicaSet) -> None:
    """Stop what is marked DRAINING, letting requests in flight finish; call it after the routes are published."""
    for replica in replica_set.replicas.filter(state=ReplicaState.DRAINING).select_related("set"):
        _remove(replica)


def halt(replica_set: ReplicaSet) -> None:
    """Stop the replicas of a set that did not come up, and keep their rows and logs for whoever asks why."""
    scale(replica_set, 0)
    with leases.held(f"replica-set/{replica_set.pk}", ttl_s=LEASE_S, wait_s=10.0):
        for replica in replica_set.replicas.select_related("set"):
            handle = handle_of(replica)
            if handle is not None:
                driver(replica_set.driver).stop(handle, grace_s=1.0)
            _update(replica, state=ReplicaState.FAILED, address="")


def destroy(replica_set: ReplicaSet) -> None:
    """Stop every replica, remove all that is left of them, and the set. The routes must be published without it."""
    scale(replica_set, 0)
    with leases.held(f"replica-set/{replica_set.pk}", ttl_s=LEASE_S * 2, wait_s=10.0):
        replicas = list(replica_set.replicas.select_related("set"))
        with ThreadPoolExecutor(max_workers=8) as pool:  # each may take its whole grace time
            for handle in pool.map(_stop, replicas):
                if handle is not None:
                    driver(replica_set.driver).forget(handle)
        replica_set.delete()


def _stop(replica: Replica) -> Handle | None:
    handle = handle_of(replica)
    if handle is not None:
        driver(replica.set.driver).stop(handle, grace_s=replica.set.spec["grace_s"])
    return handle


def _remove(replica: Replica) -> None:
    handle = _stop(replica)
    if handle is not None:
        driver(replica.set.driver).forget(handle)
    replica.delete()


def ready_count(replica_set: ReplicaSet) -> int:
    return replica_set.replicas.filter(state=ReplicaState.READY, index__lt=replica_set.desired).count()


def failure(replica_set: ReplicaSet) -> Problem | None:
    """The reason why a set will not come up, once one of its replicas is given up."""
    replica = replica_set.replicas.filter(state=ReplicaState.FAILED).first()
    return stored_problem(replica.reason) if replica is not None and replica.reason else None


def stored_problem(data: dict[str, Any]) -> Problem:
    """A Problem again from what `Problem.as_json` stored; its text is kept as it was."""
    code = data["code"] if data["code"] in CATALOGUE else "internal"
    return Stored(code, data)


class Stored(Problem):
    """A problem read back from the database."""

    def __init__(self, code: str, data: dict[str, Any]) -> None:
        super().__init__(code, evidence=data.get("evidence", ""), target=data.get("target", ""))
        self._data = data

    @property
    def message(self) -> str:
        return str(self._data["message"])

    @property
    def next_step(self) -> str:
        return str(self._data.get("next", ""))


def settle(replica_set: ReplicaSet, *, tick: Callable[[], None], timeout_s: float) -> None:
    """Reconcile until every wanted replica is ready.

    Args:
        tick: called every round; raise there to give up early.

    Raises:
        Problem: why a replica could not come up, or "not-ready" after `timeout_s` seconds.
    """
    import time  # noqa: PLC0415 -- kept out of reach of frozen-clock tests

    deadline = time.monotonic() + timeout_s
    while True:
        reconcile(replica_set, wait_s=2.0)
        if ready_count(replica_set) >= replica_set.desired:
            return
        problem = failure(replica_set)
        if problem is not None:
            raise problem
        if time.monotonic() > deadline:
            raise Problem("not-ready", deployment=replica_set.owner_key, seconds=int(timeout_s))
        tick()
        time.sleep(0.05)


def logs(replica: Replica, *, tail: int = 200) -> list[LogLine]:
    handle = handle_of(replica)
    return driver(replica.set.driver).logs(handle, tail=tail) if handle is not None else []


def last_line(replica: Replica) -> str:
    """The last line with text that a replica wrote, for the evidence of a problem."""
    lines = [line.text for line in logs(replica, tail=30) if line.text.strip()]
    return lines[-1][:400] if lines else ""


def stand_down(driver_name: str) -> int:
    """Stop every replica on this machine without taking it for a crash; the next reconcile starts them where they were."""
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


def seed_instance_types() -> None:
    """The sizes that come with Portway; ones an operator changed are left alone."""
    for position, (name, cores, gib) in enumerate(SIZES):
        InstanceType.objects.get_or_create(
            name=name,
            defaults={"cpu_milli": int(cores * 1000), "mem_bytes": int(gib * 2**30), "position": position},
        )


SIZES = [
    ("small", 1, 1),
    ("medium", 2, 4),
    ("large", 4, 8),
    ("Standard_DS1_v2", 1, 3.5),
    ("Standard_DS2_v2", 2, 7),
    ("Standard_DS3_v2", 4, 14),
    ("Standard_DS4_v2", 8, 28),
    ("Standard_F2s_v2", 2, 4),
    ("Standard_F4s_v2", 4, 8),
    ("Standard_F8s_v2", 8, 16),
    ("Standard_E2s_v3", 2, 16),
    ("Standard_E4s_v3", 4, 32),
    ("Standard_D2a_v4", 2, 8),
    ("Standard_D4a_v4", 4, 16),
]


def usable(instance: InstanceType) -> tuple[int, int, list[str]]:
    """(cpu_milli, mem_bytes, notes): the size, cut down to this machine, with a sentence for each cut."""
    import psutil  # noqa: PLC0415 -- slow to import, rarely needed

    cores = (psutil.cpu_count() or 1) * 1000
    memory = int(psutil.virtual_memory().total * 0.9)
    notes = []
    if instance.cpu_milli > cores:
        notes.append(
            f"{instance.name} has {instance.cpu_milli // 1000} cores, this machine {cores // 1000}: replicas get {cores // 1000}."
        )
    if instance.mem_bytes > memory:
        notes.append(
            f"{instance.name} has {instance.mem_bytes // 2**30} GiB, more than this machine: replicas get {memory // 2**30} GiB."
        )
    return min(instance.cpu_milli, cores), min(instance.mem_bytes, memory), notes

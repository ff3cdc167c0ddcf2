"""Operations: long-running changes that survive the death of whoever runs them.

`start()` writes the row in the caller's transaction; after commit a message wakes a worker, and `run()` claims the row
under a lease and calls the handler of its kind. A handler is a recipe of named steps. It may be killed anywhere and
run again from the top by somebody else, so each step first asks whether it is already so. The controller calls
`sweep()`, which wakes what no one works on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from celery import current_app
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.core import audit, clock, events
from apps.core.errors import Problem
from apps.core.leases import new_holder
from apps.core.models import Operation, OperationState, OperationStep, StepState

log = structlog.get_logger(__name__)

TASK = "core.run_operation"
LEASE_S = 15.0
BEAT_S = 0.5
MAX_ATTEMPTS = 5
LOG_LIMIT = 64_000  # characters kept of a step's log: the tail, where the reason is


class LeaseLost(Exception):  # noqa: N818 -- not an error: somebody else goes on with the operation
    """The runner was taken for dead; it must stop writing."""


@dataclass(frozen=True)
class Handler:
    function: Callable[[Run], None]
    steps: tuple[str, ...]
    failed: Callable[[Operation, Problem], None] | None
    cancelable: bool = False
    attempts: int = MAX_ATTEMPTS


_handlers: dict[str, Handler] = {}


def handles(
    kind: str,
    *,
    steps: tuple[str, ...],
    failed: Callable[[Operation, Problem], None] | None = None,
    cancelable: bool = False,
    attempts: int = MAX_ATTEMPTS,
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Register the recipe of a kind.

    `failed` puts the target into its failed state, maybe more than once. `cancelable`: what the verb wrote may stay
    without being carried out. `attempts`: how often it may be interrupted before it is given up.
    """

    def register(function: Callable[[Run], None]) -> Callable[[Run], None]:
        if kind in _handlers:
            raise RuntimeError(f"two handlers for {kind}")
        _handlers[kind] = Handler(function, steps, failed, cancelable, attempts)
        return function

    return register


def kinds() -> frozenset[str]:
    return frozenset(_handlers)


def steps_of(kind: str) -> tuple[str, ...]:
    return _handlers[kind].steps


def start(
    kind: str,
    *,
    workspace: str,
    target: str,
    lock: str,
    actor: Any,
    payload: dict[str, Any],
    resource_url: str = "",
    detail: dict[str, Any] | None = None,
) -> Operation:
    """Write the operation and its audit record (with `detail`) in the caller's transaction; a worker runs it later.

    Raises:
        Problem: "busy", another live operation holds `lock`.
    """
    if kind not in _handlers:
        raise RuntimeError(f"no handler for {kind}")
    try:
        with transaction.atomic():
            operation = Operation.objects.create(
                kind=kind,
                workspace=workspace,
                target=target,
                lock=lock,
                payload=payload,
                resource_url=resource_url,
                actor=actor if getattr(actor, "pk", None) else None,
            )
    except IntegrityError:
        running = Operation.objects.filter(lock=lock, state__in=OperationState.live()).first()
        if running is None:  # it has ended this very moment
            raise Problem("busy", subject=target, kind="") from None
        evidence = f"operation {running.pk}"
        raise Problem("busy", subject=running.target, kind=running.kind, evidence=evidence) from None
    audit.record(actor, kind, workspace=workspace, target=target, **(detail or {}), operation=str(operation.id))
    events.changed(workspace, f"operation:{operation.id}", target)
    wake(operation.id)
    return operation


def wake(operation_id: UUID) -> None:
    """Send the wake-up after commit. A broker that is away loses nothing: the sweep sends it again."""

    def send() -> None:
        try:
            current_app.send_task(TASK, (str(operation_id),))
        except Exception as error:  # noqa: BLE001 -- whatever the transport raises, the sweep will wake it
            log.warning("wake.failed", operation=str(operation_id), reason=str(error))

    transaction.on_commit(send, robust=True)


def cancel(operation: Operation, *, actor: Any) -> None:
    """Ask a live operation to stop; it does so at its next step or wait.

    Raises:
        Problem: "not-cancelable" for a kind whose change is in force with its row, such as traffic or keys.
    """
    if not can_cancel(operation):
        raise Problem("not-cancelable", kind=operation.kind)
    Operation.objects.filter(pk=operation.pk, state__in=OperationState.live()).update(cancel_requested=True)
    audit.record(actor, "operation.cancel", workspace=operation.workspace, target=operation.target)
    wake(operation.pk)


def can_cancel(operation: Operation) -> bool:
    return operation.live and operation.kind in _handlers and _handlers[operation.kind].cancelable


def sweep() -> int:
    """Wake every operation that nobody works on: lost messages, dead workers. Returns how many."""
    now = clock.now()
    idle = Operation.objects.filter(
        Q(state=OperationState.QUEUED, created_at__lt=now - timedelta(seconds=2))
        | Q(state=OperationState.RUNNING, lease_until__lt=now)
    )
    oldest = idle.order_by("created_at").values_list("pk", flat=True)[:100]  # the newest must not keep them waiting
    for pk in oldest:
        wake(pk)
    return len(oldest)


def run(operation_id: UUID) -> None:
    """Claim the operation and run its handler to an end. Nothing happens when it has ended or is somebody else's."""
    holder = new_holder()
    operation = _claim(operation_id, holder)
    if operation is None:
        return
    handler = _handlers[operation.kind]
    with structlog.contextvars.bound_contextvars(operation=str(operation.pk), kind=operation.kind):
        current = Run(operation, holder, handler.steps)
        current.beat.start()
        try:
            problem = _attempt(handler, current)
            if problem is not None:
                _fail(handler, current, problem)
        except LeaseLost:
            log.warning("operation.lost", target=operation.target)
            return
        finally:
            current.beat.stop()
        _finish(current, problem)


def _claim(operation_id: UUID, holder: str) -> Operation | None:
    now = clock.now()
    hit = (
        Operation.objects.filter(pk=operation_id)
        .filter(Q(state=OperationState.QUEUED) | Q(state=OperationState.RUNNING, lease_until__lt=now))
        .update(
            state=OperationState.RUNNING,
            owner=holder,
            attempt=F("attempt") + 1,
            lease_until=now + timedelta(seconds=LEASE_S),
        )
    )
    if not hit:
        return None
    Operation.objects.filter(pk=operation_id, started_at=None).update(started_at=now)
    return Operation.objects.get(pk=operation_id)


def _attempt(handler: Handler, current: Run) -> Problem | None:
    try:
        if current.operation.attempt > handler.attempts:
            return Problem("attempts", count=handler.attempts)
        handler.function(current)
    except Problem as problem:
        return problem
    except LeaseLost:
        raise
    except Exception as error:
        log.exception("operation.crashed", target=current.operation.target)
        return Problem("internal", evidence=f"{type(error).__name__}: {error}"[:500])
    return None


def _fail(handler: Handler, current: Run, problem: Problem) -> None:
    """Put the target into its failed state, while the lease is kept: a runner taken for dead must not touch it.

    What fails here is tried again with the operation, but it never keeps an operation (and its lock) alive for ever.
    """
    if handler.failed is None:
        return
    current.beat.renew()
    if current.beat.lost:
        raise LeaseLost
    try:
        handler.failed(current.operation, problem)
    except Exception:
        log.exception("operation.clean_up_failed", target=current.operation.target)
        if current.operation.attempt <= handler.attempts:
            raise


def _finish(current: Run, problem: Problem | None) -> None:
    operation = current.operation
    state = OperationState.SUCCEEDED
    if problem is not None:
        state = OperationState.CANCELED if problem.code == "canceled" else OperationState.FAILED
    with transaction.atomic():
        hit = Operation.objects.filter(pk=operation.pk, owner=current.holder, state=OperationState.RUNNING).update(
            state=state,
            percent=100 if problem is None else F("percent"),
            error=problem.as_json() if problem else None,
            finished_at=timezone.now(),
            lease_until=None,
        )
        if hit and problem is None:  # a step whose work was done by the attempt that was killed in it
            unfinished = OperationStep.objects.filter(operation=operation, state=StepState.RUNNING)
            unfinished.update(state=StepState.DONE, finished_at=timezone.now())
        if hit:
            audit.record(
                operation.actor,
                f"{operation.kind}.{state}",
                workspace=operation.workspace,
                target=operation.target,
                **({"error": problem.code} if problem else {}),
            )
    events.changed(operation.workspace, f"operation:{operation.pk}", operation.target)
    log.info("operation.ended", target=operation.target, state=str(state), error=problem.code if problem else None)


class Run:
    """What a handler works with: the operation, its steps, its log, and whether it should stop."""

    def __init__(self, operation: Operation, holder: str, steps: tuple[str, ...]) -> None:
        self.operation = operation
        self.holder = holder
        self.steps = steps
        self.beat = Heartbeat(operation, holder)
        self._step: OperationStep | None = None

    @property
    def payload(self) -> dict[str, Any]:
        return dict(self.operation.payload)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One named stage of the timeline. Raises Problem "canceled" when a cancel was asked for."""
        position = self.steps.index(name)
        self.check()
        step, _ = OperationStep.objects.update_or_create(
            operation=self.operation,
            name=name,
            defaults={
                "position": position,
                "state": StepState.RUNNING,
                "started_at": timezone.now(),
                "finished_at": None,
            },
        )
        self._step = step
        self.beat.attach(step)
        self._percent(position)
        try:
            yield
        except LeaseLost:
            raise  # the step belongs to somebody else by now
        except BaseException:
            self._end(step, StepState.FAILED)
            raise
        self._end(step, StepState.DONE)
        self._percent(position + 1)

    def _end(self, step: OperationStep, state: StepState) -> None:
        self.beat.flush()
        self._step = None
        OperationStep.objects.filter(pk=step.pk).update(state=state, finished_at=timezone.now())

    def _percent(self, done: int) -> None:
        percent = min(99, int(100 * done / max(1, len(self.steps))))
        Operation.objects.filter(pk=self.operation.pk, owner=self.holder).update(percent=percent)
        events.changed(self.operation.workspace, f"operation:{self.operation.pk}", self.operation.target)

    def log(self, text: str) -> None:
        """Add a line to the running step's log; it can be read within a second."""
        self.beat.write(text)

    def check(self) -> None:
        """Stop here when asked to: Problem "canceled", or LeaseLost when somebody else has taken over."""
        if self.beat.lost:
            raise LeaseLost
        if self.beat.cancel_requested or self.operation.cancel_requested:
            raise Problem("canceled")

    def wait(self, ready: Callable[[], bool], *, timeout_s: float, every_s: float = 0.1) -> bool:
        """Poll until `ready()` or the time is over; False then. Stops early like `check()`."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() >= deadline:
                return False
            time.sleep(every_s)
        return True


class Heartbeat(threading.Thread):
    """Renews the lease, writes the buffered log and learns of cancel requests, while the handler works or waits."""

    def __init__(self, operation: Operation, holder: str) -> None:
        super().__init__(daemon=True, name=f"beat-{operation.pk}")
        self.operation = operation
        self.holder = holder
        self.lost = False
        self.cancel_requested = False
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._step: OperationStep | None = None
        self._lines: list[str] = []

    def attach(self, step: OperationStep) -> None:
        with self._lock:
            self._step = step

    def write(self, text: str) -> None:
        with self._lock:
            self._lines.append(text.replace("\x00", "").rstrip("\n"))

    def flush(self) -> None:
        with self._lock:
            lines, self._lines, step = self._lines, [], self._step
            if not lines or step is None:
                return
            whole = step.log + "\n".join(lines) + "\n"
            step.log_start, step.log = step.log_start + max(0, len(whole) - LOG_LIMIT), whole[-LOG_LIMIT:]
            OperationStep.objects.filter(pk=step.pk).update(log=step.log, log_start=step.log_start)
        events.changed(self.operation.workspace, f"operation:{self.operation.pk}")

    def stop(self) -> None:
        self._done.set()
        if self.is_alive():
            self.join(timeout=5)
        self.flush()

    def run(self) -> None:
        renewed = time.monotonic()
        try:
            while not self._done.wait(BEAT_S):
                try:
                    self.flush()
                    if time.monotonic() - renewed >= LEASE_S / 5:
                        self.renew()
                        renewed = time.monotonic()
                except Exception as error:  # noqa: BLE001 -- a database that is away for a moment
                    log.warning("beat.failed", reason=str(error))
                    self.lost = time.monotonic() - renewed > LEASE_S
        finally:
            connection.close()

    def renew(self) -> None:
        """Keep the lease for another while, or learn that it is lost."""
        hit = Operation.objects.filter(pk=self.operation.pk, owner=self.holder, state=OperationState.RUNNING).update(
            lease_until=clock.now() + timedelta(seconds=LEASE_S)
        )
        self.lost = not hit
        self.cancel_requested = Operation.objects.filter(pk=self.operation.pk, cancel_requested=True).exists()

"""The controller: jobs that run every few seconds, for ever, and repair what drifted.

Each app registers its jobs in `reconcile.py`. A job runs in a thread of its own under a lease, so that several
controllers share the work and a slow job holds up no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.db import close_old_connections, connection

from apps.core import leases

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Job:
    name: str
    every_s: float
    function: Callable[[], object]


_jobs: dict[str, Job] = {}


def every(seconds: float, name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register a job."""

    def register(function: Callable[[], object]) -> Callable[[], object]:
        if name in _jobs:
            raise RuntimeError(f"two jobs named {name}")
        _jobs[name] = Job(name, seconds, function)
        return function

    return register


def jobs() -> tuple[Job, ...]:
    return tuple(_jobs.values())


def _lease(job: Job) -> str:
    return f"controller/{job.name}"


class Controller:
    """Runs every job until `stop` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.holder = leases.new_holder()
        self._tokens: dict[str, int] = {}

    def run(self) -> None:
        threads = [threading.Thread(target=self._loop, args=(job,), name=job.name, daemon=True) for job in jobs()]
        for thread in threads:
            thread.start()
        log.info("controller.started", jobs=[job.name for job in jobs()])
        self.stop.wait()
        for thread in threads:
            thread.join(timeout=5)

    def _loop(self, job: Job) -> None:
        ttl = max(30.0, job.every_s * 3)
        try:
            while not self.stop.is_set():
                self._once(job, ttl)
                self.stop.wait(job.every_s)
            leases.release(
                leases.Grant(_lease(job), self.holder, self._tokens.get(job.name, 0))
            )  # the next need not wait
        except Exception as error:  # noqa: BLE001 -- the lease runs out by itself
            log.warning("controller.release_failed", job=job.name, reason=str(error))
        finally:
            connection.close()

    def _once(self, job: Job, ttl_s: float) -> None:
        try:
            grant = leases.acquire(_lease(job), holder=self.holder, ttl_s=ttl_s)
            if grant is not None:
                self._tokens[job.name] = grant.token
                job.function()
        except Exception:  # a failing job must not end the controller; it is tried again
            log.exception("controller.job_failed", job=job.name)
        finally:
            close_old_connections()

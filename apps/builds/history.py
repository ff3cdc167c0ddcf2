"""Who asked for which environment version to be runnable, how long it took, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from apps.builds.enums import Outcome
from apps.builds.models import Attempt, Build
from apps.builds.spec import EnvironmentSpec
from apps.core.errors import Problem
from apps.core.models import Operation, OperationState
from apps.core.operations import LeaseLost
from apps.registry.models import EnvironmentVersion

KEPT = 200  # attempts of one version
STUCK = timedelta(days=1)


class Told:
    """What the attempt learns on its way."""

    build: Build | None = None
    image_id: str = ""
    made: bool = False


@contextmanager
def attempt(spec: EnvironmentSpec, *, driver: str, operation: Operation | None) -> Iterator[Told]:
    """Keep what happens inside, when a registered version asks. A runner that is killed leaves it to `sweep`."""
    told = Told()
    version = EnvironmentVersion.objects.filter(pk=spec.version).first() if spec.version else None
    if version is None:
        yield told
        return
    if operation is not None:
        Attempt.objects.filter(operation=operation, version=version, outcome=Outcome.RUNNING).update(
            outcome=Outcome.INTERRUPTED
        )
    row = Attempt.objects.create(version=version, driver=driver, operation=operation)
    began = time.monotonic()
    outcome, error = Outcome.INTERRUPTED, None
    try:
        yield told
        outcome = Outcome.BUILT if told.made else Outcome.FOUND
    except Problem as problem:
        error = problem.as_json()
        outcome = Outcome.CANCELED if problem.code == "canceled" else Outcome.FAILED
        raise
    except LeaseLost:
        raise
    except Exception:
        outcome = Outcome.FAILED
        raise
    finally:
        # by its key: rows of the version and of the build may have gone meanwhile
        Attempt.objects.filter(pk=row.pk).update(
            outcome=outcome,
            error=error,
            build=Build.objects.filter(pk=told.build.pk).first() if told.build else None,
            image_id=told.image_id,
            seconds=round(time.monotonic() - began, 2),
        )
        _trim(version)


def of(version: EnvironmentVersion) -> QuerySet[Attempt]:
    return version.attempts.select_related("build", "operation__actor")


def latest_build(version: EnvironmentVersion) -> Build | None:
    """What the last attempt that came to something came to."""
    row = of(version).exclude(build=None).first()
    return row.build if row else None


def _trim(version: EnvironmentVersion) -> None:
    kept = Attempt.objects.filter(version=version).values_list("pk", flat=True)[:KEPT]
    Attempt.objects.filter(version=version).exclude(pk__in=list(kept)).delete()


def sweep() -> int:
    """Say of attempts whose runner was killed that they were interrupted; how many."""
    running = Attempt.objects.filter(outcome=Outcome.RUNNING)
    over = running.filter(operation__isnull=False).exclude(operation__state__in=OperationState.live())
    ended = over.update(outcome=Outcome.INTERRUPTED)
    old = running.filter(started_at__lt=timezone.now() - STUCK)
    return ended + old.update(outcome=Outcome.INTERRUPTED)

"""Working folders of jobs go some time after the job has ended; its record, its logs and its results stay."""

from __future__ import annotations

import shutil
import time
import uuid
from datetime import timedelta
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from apps.batch.engine import folders
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.core import limits

log = structlog.get_logger(__name__)

ROUND_S = 30.0  # what one sweep may take; the next goes on
NEWBORN_S = 3600.0  # a folder may be there before its job is committed
AT_ONCE = 500


def sweep() -> int:
    """Remove the folders of deleted jobs and the working files of those that ended long ago; how many were."""
    until, removed = time.monotonic() + ROUND_S, 0
    names = sorted(path.name for path in folders.root().glob("*") if _is_id(path.name))
    for start in range(0, len(names), AT_ONCE):
        group = names[start : start + AT_ONCE]
        jobs = {str(pk) for pk in Job.objects.filter(pk__in=group).values_list("pk", flat=True)}
        old = _ended_long_ago(group)
        for name in group:
            if time.monotonic() > until:
                return removed
            if name in old:
                removed += _forget(name)
            elif name not in jobs and _settled(folders.root() / name):
                shutil.rmtree(folders.root() / name, ignore_errors=True)
                removed += 1
    if removed:
        log.info("jobs.swept", folders=removed)
    return removed


def _forget(name: str) -> bool:
    """The mark is set while the row is locked: who retries the job now is refused, or has come first."""
    folder = folders.root() / name
    with transaction.atomic():
        if not _old().select_for_update().filter(pk=name).exists():
            return False
        folders.mark_swept(folder)
    return folders.forget_work(folder)


def _ended_long_ago(names: list[str]) -> set[str]:
    return {str(pk) for pk in _old().filter(pk__in=names).values_list("pk", flat=True)}


def _old() -> QuerySet[Job]:
    before = timezone.now() - timedelta(days=limits.get("job_files_days"))
    return Job.objects.filter(state__in=JobState.ended(), ended_at__lt=before)


def _settled(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > NEWBORN_S
    except FileNotFoundError:
        return False


def _is_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False

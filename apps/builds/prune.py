"""Environments, images and downloaded packages: what there is, who uses it, and taking away what nobody does.

An environment is in use while a replica set was made from it: that covers what runs, what is being started and what an
administrator holds. One that was asked for a moment ago is kept as well: its replica set may not have been written yet.
Images that were here before us are none of ours; one that we pulled goes only when somebody names it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from docker.errors import ImageNotFound

from apps.builds import engine, images
from apps.builds.cache import apart, cache_folder
from apps.builds.engine import Api
from apps.builds.enums import BuildKind, BuildState
from apps.builds.models import Build, ImageFacts, Package
from apps.builds.spec import lock_of
from apps.compute.models import ReplicaSet
from apps.core import disk, operations
from apps.core.errors import Problem
from apps.core.models import Operation

__all__ = [
    "Plan",
    "Stored",
    "cache_folder",
    "measure_some",
    "plan",
    "prune",
    "prune_cache",
    "remove",
    "stored",
    "users",
]

log = structlog.get_logger(__name__)

FRESH = timedelta(hours=1)
STUCK = timedelta(days=1)
LOCK = "environments"
TARGET = "installation/environments"
CACHE_S = 1800.0
MEASURE_S, MEASURED_AT_ONCE = 20.0, 20


@dataclass(frozen=True)
class Stored:
    """An environment on disk, or an image on the engine.

    `users`: the deployments (as "endpoint/deployment") whose instances run from it.
    `size`: None while nobody has measured it.
    """

    build: Build
    size: int | None
    users: tuple[str, ...]

    @property
    def last_used(self) -> datetime:
        return self.build.last_used_at or self.build.finished_at or self.build.started_at

    @property
    def kept_because(self) -> str:
        """Why it may not go; empty when it may."""
        if self.users:
            return _("used by %(users)s") % {"users": ", ".join(self.users[:5])}
        if self.build.state == BuildState.BUILDING and timezone.now() - self.build.started_at < STUCK:
            return _("it is being built")
        if timezone.now() - self.last_used < FRESH:
            return _("asked for within the last hour")
        return ""


@dataclass(frozen=True)
class Plan:
    """What a prune would take away, and what it would leave and why."""

    goes: list[Stored]
    kept: list[tuple[Stored, str]]

    @property
    def freed(self) -> int:
        return sum(each.size or 0 for each in self.goes)


def users() -> dict[str, list[str]]:
    """Environment folder, or image id → who uses it."""
    found: dict[str, list[str]] = {}
    rows = ReplicaSet.objects.values_list("spec__mounts", "spec__image", "owner_key").order_by("owner_key")
    for mounts, image, owner in rows:
        for source in [*(source for source, _target in mounts or ()), *([image] if image else [])]:
            found.setdefault(source, [])
            if owner not in found[source]:
                found[source].append(owner)
    packages = Package.objects.filter(image__isnull=False).select_related("environment__asset")
    for package in packages.annotate(made=F("image__image_id")):
        found.setdefault(package.made, []).append(_("package %(name)s") % {"name": package})
    return found


def stored(builds: Iterable[Build] | None = None) -> list[Stored]:
    """Environments with their size, as far as it is known, and users. No disk is walked: see `measure_some`."""
    used = users()
    return [
        Stored(build, build.size_bytes, tuple(used.get(build.image_id if build.is_image else build.path, ())))
        for build in (Build.objects.all() if builds is None else builds)
    ]


def measure_some() -> int:
    """Look up sizes that are not known yet, for a few seconds; how many were. A walk cut short is no size."""
    deadline, found = time.monotonic() + MEASURE_S, 0
    ended = Build.objects.filter(size_bytes=None).exclude(path="").exclude(state=BuildState.BUILDING)
    for key, path in ended.order_by("?").values_list("pk", "path")[:MEASURED_AT_ONCE]:  # no large one is ever first
        room = disk.measure(Path(path), seconds=max(0.0, deadline - time.monotonic()))
        if not room.whole:
            break
        found += Build.objects.filter(pk=key, size_bytes=None).update(size_bytes=room.total)
    return found


def plan(*, unused_days: int | None = None, budget_bytes: int | None = None, keys: Iterable[str] | None = None) -> Plan:
    """What would go: those unused for so many days, then the longest unused until all fit into the budget.

    With `keys` exactly those, as far as nobody uses them. With nothing given: everything nobody uses.
    """
    wanted = None if keys is None else set(keys)
    goes: list[Stored] = []
    kept: list[tuple[Stored, str]] = []
    rows = sorted(stored(), key=lambda each: each.last_used)
    total = sum(each.size or 0 for each in rows)
    for each in rows:
        why = each.kept_because
        if not why and wanted is not None and each.build.pk not in wanted:
            why = _("not chosen")
        if not why and wanted is None and each.build.kind == BuildKind.PULLED:
            why = _("pulled, so it goes only when it is chosen")
        if not why and wanted is None:
            why = _still_wanted(each, total, unused_days, budget_bytes)
        if why:
            kept.append((each, why))
        else:
            goes.append(each)
            total -= each.size or 0
    return Plan(goes, kept)


def _still_wanted(each: Stored, total: int, unused_days: int | None, budget_bytes: int | None) -> str:
    """Why the two rules leave it; empty when one of them takes it, or when there is no rule."""
    if unused_days is None and budget_bytes is None:
        return ""
    if unused_days is not None and timezone.now() - each.last_used >= timedelta(days=unused_days):
        return ""
    if budget_bytes is not None and total > budget_bytes:
        return ""
    return _("used recently enough") if budget_bytes is None else _("within the budget")


@transaction.atomic
def prune(*, keys: Iterable[str], actor: Any) -> Operation:
    """Take these environments away, as far as nobody uses them when their turn comes.

    Raises:
        Problem: "conflict" when none of them may go, "busy" while another prune runs.
    """
    chosen = plan(keys=keys).goes
    if not chosen:
        raise Problem("conflict", reason="None of these environments may go: they are used, or gone already.")
    return operations.start(
        "environments.prune",
        workspace="",
        target=TARGET,
        lock=LOCK,
        actor=actor,
        payload={"keys": [each.build.pk for each in chosen]},
        detail={
            "environments": [each.build.pk[:12] for each in chosen],
            "bytes": sum(each.size or 0 for each in chosen),
        },
    )


def remove(key: str) -> str:
    """Take one environment away; why not, when it stays. Folder and row go together.

    The locks keep builders out; the row is looked at again under them, so one that came into use meanwhile stays.
    """
    build = Build.objects.filter(pk=key).first()
    if build is None:
        return _("gone already")
    if build.is_image:
        return _remove_image(build)
    folder = Path(build.path) if build.path else None
    trash = Path(settings.HOME.environments) / f"trash-{uuid.uuid4().hex}"
    names = sorted({key[:20], *(each[:20] for each in build.requests.values_list("pk", flat=True))})
    try:
        with contextlib.ExitStack() as locks:
            for name in names:
                locks.enter_context(lock_of(name, _give_up))
            with transaction.atomic():
                fresh = Build.objects.select_for_update().filter(pk=key).first()
                if fresh is None:
                    return _("gone already")
                why = stored([fresh])[0].kept_because
                if why:
                    return why
                if folder is not None and folder.exists():
                    _own(folder).rename(trash)
                fresh.delete()
    except _Busy:
        return _("it is being built")
    shutil.rmtree(trash, ignore_errors=True)
    return ""


def _remove_image(build: Build) -> str:
    """Under the lock nobody builds or finds it. The image goes first: killed in between, the row is taken next time."""
    try:
        with lock_of(build.pk, _give_up):
            fresh = Build.objects.filter(pk=build.pk).first()
            if fresh is None:
                return _("gone already")
            why = stored([fresh])[0].kept_because
            if why:
                return why
            with engine.connected() as api:
                if not images.drop(api, _name_of(api, fresh)):
                    return _("a container or another image needs it")
            fresh.delete()
            if not Build.objects.filter(image_id=fresh.image_id).exists():
                ImageFacts.objects.filter(pk=fresh.image_id).delete()
    except _Busy:
        return _("it is being built")
    return ""


def _name_of(api: Api, build: Build) -> str:
    """What to take from the engine; "" for nothing: what is called so by now is not what we put there."""
    try:
        if build.state != BuildState.SUCCEEDED:  # the layers that a failed build had made: never named by anybody
            found = images.inspect(api, build.image_id) if build.image_id else {}
            return build.image_id if found and not found.get("RepoTags") else ""
        found = images.inspect(api, build.image)
    except ImageNotFound:
        return ""
    labels = (found.get("Config") or {}).get("Labels") or {}
    ours = build.kind == BuildKind.PULLED or labels.get(images.BUILT_BY) == settings.HOME.installation
    return build.image if ours and found["Id"] == build.image_id else ""


class _Busy(Exception):  # noqa: N818 -- a condition
    """Somebody builds this environment."""


def _give_up() -> None:
    raise _Busy


def _own(folder: Path) -> Path:
    """The folder, if it lies directly below the environments of this installation; nothing else is ever removed."""
    if folder.parent != Path(settings.HOME.environments):
        raise RuntimeError(f"{folder} is not an environment of this installation")
    return folder


def sweep_trash() -> None:
    """Remove what an earlier prune had moved aside when it was killed."""
    for left in Path(settings.HOME.environments).glob("trash-*"):
        shutil.rmtree(left, ignore_errors=True)


# ---- uv's cache of downloaded packages


@transaction.atomic
def prune_cache(*, actor: Any) -> Operation:
    """Drop packages from uv's cache that no environment links to any more. Raises Problem "busy"."""
    return operations.start(
        "packages.prune", workspace="", target="installation/package-cache", lock=LOCK, actor=actor, payload={}
    )


def prune_apart() -> int:
    """Drop the caches of images that nobody built for within the hour; how many. No build takes that long."""
    dropped = 0
    for folder in apart().glob("*"):
        if folder.stat().st_mtime < time.time() - FRESH.total_seconds():
            shutil.rmtree(folder, ignore_errors=True)
            dropped += 1
    return dropped

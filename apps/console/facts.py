"""What the overview and the health page say. Nothing is computed here that another part computes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.core import disk
from apps.core.errors import Problem
from apps.core.models import Operation, OperationState
from apps.gateway import certificates
from cli import checks

DISK_CACHE_S, DISK_S = 60, 1.5
SOON = timedelta(days=30)
HOMES: tuple[tuple[str, str | Promise], ...] = (
    ("artifacts", gettext_lazy("Models and code")),
    ("environments", gettext_lazy("Environments")),
    ("replicas", gettext_lazy("Instances and their logs")),
    ("logs", gettext_lazy("Logs of the parts")),
    ("uploads", gettext_lazy("Uploads under way")),
    ("gateway", gettext_lazy("Gateway")),
    ("database", gettext_lazy("Databases")),
)
GUARANTEES: tuple[tuple[str, str | Promise], ...] = (
    ("filesystem", gettext_lazy("sees only its own files")),
    ("network", gettext_lazy("has no network unless allowed")),
    ("own_user", gettext_lazy("runs as another user")),
    ("cpu", gettext_lazy("is held to its cores")),
    ("memory", gettext_lazy("is held to its memory by control groups")),
    ("pids", gettext_lazy("is held to a number of processes")),
    ("oom_signal", gettext_lazy("is told when memory ran out")),
)


@dataclass(frozen=True)
class Kind:
    """What one kind of state takes of the disk; `percent` of all that Portway takes."""

    name: str
    label: Any
    room: disk.Room
    percent: int


@dataclass(frozen=True)
class Disk:
    kinds: list[Kind]
    total: int
    free: int
    whole: bool


def disk_use() -> Disk:
    """Looked up at most once a minute and for `DISK_S` in all. A kind whose walk is cut short shows its last whole one.

    Small kinds come first, so that one large kind never hides the others.
    """
    found: Disk | None = cache.get("console.disk")
    if found is None:
        deadline = time.monotonic() + DISK_S
        last: dict[str, disk.Room] = cache.get("console.disk.last") or {}
        rooms: dict[str, disk.Room] = {}
        for name in sorted(dict(HOMES), key=lambda each: last[each].total if each in last else 0):
            room = _measure(name, deadline)
            known = last.get(name)
            rooms[name] = known if known is not None and known.whole and not room.whole else room
        cache.set("console.disk.last", rooms, None)
        total = sum(room.total for room in rooms.values())
        kinds = [
            Kind(name, str(label), rooms[name], round(100 * rooms[name].total / max(1, total))) for name, label in HOMES
        ]
        whole = all(room.whole for room in rooms.values())
        found = Disk(sorted(kinds, key=lambda each: -each.room.total), total, _free(), whole)
        cache.set("console.disk", found, DISK_CACHE_S)
    return found


def _measure(name: str, deadline: float) -> disk.Room:
    paths = _databases() if name == "database" else [getattr(settings.HOME, name)]
    found = [disk.measure(path, seconds=max(0.0, deadline - time.monotonic())) for path in paths]
    return disk.Room(
        sum(each.total for each in found), sum(each.shared for each in found), all(each.whole for each in found)
    )


def _databases() -> list[Path]:
    """The files of the embedded databases: ours and MLflow's, with what SQLite keeps beside them."""
    files = (settings.HOME.database, settings.HOME.root / "mlflow.sqlite3")
    return [file.with_name(f"{file.name}{end}") for file in files for end in ("", "-wal", "-shm", "-journal")]


def _free() -> int:
    return shutil.disk_usage(settings.HOME.root).free


@dataclass(frozen=True)
class Isolation:
    """How far replicas of one driver are shut in. `better`: stronger levels, and what each would need."""

    driver: str
    level: str
    required: str
    keeps: list[tuple[Any, bool]]
    better: list[tuple[str, str]]
    reached: list[tuple[str, int]]
    error: str = ""


def isolation() -> list[Isolation]:
    """One for each driver of this installation."""
    return [isolation_of(name) for name in compute.drivers()]


def isolation_of(name: str) -> Isolation:
    """What one driver reaches; the reason when it cannot be asked, or is not there."""
    rows = Replica.objects.filter(set__driver=name).exclude(isolation="")
    return _isolation(name, list(rows.values_list("isolation").annotate(Count("pk")).order_by("isolation")))


def _isolation(name: str, reached: list[tuple[str, int]]) -> Isolation:
    try:
        back_end: Any = compute.driver(name)
        if not hasattr(back_end, "describe"):
            none = _("This driver does not isolate; it is for tests and demos.")
            return Isolation(name, "", "", [], [], reached, none)
        told = back_end.describe()
    except Problem as problem:
        return Isolation(name, "", "", [], [], reached, problem.message)
    except Exception as error:  # noqa: BLE001 -- whatever keeps the machine from telling, the page must say so
        return Isolation(name, "", "", [], [], reached, str(error)[:300])
    better = []
    for each in told["levels"]:
        if each["level"] == told["level"]:
            break
        better.append((each["level"], each["reason"]))
    given = told["guarantees"] | {"memory": told["guarantees"]["memory"] == "cgroup"}
    keeps = [(label, bool(given[key])) for key, label in GUARANTEES]
    return Isolation(name, told["level"], told["required"] or "", keeps, better, reached)


@dataclass(frozen=True)
class Certificate:
    expires: datetime | None

    @property
    def tone(self) -> str:
        if self.expires is None or self.expires < timezone.now():
            return "failed"
        return "degraded" if self.expires - timezone.now() < SOON else "ok"

    @property
    def days(self) -> int:
        return (self.expires - timezone.now()).days if self.expires else 0


def certificate() -> Certificate:
    return Certificate(certificates.expiry(settings.HOME.gateway / "certs"))


def replicas() -> list[tuple[str, str, Any, int]]:
    """(state, tone, word, how many) for each state that has any."""
    counts = dict(Replica.objects.order_by().values_list("state").annotate(Count("pk")))
    return [(each.value, each.tone, each.label, counts[each.value]) for each in ReplicaState if counts.get(each.value)]


def operations_of_a_day() -> list[tuple[str, str, Any, int]]:
    since = timezone.now() - timedelta(hours=24)
    recent = Operation.objects.filter(created_at__gt=since).order_by()
    counts = dict(recent.values_list("state").annotate(Count("pk")))
    found = [(each, counts.get(each.value, 0)) for each in OperationState]
    return [(each.value, each.tone if count else "idle", each.label, count) for each, count in found]


def troubles() -> list[Operation]:
    """What failed or still runs since yesterday, newest first."""
    since = timezone.now() - timedelta(hours=24)
    wanted = (OperationState.FAILED, *OperationState.live())
    return list(Operation.objects.filter(created_at__gt=since, state__in=wanted).select_related("actor")[:8])


def machine() -> list[checks.Check]:
    return checks.machine(settings.HOME)

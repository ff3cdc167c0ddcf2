"""The ledger of capacity: what every deployment holds of its target and of its workspace's quota.

A reservation is written in the transaction that creates or changes the deployment, and goes with its row. The rows of
the targets are locked meanwhile, so what two people ask for at the same moment is never given to both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.accounts.models import Workspace
from apps.compute.domain.sizes import size_of
from apps.compute.domain.targets import AMOUNTS, Needs, capacity, choose, every_target, label, sharing
from apps.compute.models import ComputeTarget, InstanceType, Reservation, WorkspaceCompute
from apps.compute.quantities import Size, cores, gib
from apps.core.errors import Problem

log = structlog.get_logger(__name__)

QUOTAS = (*AMOUNTS, "instances")
WORDS: dict[str, str | Promise] = {
    "cpu_milli": _("CPU"),
    "mem_bytes": _("memory"),
    "gpus": _("GPUs"),
    "instances": _("instances"),
}


def told(amount: str, value: int) -> str:
    """An amount in people's units."""
    if amount == "cpu_milli":
        return ngettext("%(cores)s core", "%(cores)s cores", 1 if value == 1000 else 2) % {"cores": cores(value)}  # noqa: PLR2004
    return gib(value) if amount == "mem_bytes" else str(value)


@dataclass(frozen=True)
class Line:
    """How much of one amount is taken; no limit is None."""

    amount: str
    used: int
    limit: int | None

    @property
    def word(self) -> str:
        return str(WORDS[self.amount])

    @property
    def free(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def scale(self) -> int:
        """The right end of its bar."""
        return max(1, self.limit or 0)

    @property
    def drawn(self) -> int:
        return min(self.used, self.scale)

    @property
    def used_text(self) -> str:
        return told(self.amount, self.used)

    @property
    def limit_text(self) -> str:
        return "" if self.limit is None else told(self.amount, self.limit)

    @property
    def free_text(self) -> str:
        return "" if self.free is None else told(self.amount, self.free)


class Ledger:
    """Targets, quotas and what is reserved, as one moment shows them."""

    def __init__(self, workspace: Workspace | None = None, *, lock: bool = False, without: str = "") -> None:
        """`without`: the owner whose own reservation does not count. `lock`: see `every_target`."""
        self.workspace = workspace
        self.targets = every_target(lock=lock)
        self.choice = self._choice(lock=lock)
        sums = Reservation.objects.exclude(owner_key=without).order_by().values("target", "workspace_id")
        sums = sums.annotate(**{f"{amount}_sum": Sum(amount) for amount in QUOTAS})
        self._sums: list[dict[str, Any]] = [dict(each) for each in sums]

    def _choice(self, *, lock: bool) -> WorkspaceCompute | None:
        if self.workspace is None:
            return None
        rows = WorkspaceCompute.objects.filter(pk=self.workspace.pk)
        return (rows.select_for_update() if lock else rows).first()

    def target_line(self, target: ComputeTarget, amount: str) -> Line:
        return Line(amount, self._taken(amount, sharing(target, amount, self.targets)), capacity(target, amount))

    def target_lines(self, target: ComputeTarget) -> list[Line]:
        return [self.target_line(target, amount) for amount in AMOUNTS]

    def reserved_on(self, name: str, amount: str) -> int:
        """What is reserved on one target alone."""
        return self._taken(amount, {name})

    def quota_line(self, amount: str) -> Line:
        used = sum(each[f"{amount}_sum"] for each in self._sums if each["workspace_id"] == self._workspace.pk)
        return Line(amount, used, getattr(self.choice, amount, None))

    def quota_lines(self) -> list[Line]:
        return [self.quota_line(amount) for amount in QUOTAS]

    def place(self, needs: Needs) -> str:
        """The target for something of the workspace. Raises Problem "target-unfit" or "no-target"."""
        return choose(self._workspace, needs, every=self.targets, choice=self.choice)

    def most(self, instance: InstanceType, *, container: bool = False) -> tuple[int, str]:
        """How many instances of a type fit now, and why no more; `container`: of environments that need one."""
        try:
            name = self.place(Needs(container, instance.gpus, instance.isolation))
        except Problem as problem:
            return 0, problem.message
        wanted = _amounts(size_of(instance)[0], 1)
        found: tuple[int, str] | None = None
        lines = [(line, label(name)) for line in self.target_lines(self.targets[name])]
        lines += [(line, "") for line in self.quota_lines()]
        for line, where in lines:
            if line.free is None or not wanted[line.amount]:
                continue
            count = line.free // wanted[line.amount]
            if found is None or count < found[0]:
                found = count, _why(line, where)
        return found or (0, "")

    def _taken(self, amount: str, names: Collection[str]) -> int:
        return sum(each[f"{amount}_sum"] for each in self._sums if each["target"] in names)

    @property
    def _workspace(self) -> Workspace:
        if self.workspace is None:
            raise ValueError("this ledger was read for no workspace")
        return self.workspace


def _why(line: Line, where: str) -> str:
    if where:
        text = _("%(free)s of %(what)s free on %(place)s")
        return str(text) % {"free": line.free_text, "what": line.word, "place": where}
    text = _("%(free)s of the quota of %(what)s free")
    return str(text) % {"free": line.free_text, "what": line.word}


def _amounts(size: Size, instances: int) -> dict[str, int]:
    return {
        "cpu_milli": size.cpu_milli * instances,
        "mem_bytes": size.mem_bytes * instances,
        "gpus": size.gpus * instances,
        "instances": instances,
    }


_makers: list[Callable[[Collection[str], str], bool]] = []
MOST_TAKEN = 50  # that one reservation may take from others


def make_room_with(maker: Callable[[Collection[str], str], bool]) -> None:
    """Have `maker` give something of an amount back, on targets that lack it; it tells whether it had something.

    It is called in the transaction of the reservation.
    """
    _makers.append(maker)


@transaction.atomic
def reserve(
    *,
    owner_key: str,
    workspace: Workspace,
    target: str,
    size: Size,
    instances: int,
    keep: bool = False,
    preempts: bool = True,
) -> Reservation:
    """Hold what a deployment needs from now on, in place of what it held; call it in the deployment's transaction.

    Only what grows is checked: nobody is kept from asking for less, or for the same again. `keep`: what it held is
    still in use, so of each amount the larger one is held until `reserve_running` says what is left. `preempts`: what
    others hold at low priority is taken for it.

    Raises Problem "no-capacity" or "quota"; then nothing has changed.
    """
    asked = (owner_key, workspace, target, size, instances)
    for _try in range(MOST_TAKEN if preempts else 0):
        try:
            return _reserve(*asked, keep=keep)
        except Problem as problem:
            if problem.code != "no-capacity" or not _room_made(target, str(problem.params["amount"])):
                raise
    return _reserve(*asked, keep=keep)


def _room_made(target: str, amount: str) -> bool:
    targets = every_target()
    names = sharing(targets[target], amount, targets)
    return any(maker(names, amount) for maker in _makers)


@transaction.atomic
def _reserve(
    owner_key: str, workspace: Workspace, target: str, size: Size, instances: int, *, keep: bool
) -> Reservation:
    ledger = Ledger(workspace, lock=True, without=owner_key)
    held = Reservation.objects.filter(owner_key=owner_key).first()
    wanted = _amounts(size, instances)
    had = {amount: getattr(held, amount, 0) for amount in QUOTAS}
    place = ledger.targets.get(target)
    if place is None:
        raise Problem("no-target", reason=f"there is no compute target {target}")
    for amount in AMOUNTS:
        line = ledger.target_line(place, amount)
        here = had[amount] if held is not None and held.target in sharing(place, amount, ledger.targets) else 0
        if wanted[amount] > max(here, (line.limit or 0) - line.used):
            raise _no_capacity(line, wanted[amount] - here, here, target)
    for amount in QUOTAS:
        line = ledger.quota_line(amount)
        if line.limit is not None and wanted[amount] > max(had[amount], line.limit - line.used):
            raise _over_quota(line, wanted[amount] - had[amount], had[amount], workspace)
    if keep:
        wanted = {amount: max(had[amount], value) for amount, value in wanted.items()}
    values = {"workspace": workspace, "target": target, **wanted}
    row, _made = Reservation.objects.update_or_create(owner_key=owner_key, defaults=values)
    return row


@transaction.atomic
def reserve_running(owner_key: str, *, target: str, size: Size, instances: int) -> None:
    """Hold exactly what runs, unchecked: it is there already."""
    every_target(lock=True)
    Reservation.objects.filter(owner_key=owner_key).update(
        target=target, changed_at=timezone.now(), **_amounts(size, instances)
    )


def _no_capacity(line: Line, asked: int, here: int, target: str) -> Problem:
    """`asked`: beyond what the deployment itself holds here."""
    free = max(0, (line.limit or 0) - line.used - here)
    return Problem(
        "no-capacity",
        what=line.word,
        place=label(target),
        asked=told(line.amount, asked),
        free=told(line.amount, free),
        amount=line.amount,
        target=FIELDS[line.amount],
    )


def _over_quota(line: Line, asked: int, had: int, workspace: Workspace) -> Problem:
    limit = line.limit or 0
    return Problem(
        "quota",
        what=line.word,
        workspace=workspace.name,
        asked=told(line.amount, asked),
        free=told(line.amount, max(0, limit - line.used - had)),
        limit=told(line.amount, limit),
        target=FIELDS[line.amount],
    )


FIELDS = {"cpu_milli": "instanceType", "mem_bytes": "instanceType", "gpus": "instanceType", "instances": "sku.capacity"}


def reservation(owner_key: str) -> Reservation | None:
    return Reservation.objects.filter(owner_key=owner_key).first()


def size_held(held: Reservation) -> Size:
    """What one instance of a deployment holds: IT may have changed the instance type since."""
    count = max(1, held.instances)
    return Size(held.cpu_milli // count, held.mem_bytes // count, held.gpus // count)


def release(owner_keys: Iterable[str]) -> int:
    """Give back what deployments held; in the transaction that deletes their rows. Returns how many did."""
    return Reservation.objects.filter(owner_key__in=list(owner_keys)).delete()[0]


def driver_of(owner_key: str) -> str:
    """The driver a deployment was placed on."""
    found = Reservation.objects.filter(owner_key=owner_key).values_list("target", flat=True).first()
    return found or settings.DEFAULT_DRIVER


@transaction.atomic
def release_unowned(living: Callable[[Collection[str]], set[str]], *, kind: str = "/") -> int:
    """Give back what is held for owners that are gone. `living`: which of some owners are there.

    `kind`: what the keys of these owners have in them, "/" for deployments and ":" for nodes.

    Nobody can reserve meanwhile, so an owner that comes back just now keeps what it gets.
    """
    every_target(lock=True)
    held = {each.owner_key: each for each in Reservation.objects.filter(owner_key__contains=kind)}
    lost = set(held) - living(set(held))
    for owner in sorted(lost):
        log.warning("reservation.unowned", owner=owner, target=held[owner].target, instances=held[owner].instances)
    return release(lost)

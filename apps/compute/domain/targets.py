"""Compute targets: what each can run, how much it may give away, and where a workspace's deployments go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts.models import Workspace
from apps.compute.domain.recipes import driver
from apps.compute.domain.sizes import machine
from apps.compute.enums import Isolation
from apps.compute.models import ComputeTarget, WorkspaceCompute
from apps.core import audit
from apps.core.errors import Problem
from apps.core.models import AuditRecord

PROCESS, DOCKER, FAKE = "process", "docker", "fake"
LABELS: dict[str, str | Promise] = {
    PROCESS: gettext_lazy("local processes"),
    DOCKER: gettext_lazy("containers"),
    FAKE: gettext_lazy("pretended instances"),
}
AMOUNTS = ("cpu_milli", "mem_bytes", "gpus")
OVERCOMMIT_RANGE = (Decimal("0.1"), Decimal(100))
AMOUNT_MOST = {"cpu_milli": 10**9, "mem_bytes": 2**60, "gpus": 10_000, "instances": 1_000_000}
LARGE = {"cpu_milli": 10**12, "mem_bytes": 2**60, "gpus": 10**6}


@dataclass(frozen=True)
class Needs:
    """What a deployment demands of the target it runs on."""

    container: bool = False
    gpus: int = 0
    isolation: str = Isolation.ANY


def label(name: str) -> str:
    """A target as sentences name it."""
    return str(LABELS.get(name, name))


def seed_targets() -> None:
    """The targets that come with Portway. Until IT has decided, containers are on when there is an engine."""
    ComputeTarget.objects.get_or_create(name=PROCESS, defaults={"enabled": settings.PROCESS_COMPUTE})
    there = bool(settings.DOCKER_URL)
    found, made = ComputeTarget.objects.get_or_create(name=DOCKER, defaults={"enabled": there})
    if not made and found.enabled != there and not AuditRecord.objects.filter(target=topic(DOCKER)).exists():
        ComputeTarget.objects.filter(pk=DOCKER).update(enabled=there)


def topic(name: str) -> str:
    return f"compute-target/{name}"


def every_target(*, lock: bool = False) -> dict[str, ComputeTarget]:
    """Every target by name. The default driver is one even without a row.

    `lock`: kept as they are until the transaction ends, so that only one reservation is made at a time.
    """
    rows = ComputeTarget.objects.order_by("name")
    found = {each.name: each for each in (rows.select_for_update() if lock else rows)}
    default = settings.DEFAULT_DRIVER
    if default not in found and default != FAKE and lock:  # without a row there is nothing to lock
        seed_targets()
        ComputeTarget.objects.get_or_create(name=default)
        return every_target(lock=True)
    if default not in found:
        found[default] = ComputeTarget(name=default, **(LARGE if default == FAKE else {}))
    return found


def measured(name: str, amount: str) -> int:
    """How much of an amount the machine has for a target."""
    if amount == "gpus":
        return 0 if name == PROCESS else sum(1 for _each in Path("/dev").glob("nvidia[0-9]*"))
    return machine()[AMOUNTS.index(amount)]


def capacity(target: ComputeTarget, amount: str) -> int:
    """What may be reserved of an amount, all in all."""
    given = getattr(target, amount)
    base = measured(target.name, amount) if given is None else given
    factor = {"cpu_milli": target.overcommit_cpu, "mem_bytes": target.overcommit_memory}.get(amount, 1)
    return int(base * Decimal(factor))


def sharing(target: ComputeTarget, amount: str, every: Mapping[str, ComputeTarget]) -> set[str]:
    """The targets that take an amount from the same heap: all those that have what the machine has."""
    if getattr(target, amount) is not None or amount == "gpus":
        return {target.name}
    return {each.name for each in every.values() if getattr(each, amount) is None} | {target.name}


def unfit(target: ComputeTarget, needs: Needs) -> str:
    """Why a target cannot run something; empty when it can."""
    if not target.enabled:
        return _("%(place)s are switched off") % {"place": label(target.name)}
    if target.name == DOCKER and not settings.DOCKER_URL:
        return _("there is no container engine")
    if target.name == PROCESS and not settings.PROCESS_COMPUTE:
        return _("Portway runs in containers here, and so do its instances")
    return _beyond_processes(needs) if target.name == PROCESS else ""


def _beyond_processes(needs: Needs) -> str:
    if needs.container:
        return _("the environment needs a container, local processes have none")
    if needs.gpus:
        return _("GPUs are given to containers only")
    if needs.isolation == Isolation.CONTAINER:
        return _("the instance type asks for containers")
    if needs.isolation == Isolation.SANDBOX and not _sandboxed():
        return _("the instance type asks for a sandbox, and this machine allows local processes none")
    return ""


def _sandboxed() -> bool:
    back_end: Any = driver(PROCESS)
    return str(back_end.describe()["level"]).startswith("bwrap")


def choose(
    workspace: Workspace, needs: Needs, *, every: Mapping[str, ComputeTarget], choice: WorkspaceCompute | None
) -> str:
    """The target for something: the workspace's own, else the first that fits. Raises "target-unfit" or "no-target"."""
    if choice is not None and choice.target:
        target = every.get(choice.target)
        reason = unfit(target, needs) if target is not None else _("it is not there any more")
        if reason:
            raise Problem("target-unfit", workspace=workspace.name, place=label(choice.target), reason=reason)
        return choice.target
    reasons = []
    for target in _in_order(every):
        reason = unfit(target, needs)
        if not reason:
            return target.name
        reasons.append(reason)
    raise Problem("no-target", reason="; ".join(dict.fromkeys(reasons)))


def _in_order(every: Mapping[str, ComputeTarget]) -> Iterator[ComputeTarget]:
    """The default first: containers only for what needs them."""
    yield every[settings.DEFAULT_DRIVER]
    for name, target in sorted(every.items()):
        if name != settings.DEFAULT_DRIVER:
            yield target


def place(workspace: Workspace, *, needs_container: bool, gpus: int, isolation: str) -> str:
    """The driver that runs something of this workspace.

    Raises Problem "target-unfit" when the workspace's own target cannot, "no-target" when none of the enabled ones can.
    """
    needs = Needs(needs_container, gpus, isolation)
    return choose(
        workspace, needs, every=every_target(), choice=WorkspaceCompute.objects.filter(pk=workspace.pk).first()
    )


@transaction.atomic
def save_target(
    *,
    name: str,
    enabled: bool,
    cpu_milli: int | None,
    mem_bytes: int | None,
    gpus: int | None,
    overcommit_cpu: Decimal,
    overcommit_memory: Decimal,
    actor: Any,
) -> ComputeTarget:
    """Change what a target gives away; an amount of None is measured. What runs goes on, also when it is less.

    Raises Problem "not-found" or "bad-field".
    """
    found = ComputeTarget.objects.select_for_update().filter(pk=name).first()
    if found is None:
        raise Problem("not-found", kind="compute target", name=name)
    after = {"cpu_milli": cpu_milli, "mem_bytes": mem_bytes, "gpus": gpus}
    _check_amounts(after)
    for field, factor in (("overcommit_cpu", overcommit_cpu), ("overcommit_memory", overcommit_memory)):
        least, most = OVERCOMMIT_RANGE
        if not least <= factor <= most:
            raise Problem("bad-field", field=field, reason=f"must be {least} to {most}, not {factor}", target=field)
    values = {**after, "enabled": enabled, "overcommit_cpu": overcommit_cpu, "overcommit_memory": overcommit_memory}
    before = {field: getattr(found, field) for field in values}
    ComputeTarget.objects.filter(pk=name).update(**values)
    told = {"before": _told(before), "after": _told(values)}
    audit.record(actor, "compute-target.update", workspace="", target=topic(name), **told)
    found.refresh_from_db()
    return found


@transaction.atomic
def save_workspace_compute(
    *,
    workspace: Workspace,
    target: str,
    cpu_milli: int | None,
    mem_bytes: int | None,
    gpus: int | None,
    instances: int | None,
    actor: Any,
) -> WorkspaceCompute:
    """Say where a workspace runs ("" is automatic) and how much it may reserve; None is unlimited.

    What it has beyond a lower quota stays. Raises Problem "bad-field".
    """
    if target and target not in every_target():
        raise Problem("bad-field", field="target", reason=f"there is no compute target {target}", target="target")
    quotas = {"cpu_milli": cpu_milli, "mem_bytes": mem_bytes, "gpus": gpus, "instances": instances}
    _check_amounts(quotas)
    values = {"target": target, **quotas}
    found = WorkspaceCompute.objects.select_for_update().filter(pk=workspace.pk).first()
    before = {field: getattr(found, field) for field in values} if found is not None else {}
    row, _made = WorkspaceCompute.objects.update_or_create(workspace=workspace, defaults=values)
    about = f"workspace/{workspace.name}"
    audit.record(actor, "workspace.compute", workspace=workspace.name, target=about, before=before, after=values)
    return row


def _check_amounts(values: Mapping[str, int | None]) -> None:
    for field, value in values.items():
        if value is not None and not 0 <= value <= AMOUNT_MOST[field]:
            reason = f"must be 0 to {AMOUNT_MOST[field]}, not {value}"
            raise Problem("bad-field", field=field, reason=reason, target=field)


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Decimal) else value for key, value in values.items()}

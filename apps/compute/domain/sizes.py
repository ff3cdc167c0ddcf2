"""Instance types: the sizes a user can choose, and what this machine makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import transaction

from apps.compute.enums import Isolation
from apps.compute.models import InstanceType
from apps.compute.quantities import CPU_RANGE, GPU_RANGE, MEM_RANGE, Resources, Size, cores, gib, limits_of
from apps.core import audit
from apps.core.errors import Problem

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
PRICE_MOST = Decimal(100_000)


def instance_type(name: str, *, also: str = "") -> InstanceType:
    """The type of that name that can be chosen; `also`: one that may be named though it is hidden.

    Raises Problem "bad-field" for a name this installation does not know or does not offer.
    """
    found = InstanceType.objects.filter(name__iexact=name).first()
    if found is not None and (found.enabled or name == also):
        return found
    known = ", ".join(InstanceType.objects.filter(enabled=True).values_list("name", flat=True)[:6])
    why = f"there is no instance type {name}" if found is None else f"instance type {name} is not offered any more"
    raise Problem("bad-field", field="instanceType", reason=f"{why}; known are {known}, …", target="instanceType")


@transaction.atomic
def save_instance_type(
    *,
    name: str,
    cpu_milli: int,
    mem_bytes: int,
    position: int,
    actor: Any,
    gpus: int = 0,
    price_hour: Decimal = Decimal(0),
    isolation: str = Isolation.ANY,
    enabled: bool = True,
    new: bool = False,
) -> InstanceType:
    """Add a size to the catalogue, or change one; what runs keeps its size until its deployment is rolled out anew.

    Raises:
        Problem: "bad-name", "exists" (for a new one), "not-found" (for a change), "bad-field".
    """
    found = InstanceType.objects.select_for_update().filter(name__iexact=name).first()
    if new and found is not None:
        raise Problem("exists", kind="Instance type", name=found.name, target="name")
    if not new and found is None:
        raise Problem("not-found", kind="instance type", name=name)
    if not NAME.fullmatch(name):
        rule = "letters, digits, dots, dashes and underscores, at most 60"
        raise Problem("bad-name", kind="instance type", name=name, rule=rule, target="name")
    after = {
        "cpu_milli": cpu_milli,
        "mem_bytes": mem_bytes,
        "gpus": gpus,
        "price_hour": price_hour,
        "isolation": isolation,
        "enabled": enabled,
        "position": position,
    }
    _check(after)
    before = {} if found is None else _told({field: getattr(found, field) for field in after})
    row, _ = InstanceType.objects.update_or_create(name=found.name if found else name, defaults=after)
    action = "instance-type.create" if new else "instance-type.update"
    audit.record(actor, action, workspace="", target=f"instance-type/{row.name}", before=before, after=_told(after))
    return row


def _check(values: Mapping[str, Any]) -> None:
    bounds = (
        ("cpu", "cpu_milli", CPU_RANGE),
        ("memory", "mem_bytes", MEM_RANGE),
        ("gpus", "gpus", GPU_RANGE),
        ("price", "price_hour", (0, PRICE_MOST)),
        ("position", "position", (0, 30_000)),
    )
    for field, key, (least, most) in bounds:
        if not least <= values[key] <= most:
            raise Problem(
                "bad-field", field=field, reason=f"must be {least} to {most}, not {values[key]}", target=field
            )
    if values["isolation"] not in Isolation.values:
        reason = f"must be one of {', '.join(filter(None, Isolation.values))}, or empty"
        raise Problem("bad-field", field="isolation", reason=reason, target="isolation")


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Decimal) else value for key, value in values.items()}


def hourly(instance: InstanceType | None, count: int) -> Decimal | None:
    """What so many instances cost an hour; None when IT gave no price. Shown, never billed."""
    return instance.price_hour * count if instance is not None and instance.price_hour else None


def seed_instance_types() -> None:
    """The sizes that come with Portway; ones an operator changed are left alone."""
    for position, (name, cpu, memory) in enumerate(SIZES):
        InstanceType.objects.get_or_create(
            name=name,
            defaults={"cpu_milli": int(cpu * 1000), "mem_bytes": int(memory * 2**30), "position": position},
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


def machine() -> tuple[int, int]:
    """(cpu_milli, mem_bytes) that this machine has for instances."""
    import psutil  # noqa: PLC0415 -- slow to import, rarely needed

    return (psutil.cpu_count() or 1) * 1000, int(psutil.virtual_memory().total * 0.9)


def usable(instance: InstanceType) -> tuple[int, int, list[str]]:
    """(cpu_milli, mem_bytes, notes): the size, cut down to this machine, with a sentence for each cut."""
    size, notes = size_of(instance)
    return size.cpu_milli, size.mem_bytes, notes


def size_of(instance: InstanceType, resources: Resources | None = None) -> tuple[Size, list[str]]:
    """What one instance gets: the type's size or what `resources` asks for, cut down to this machine, and the cuts."""
    asked = limits_of(resources or {}, Size(instance.cpu_milli, instance.mem_bytes, instance.gpus))
    name = instance.name if not resources else "What was asked for"
    cpu, memory = machine()
    notes = []
    if asked.cpu_milli > cpu:
        here = cores(cpu)
        notes.append(f"{name} has {cores(asked.cpu_milli)} cores, this machine {here}: replicas get {here}.")
    if asked.mem_bytes > memory:
        here = gib(memory)
        notes.append(f"{name} has {gib(asked.mem_bytes)}, more than this machine: replicas get {here}.")
    return Size(min(asked.cpu_milli, cpu), min(asked.mem_bytes, memory), asked.gpus), notes

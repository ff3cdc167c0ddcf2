"""Instance types: the sizes a user can choose, and what this machine makes of them."""

from __future__ import annotations

import re
from typing import Any

from django.db import transaction

from apps.compute.models import InstanceType
from apps.core import audit
from apps.core.errors import Problem

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
CPU_RANGE = (100, 1_024_000)
MEM_RANGE = (64 * 2**20, 64 * 2**40)


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
def save_instance_type(
    *, name: str, cpu_milli: int, mem_bytes: int, position: int, actor: Any, new: bool = False
) -> InstanceType:
    """Add a size to the catalogue, or change one; what runs keeps its size until its deployment is rolled out anew.

    Raises:
        Problem: "bad-name", "exists" (for a new one), "not-found" (for a change), "bad-field".
    """
    found = InstanceType.objects.filter(name__iexact=name).first()
    if new and found is not None:
        raise Problem("exists", kind="Instance type", name=found.name, target="name")
    if not new and found is None:
        raise Problem("not-found", kind="instance type", name=name)
    if not NAME.fullmatch(name):
        rule = "letters, digits, dots, dashes and underscores, at most 60"
        raise Problem("bad-name", kind="instance type", name=name, rule=rule, target="name")
    for field, value, (least, most) in (("cpu", cpu_milli, CPU_RANGE), ("memory", mem_bytes, MEM_RANGE)):
        if not least <= value <= most:
            raise Problem("bad-field", field=field, reason=f"must be {least} to {most}, not {value}", target=field)
    before = {} if found is None else {"cpu_milli": found.cpu_milli, "mem_bytes": found.mem_bytes}
    row, _ = InstanceType.objects.update_or_create(
        name=found.name if found else name,
        defaults={"cpu_milli": cpu_milli, "mem_bytes": mem_bytes, "position": position},
    )
    after = {"cpu_milli": cpu_milli, "mem_bytes": mem_bytes, "position": position}
    action = "instance-type.create" if new else "instance-type.update"
    audit.record(actor, action, workspace="", target=f"instance-type/{row.name}", before=before, after=after)
    return row


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
        had, here = instance.cpu_milli // 1000, cores // 1000
        notes.append(f"{instance.name} has {had} cores, this machine {here}: replicas get {here}.")
    if instance.mem_bytes > memory:
        had, here = instance.mem_bytes // 2**30, memory // 2**30
        notes.append(f"{instance.name} has {had} GiB, more than this machine: replicas get {here} GiB.")
    return min(instance.cpu_milli, cores), min(instance.mem_bytes, memory), notes

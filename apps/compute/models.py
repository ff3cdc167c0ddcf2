"""Replica sets (what should run) and replicas (what does)."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.db import models

from apps.accounts.models import Workspace
from apps.compute.enums import Isolation, ReplicaState


class InstanceType(models.Model):
    """A size a user can choose, by name. Azure's names are aliases with the sizes of the machines they stand for."""

    name = models.CharField(max_length=60, primary_key=True)
    cpu_milli = models.PositiveIntegerField()
    mem_bytes = models.PositiveBigIntegerField()
    gpus = models.PositiveSmallIntegerField(default=0)
    price_hour = models.DecimalField(
        max_digits=10, decimal_places=4, default=Decimal(0), help_text="of one instance; shown, never billed"
    )
    isolation = models.CharField(max_length=10, choices=Isolation.choices, default=Isolation.ANY, blank=True)
    enabled = models.BooleanField(default=True, help_text="off: nothing new can choose it; what has it keeps it")
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name


class ComputeTarget(models.Model):
    """Where instances run: a driver, with what IT lets it give away.

    An amount that is None is measured from the machine. `overcommit_*`: how many times the amount may be reserved.
    """

    name = models.CharField(max_length=20, primary_key=True, help_text="the driver's")
    enabled = models.BooleanField(default=True)
    cpu_milli = models.PositiveBigIntegerField(null=True, blank=True)
    mem_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    gpus = models.PositiveIntegerField(null=True, blank=True)
    overcommit_cpu = models.DecimalField(max_digits=6, decimal_places=2, default=Decimal(8))
    overcommit_memory = models.DecimalField(max_digits=6, decimal_places=2, default=Decimal(2))

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class WorkspaceCompute(models.Model):
    """What IT decided for one workspace: where it runs, and how much it may reserve. None is unlimited."""

    workspace = models.OneToOneField(Workspace, primary_key=True, on_delete=models.CASCADE, related_name="compute")
    target = models.CharField(max_length=20, blank=True, help_text="empty: the target that fits is taken")
    cpu_milli = models.PositiveBigIntegerField(null=True, blank=True)
    mem_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    gpus = models.PositiveIntegerField(null=True, blank=True)
    instances = models.PositiveIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"compute of {self.workspace}"


class Reservation(models.Model):
    """What a deployment holds of a target as long as it exists, all its instances together."""

    owner_key = models.CharField(max_length=120, unique=True, help_text="as in ReplicaSet")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="reservations")
    target = models.CharField(max_length=20, db_index=True)
    cpu_milli = models.PositiveBigIntegerField()
    mem_bytes = models.PositiveBigIntegerField()
    gpus = models.PositiveIntegerField(default=0)
    instances = models.PositiveIntegerField()
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.owner_key} on {self.target}"


class ReplicaSet(models.Model):
    """One revision of a deployment: the frozen recipe of its replicas, and how many there should be.

    `owner_key` names who it is for (e.g. "iris/blue"); this app asks no more about it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner_key = models.CharField(max_length=120, db_index=True)
    revision = models.PositiveIntegerField()
    driver = models.CharField(max_length=20)
    spec = models.JSONField(help_text="argv, env, mounts, resources: see compute.domain.Recipe")
    desired = models.PositiveSmallIntegerField(default=0)
    served = models.BooleanField(default=False, help_text="a replica of it was ready once: it is never given up again")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner_key", "revision"], name="one_set_per_revision")]

    def __str__(self) -> str:
        return f"{self.owner_key} r{self.revision}"


class Replica(models.Model):
    set = models.ForeignKey(ReplicaSet, on_delete=models.CASCADE, related_name="replicas")
    name = models.CharField(max_length=63, unique=True)
    index = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=16, choices=ReplicaState.choices, default=ReplicaState.PENDING)
    handle = models.JSONField(null=True)
    address = models.CharField(max_length=200, blank=True)
    isolation = models.CharField(max_length=60, blank=True)
    restarts = models.PositiveIntegerField(default=0)
    exits_in_a_row = models.PositiveIntegerField(default=0)
    reason = models.JSONField(null=True, help_text="why it is not ready: a stored Problem")
    started_at = models.DateTimeField(null=True)
    ready_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    unready_since = models.DateTimeField(null=True)

    class Meta:
        ordering = ["index"]

    def __str__(self) -> str:
        return self.name

    @property
    def tone(self) -> str:
        return ReplicaState(self.state).tone

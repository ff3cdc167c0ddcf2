"""Operations with their steps, the audit trail, and leases."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class OperationState(models.TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")

    @classmethod
    def live(cls) -> tuple[str, ...]:
        return (cls.QUEUED, cls.RUNNING)

    @property
    def tone(self) -> str:
        return {"queued": "idle", "running": "running", "succeeded": "ok", "failed": "failed", "canceled": "idle"}[self]


class Operation(models.Model):
    """One long-running change. The REST poll, the studio's timeline and the CLI's progress bar all read this row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=64)
    workspace = models.CharField(max_length=64, db_index=True)
    target = models.CharField(max_length=200, help_text="what it changes, e.g. online-endpoint/iris")
    resource_url = models.CharField(max_length=300, blank=True, help_text="path of the resource below the workspace")
    lock = models.CharField(max_length=200, help_text="at most one live operation holds a lock")
    payload = models.JSONField(default=dict)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    state = models.CharField(max_length=16, choices=OperationState.choices, default=OperationState.QUEUED)
    percent = models.PositiveSmallIntegerField(default=0)
    error = models.JSONField(null=True)
    cancel_requested = models.BooleanField(default=False)
    attempt = models.PositiveSmallIntegerField(default=0)
    owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["state", "lease_until"]), models.Index(fields=["target", "-created_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["lock"], condition=models.Q(state__in=["queued", "running"]), name="one_live_operation_per_lock"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"

    @property
    def live(self) -> bool:
        return self.state in OperationState.live()

    @property
    def tone(self) -> str:
        return OperationState(self.state).tone


class StepState(models.TextChoices):
    RUNNING = "running", _("Running")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")


class OperationStep(models.Model):
    operation = models.ForeignKey(Operation, on_delete=models.CASCADE, related_name="steps")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    state = models.CharField(max_length=16, choices=StepState.choices, default=StepState.RUNNING)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    log = models.TextField(blank=True)
    log_start = models.PositiveBigIntegerField(default=0, help_text="how much of the log was dropped before it")

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["operation", "name"], name="one_row_per_step")]

    def __str__(self) -> str:
        return self.name


class AuditRecord(models.Model):
    """Who did what to which object. Append-only."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    action = models.CharField(max_length=64)
    workspace = models.CharField(max_length=64, blank=True, db_index=True)
    target = models.CharField(max_length=200, db_index=True)
    detail = models.JSONField(default=dict)
    request = models.CharField(max_length=64, blank=True, db_index=True, help_text="x-request-id, as in the access log")

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [models.Index(fields=["workspace", "-at"]), models.Index(fields=["actor", "-at"])]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


class Lease(models.Model):
    """The right to do something for a while. `token` grows with every change of hands: late writes are recognised."""

    name = models.CharField(max_length=200, primary_key=True)
    holder = models.CharField(max_length=80, blank=True)
    token = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Limit(models.Model):
    """What an administrator set instead of a default of `settings.LIMITS`; read through `apps.core.limits`."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.PositiveBigIntegerField()
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.name

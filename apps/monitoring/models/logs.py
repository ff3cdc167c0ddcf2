"""What is kept of a replica when it is gone."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Why(models.TextChoices):
    CRASHED = "crashed", _("Ended by itself")
    FAILED = "failed", _("Did not come up")
    SCALED_IN = "scaled-in", _("Scaled in")
    REPLACED = "replaced", _("Replaced by a new revision")
    DELETED = "deleted", _("Deleted")
    STOPPED = "stopped", _("Stopped with Portway")

    @property
    def tone(self) -> str:
        return "failed" if self in {Why.CRASHED, Why.FAILED} else "idle"


class ReplicaLog(models.Model):
    """One life of a replica, from its start to its end; what it said is in a file.

    The names are text and not foreign keys: the rows they were of are gone, and others may have the names by now.
    """

    workspace = models.CharField(max_length=64)
    endpoint = models.CharField(max_length=32)
    deployment = models.CharField(max_length=32)
    revision = models.PositiveIntegerField()
    index = models.PositiveSmallIntegerField()
    replica = models.CharField(max_length=63)
    address = models.CharField(max_length=200, blank=True, help_text="where it listened, as the gateway writes it")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    first_at = models.DateTimeField(null=True, help_text="time of the first line")
    last_at = models.DateTimeField(null=True)
    lines = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0, help_text="of the file")
    exit_code = models.IntegerField(null=True)
    oom = models.BooleanField(default=False)
    why = models.CharField(max_length=16, choices=Why.choices)
    reason = models.JSONField(null=True, help_text="a stored Problem")
    file = models.CharField(max_length=300, blank=True, help_text="below logs/replicas; empty when it said nothing")
    mark = models.CharField(max_length=100, blank=True, help_text="the driver's mark behind the last line kept")

    class Meta:
        ordering = ["-ended_at", "-pk"]
        indexes = [
            models.Index(fields=["workspace", "endpoint", "-ended_at"]),
            models.Index(fields=["ended_at"]),
        ]
        constraints = [models.UniqueConstraint(fields=["replica", "started_at"], name="one_log_per_life")]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.deployment} r{self.revision} #{self.index}"

    @property
    def tone(self) -> str:
        return Why(self.why).tone

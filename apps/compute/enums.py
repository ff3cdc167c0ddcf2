from django.db import models
from django.utils.translation import gettext_lazy as _


class ReplicaState(models.TextChoices):
    PENDING = "pending", _("Pending")
    STARTING = "starting", _("Starting")
    READY = "ready", _("Ready")
    UNREADY = "unready", _("Unready")
    BACKOFF = "backoff", _("Waiting to restart")
    FAILED = "failed", _("Failed")
    DRAINING = "draining", _("Draining")
    HELD = "held", _("Stopped by an administrator")

    @property
    def tone(self) -> str:
        return {
            "pending": "idle",
            "starting": "running",
            "ready": "ok",
            "unready": "degraded",
            "backoff": "degraded",
            "failed": "failed",
            "draining": "idle",
            "held": "idle",
        }[self]


class Isolation(models.TextChoices):
    """What an instance type demands of the target it runs on."""

    ANY = "", _("Any")
    SANDBOX = "sandbox", _("At least a sandbox")
    CONTAINER = "container", _("Containers only")

"""The words of Azure ML for batch work (spec 2.3), as they travel on the wire."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.endpoints.enums import ProvisioningState

__all__ = [
    "ClusterTier",
    "DeploymentType",
    "JobState",
    "JobType",
    "LoggingLevel",
    "MiniBatchState",
    "NodeState",
    "OutputAction",
    "ProvisioningState",
]


class ClusterTier(models.TextChoices):
    DEDICATED = "Dedicated", _("Dedicated")
    LOW_PRIORITY = "LowPriority", _("Low priority")


class NodeState(models.TextChoices):
    PREPARING = "preparing", _("Preparing")  # wanted, but no host has taken it yet, or its worker starts
    IDLE = "idle", _("Idle")
    RUNNING = "running", _("Running")
    LEAVING = "leaving", _("Leaving")  # a word of the wire: here nodes go in one step, so none is ever seen in it
    PREEMPTED = "preempted", _("Preempted")

    @property
    def tone(self) -> str:
        return {"running": "running", "preparing": "running", "idle": "ok"}.get(str(self), "idle")


class DeploymentType(models.TextChoices):
    MODEL = "Model", _("Model")
    PIPELINE = "PipelineComponent", _("Pipeline component")


class OutputAction(models.TextChoices):
    APPEND_ROW = "AppendRow", _("Append rows")
    SUMMARY_ONLY = "SummaryOnly", _("Summary only")


class LoggingLevel(models.TextChoices):
    INFO = "Info", _("Info")
    WARNING = "Warning", _("Warning")
    DEBUG = "Debug", _("Debug")


class JobType(models.TextChoices):
    SCORING = "scoring", _("Batch scoring")
    PIPELINE = "pipeline", _("Pipeline")
    COMMAND = "command", _("Command")


class JobState(models.TextChoices):
    NOT_STARTED = "NotStarted", _("Not started")
    PREPARING = "Preparing", _("Preparing")
    QUEUED = "Queued", _("Queued")
    RUNNING = "Running", _("Running")
    FINALIZING = "Finalizing", _("Finalizing")
    CANCEL_REQUESTED = "CancelRequested", _("Cancel requested")
    COMPLETED = "Completed", _("Completed")
    FAILED = "Failed", _("Failed")
    CANCELED = "Canceled", _("Canceled")

    @classmethod
    def live(cls) -> tuple[str, ...]:
        return tuple(state for state in cls.values if state not in cls.ended())

    @classmethod
    def ended(cls) -> tuple[str, ...]:
        return (cls.COMPLETED, cls.FAILED, cls.CANCELED)

    @property
    def tone(self) -> str:
        ended = {"Completed": "ok", "Failed": "failed", "Canceled": "idle", "NotStarted": "idle", "Queued": "idle"}
        return ended.get(str(self), "running")


class MiniBatchState(models.TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")

    @property
    def tone(self) -> str:
        return {"done": "ok", "failed": "failed", "running": "running"}.get(str(self), "idle")

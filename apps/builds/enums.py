from django.db import models
from django.utils.translation import gettext_lazy as _


class BuildState(models.TextChoices):
    BUILDING = "building", _("Building")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")

    @property
    def tone(self) -> str:
        return {"building": "running", "succeeded": "ok", "failed": "failed"}[self]


class BuildKind(models.TextChoices):
    PACKAGES = "packages", _("Packages")
    IMAGE = "image", _("Image, built here")
    PULLED = "pulled", _("Image, pulled")


class Outcome(models.TextChoices):
    """How one attempt to make an environment runnable ended."""

    RUNNING = "running", _("Running")
    BUILT = "built", _("Built")
    FOUND = "found", _("Found, nothing to build")
    FAILED = "failed", _("Failed")
    CANCELED = "canceled", _("Canceled")
    INTERRUPTED = "interrupted", _("Interrupted")

    @property
    def tone(self) -> str:
        tones = {"running": "running", "built": "ok", "found": "ok", "failed": "failed"}
        return tones.get(self, "idle")


class PackageServer(models.TextChoices):
    """What serves the model of a package; the words of the YAML."""

    AZUREML_ONLINE = "azureml_online", _("Portway's scoring server")
    TRITON = "triton", _("Triton")
    CUSTOM = "custom", _("The image's own")


class ModelMode(models.TextChoices):
    """How a package has its model."""

    DOWNLOAD = "download", _("Download: fetched when it is deployed")
    COPY = "copy", _("Copy: in the image")

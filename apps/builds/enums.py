from django.db import models
from django.utils.translation import gettext_lazy as _


class BuildState(models.TextChoices):
    BUILDING = "building", _("Building")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")

    @property
    def tone(self) -> str:
        return {"building": "running", "succeeded": "ok", "failed": "failed"}[self]

"""The words of Azure ML (spec 2.3), as they travel on the wire."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class ProvisioningState(models.TextChoices):
    CREATING = "Creating", _("Creating")
    UPDATING = "Updating", _("Updating")
    SCALING = "Scaling", _("Scaling")
    DELETING = "Deleting", _("Deleting")
    SUCCEEDED = "Succeeded", _("Succeeded")
    FAILED = "Failed", _("Failed")
    CANCELED = "Canceled", _("Canceled")

    @property
    def tone(self) -> str:
        return {"Succeeded": "ok", "Failed": "failed", "Canceled": "idle"}.get(str(self), "running")


SETTLED = (ProvisioningState.SUCCEEDED, ProvisioningState.FAILED, ProvisioningState.CANCELED)


class AuthMode(models.TextChoices):
    KEY = "Key", _("Key")
    AML_TOKEN = "AMLToken", _("Token")
    AAD_TOKEN = "AADToken", _("Identity")

from django.db import models
from django.utils.translation import gettext_lazy as _


class ModelType(models.TextChoices):
    """Azure ML's words; they are what travels on the wire."""

    CUSTOM = "custom_model", _("Custom")
    MLFLOW = "mlflow_model", _("MLflow")
    TRITON = "triton_model", _("Triton")


class ComponentType(models.TextChoices):
    COMMAND = "command", _("Command")
    PIPELINE = "pipeline", _("Pipeline")

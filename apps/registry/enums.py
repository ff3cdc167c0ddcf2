from django.db import models
from django.utils.translation import gettext_lazy as _


class ModelType(models.TextChoices):
    """Azure ML's words; they are what travels on the wire."""

    CUSTOM = "custom_model", _("Custom")
    MLFLOW = "mlflow_model", _("MLflow")
    TRITON = "triton_model", _("Triton")


class DataType(models.TextChoices):
    FILE = "uri_file", _("File")
    FOLDER = "uri_folder", _("Folder")
    TABLE = "mltable", _("MLTable")


class DatastoreType(models.TextChoices):
    LOCAL = "Local", _("Folder of this machine")
    AZURE_BLOB = "AzureBlob", _("Azure Blob Storage")
    S3 = "S3", _("S3")


class ComponentType(models.TextChoices):
    COMMAND = "command", _("Command")
    PIPELINE = "pipeline", _("Pipeline")

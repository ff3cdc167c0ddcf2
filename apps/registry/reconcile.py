"""The registry's part of the controller."""

from apps.core.controller import every
from apps.registry import mlflow_link, storage

every(1.0, "mlflow")(mlflow_link.sync)
every(3600.0, "trees")(storage.collect)

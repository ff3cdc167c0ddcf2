"""Environments that nobody wrote: what an MLflow model declares of itself, and what Triton needs."""

from __future__ import annotations

from apps.registry import storage
from apps.registry.models import ModelVersion

LIMIT = 1_000_000  # bytes read of a conda.yaml or requirements.txt
TRITON = "nvidia-pytriton==0.7.0\nonnxruntime>=1.20\n"


def by_model(model: ModelVersion) -> dict[str, str]:
    """`conda_file` or `requirements` of the model's folder; nothing when it has neither."""
    folder = storage.tree_path(model.tree_id) / model.path
    for name, field in (("conda.yaml", "conda_file"), ("requirements.txt", "requirements")):
        file = folder / name
        if file.is_file():
            with file.open("rb") as stream:
                return {field: stream.read(LIMIT).decode("utf-8", "replace")}
    return {}

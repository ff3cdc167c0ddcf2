"""What a caller asks a job to be, in the domain's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apps.batch.models import BatchDeployment
from apps.batch.settings import JobSettings
from apps.core.errors import Problem

LONGEST_NAME = 255
RANGES = {
    "instance_count": (1, 100),
    "max_concurrency_per_instance": (1, 256),
    "mini_batch_size": (1, 100_000),
    "max_retries": (0, 100),
    "timeout_ms": (1, 21 * 86_400_000),  # a job's lifetime, spec 2.1
    "error_threshold": (-1, 2**31 - 1),
}
WIRE = {
    "instance_count": "resources.instanceCount",
    "max_concurrency_per_instance": "maxConcurrencyPerInstance",
    "mini_batch_size": "miniBatchSize",
    "max_retries": "retrySettings.maxRetries",
    "timeout_ms": "retrySettings.timeout",
    "error_threshold": "errorThreshold",
}
OVERRIDES = (
    "instance_count",
    "mini_batch_size",
    "max_retries",
    "timeout_ms",
    "error_threshold",
    "output_file_name",
    "logging_level",
)
"""What a job of a model may have otherwise than its deployment (spec 7.1)."""


@dataclass(frozen=True)
class JobSpec:
    """`inputs`: name → {"type": "UriFolder" | … | "Literal", "uri" or "value"}. `outputs`: name → {"type", "uri"}."""

    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    display_name: str = ""
    experiment_name: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


def check_settings(values: dict[str, Any]) -> None:
    """Raises Problem "bad-field" for a setting out of its range, or a file name that is none."""
    for name, (least, most) in RANGES.items():
        value = values.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            reason = f"must be a whole number from {least} to {most}, not {value!r}"
            raise Problem("bad-field", field=WIRE[name], reason=reason, target=WIRE[name])
    file_name = values.get("output_file_name", "predictions.csv")
    if not file_name or len(file_name) > LONGEST_NAME or not file_name.isprintable() or "/" in file_name:
        reason = "must be a plain file name, without folders"
        raise Problem("bad-field", field="outputFileName", reason=reason, target="outputFileName")
    if file_name in {".", ".."}:
        raise Problem("bad-field", field="outputFileName", reason="is not the name of a file", target="outputFileName")


def settings_of(deployment: BatchDeployment, overrides: dict[str, Any]) -> JobSettings:
    """The deployment's settings with the job's own on top. Raises Problem "bad-field"."""
    for name in overrides:
        if name not in OVERRIDES:
            raise Problem("unknown-field", field=WIRE.get(name, name))
    names = [*RANGES, "output_action", "output_file_name", "logging_level", "scoring_script"]
    values = {name: getattr(deployment, name) for name in names} | overrides
    check_settings(values)
    return JobSettings(**values, variables=deployment.environment_variables)

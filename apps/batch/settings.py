"""What a job runs with: the deployment's settings and the job's own, frozen when the job is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class JobSettings:
    """Stored as JSON in `Job.settings`. Times are milliseconds.

    A scoring job uses all of them; a command only `instance_count`, `command` and `variables`; a pipeline `graph`
    and the last ones.
    """

    instance_count: int = 1
    max_concurrency_per_instance: int = 1
    mini_batch_size: int = 10
    max_retries: int = 3
    timeout_ms: int = 30_000
    error_threshold: int = -1
    output_action: str = "AppendRow"
    output_file_name: str = "predictions.csv"
    logging_level: str = "Info"
    scoring_script: str = ""
    variables: dict[str, str] | None = None
    command: str = ""
    force_rerun: bool = False
    continue_on_step_failure: bool = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> JobSettings:
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in stored.items() if key in known})

    @property
    def max_attempts(self) -> int:
        """Of one mini-batch: the first and its retries."""
        return 1 + self.max_retries

    @property
    def appends(self) -> bool:
        return self.output_action == "AppendRow"

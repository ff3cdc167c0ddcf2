"""Verbs on batch endpoints, deployments, clusters and jobs."""

from apps.batch.domain.jobs import cancel, invoke, retry_failed
from apps.batch.domain.specs import JobSpec, check_settings, settings_of

__all__ = ["JobSpec", "cancel", "check_settings", "invoke", "retry_failed", "settings_of"]

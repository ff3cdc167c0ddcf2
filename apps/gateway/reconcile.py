"""The controller's part for the gateway: its log of requests is rotated, compressed and, in time, forgotten."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.utils import timezone

from apps.core.controller import every
from apps.gateway import accesslog
from apps.gateway.admin import Admin, AdminDown

log = structlog.get_logger(__name__)


@every(10.0, "access-log")
def tend_access_log() -> None:
    try:
        accesslog.tend(
            settings.HOME.logs / "access.jsonl",
            Admin(settings.HOME.envoy_admin_socket).reopen_logs,
            most_bytes=settings.ACCESS_LOG_BYTES,
            most_days=settings.LOG_DAYS,
            now=timezone.now(),
        )
    except AdminDown:  # a gateway that starts opens the file anew by itself; one that runs is asked again
        log.debug("access-log.gateway_down")

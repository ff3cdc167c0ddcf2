"""Whether the container engine can be used."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.compute import domain as compute
from apps.compute.drivers.base import DriverError
from apps.core import health
from apps.core.errors import Problem

NAME = "container engine"


@health.look(NAME)
def _engine() -> list[health.Finding]:
    if not settings.DOCKER_URL:
        return [health.Finding(NAME, "idle", _("not configured"))]
    driver: Any
    try:
        driver = compute.driver(compute.DOCKER)
        told = driver.describe()
    except (DriverError, Problem) as error:
        advice = _("Start the engine, or set PORTWAY_DOCKER=off when nothing shall run in containers.")
        return [health.Finding(NAME, "failed", str(getattr(error, "message", error)), advice)]
    text = _("Docker %(engine)s, storage %(storage)s, cgroup v%(cgroup_version)s") % told
    return [health.Finding(NAME, "ok", text, seen=timezone.now())]

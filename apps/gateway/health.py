"""Whether the gateway is up and took its last configuration."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from apps.core import health
from apps.gateway.admin import Admin, AdminDown
from apps.gateway.models import Publication


class Refused(Exception):  # noqa: N818 -- a state of affairs
    """The gateway serves an older configuration than it was given."""


@health.check("gateway")
def _gateway() -> health.Found:
    socket = settings.HOME.envoy_admin_socket
    health.listener(socket)
    last = Publication.objects.order_by("pk").first()
    if last is not None and last.accepted is False:
        raise Refused(f"refused its last configuration; the one before serves: {last.reason}")
    version, since = "", None
    with contextlib.suppress(AdminDown, ValueError, KeyError):
        facts = json.loads(Admin(socket).get("/server_info"))
        version = facts["version"].split("/")[1]
        since = timezone.now() - timedelta(seconds=int(facts["uptime_current_epoch"].rstrip("s")))
    detail = f"configuration {last.version}" if last else ""
    return health.Found(detail=detail, version=version, since=since, seen=timezone.now())

"""`/healthz` (is every part up?) and `/readyz` (can this part answer?). Anonymous, and silent about anything secret."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from apps.core.models import Lease
from apps.gateway.models import Publication

TIMEOUT_S = 2.0
SILENT_S = 30.0  # a part that has not renewed its lease for so long is down


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return connection.vendor


def _broker() -> str:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
    try:
        client.ping()
    finally:
        client.close()
    return ""


def _beat(prefix: str) -> str:
    newest = Lease.objects.filter(name__startswith=prefix).order_by("-expires_at").first()
    if newest is None or newest.expires_at < timezone.now() - timedelta(seconds=SILENT_S):
        raise RuntimeError("has not been heard of")
    return ""


def _listens(path: Path) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(TIMEOUT_S)
        link.connect(str(path))
    return ""


def _gateway() -> str:
    _listens(settings.HOME.envoy_admin_socket)
    last = Publication.objects.order_by("pk").first()
    if last is not None and last.accepted is False:
        raise RuntimeError("refused its last configuration; the one before serves")
    return f"configuration {last.version}" if last else ""


PARTS: dict[str, Callable[[], str]] = {
    "database": _database,
    "broker": _broker,
    "worker": lambda: _beat("worker/"),
    "controller": lambda: _beat("controller/"),
    "gateway": _gateway,
    "mlflow": lambda: _listens(settings.HOME.mlflow_socket),
}


def report() -> dict[str, Any]:
    """Each part with `up` and a word of detail."""
    parts: dict[str, dict[str, Any]] = {"web": {"up": True, "detail": ""}}
    for name, check in PARTS.items():
        try:
            parts[name] = {"up": True, "detail": check()}
        except Exception as error:  # noqa: BLE001 -- whatever a part's client raises, the part is down
            parts[name] = {"up": False, "detail": f"{type(error).__name__}"}
    return {"up": all(part["up"] for part in parts.values()), "version": settings.VERSION, "parts": parts}


@require_GET
def healthz(_request: HttpRequest) -> JsonResponse:
    found = report()
    return JsonResponse(found, status=200 if found["up"] else 503)


@require_GET
def readyz(_request: HttpRequest) -> JsonResponse:
    """Ready when the database answers: then the studio and the API do."""
    try:
        _database()
    except Exception:  # noqa: BLE001 -- see report()
        return JsonResponse({"ready": False}, status=503)
    return JsonResponse({"ready": True})

"""`/healthz` (is every part up?) and `/readyz` (can this part answer?). Anonymous, and silent about anything secret."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from apps.core import health


def report() -> dict[str, Any]:
    """Each part with `up` and a word of detail."""
    parts = {part.name: part.as_json() for part in health.parts()}
    return {"up": all(part["up"] for part in parts.values()), "version": settings.VERSION, "parts": parts}


@require_GET
def healthz(_request: HttpRequest) -> JsonResponse:
    found = report()
    return JsonResponse(found, status=200 if found["up"] else 503)


@require_GET
def readyz(_request: HttpRequest) -> JsonResponse:
    """Ready when the database answers: then the studio and the API do."""
    try:
        health.database()
    except Exception:  # noqa: BLE001 -- see apps.core.health
        return JsonResponse({"ready": False}, status=503)
    return JsonResponse({"ready": True})

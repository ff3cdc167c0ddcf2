"""What every page's template knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def studio(request: HttpRequest) -> dict[str, Any]:
    return {"portway_version": settings.VERSION, "theme": request.COOKIES.get("theme", "system")}

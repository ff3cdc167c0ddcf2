"""The addresses that the settings of a datastore make."""

from __future__ import annotations

from typing import Any

SUFFIX = "core.windows.net"


def account_url(settings: dict[str, Any]) -> str:
    """`endpoint` is a suffix as in Azure, or the whole URL of a store that is not Azure's own."""
    endpoint = settings.get("endpoint") or SUFFIX
    if "://" in endpoint:
        return f"{endpoint.rstrip('/')}/{settings['accountName']}"
    return f"{settings.get('protocol') or 'https'}://{settings['accountName']}.blob.{endpoint}"

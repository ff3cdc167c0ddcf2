"""Reads that are used in more than one place."""

from __future__ import annotations

from typing import Any

from apps.registry.models import Asset


def next_version(asset: Asset) -> str:
    """One more than the highest whole number among the versions (spec 2.1: omitted versions are generated)."""
    numbers = [int(each) for each in asset.versions.values_list("version", flat=True) if each.isdigit()]
    return str(max(numbers, default=0) + 1)


def latest(asset: Asset) -> Any:
    """The newest version that is not archived, or None; what `@latest` means."""
    return asset.versions.filter(is_archived=False).order_by("-created_at", "-pk").first()

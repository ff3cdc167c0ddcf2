"""Reads that are used in more than one place."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from apps.accounts.models import Workspace
from apps.registry.models import Asset, MlflowImport


def next_version(asset: Asset) -> str:
    """One more than the highest whole number among the versions (spec 2.1: omitted versions are generated)."""
    numbers = [int(each) for each in asset.versions.values_list("version", flat=True) if each.isdigit()]
    return str(max(numbers, default=0) + 1)


def latest(asset: Asset) -> Any:
    """The newest version that is not archived, or None; what `@latest` means."""
    return asset.versions.filter(is_archived=False).order_by("-created_at", "-pk").first()


def failed_imports(workspace: Workspace, name: str | None = None) -> QuerySet[MlflowImport]:
    """Versions of MLflow's registry that could not be imported, with the reason; of one model, or of all."""
    rows = MlflowImport.objects.filter(workspace=workspace, imported_at=None, error__isnull=False)
    return rows if name is None else rows.filter(name=name)

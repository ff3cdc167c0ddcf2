"""Reads that are used in more than one place."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet

from apps.accounts.models import Workspace
from apps.registry.enums import DatastoreType
from apps.registry.models import Asset, AssetVersion, Datastore, DataVersion, MlflowImport

DEFAULT_DATASTORE = "workspaceblobstore"


def next_version(asset: Asset) -> str:
    """One more than the highest whole number among the versions (spec 2.1: omitted versions are generated)."""
    numbers = [int(each) for each in asset.versions.values_list("version", flat=True) if each.isdigit()]
    return str(max(numbers, default=0) + 1)


def latest(asset: Asset) -> Any:
    """The newest version that is not archived, or None; what `@latest` means."""
    return asset.versions.filter(is_archived=False).order_by("-created_at", "-pk").first()


def with_versions(assets: QuerySet[Any], versions: type[AssetVersion]) -> QuerySet[Any]:
    """Assets with what `newest_and_next` reads, in one more query for all of them."""
    light = versions.objects.only(*versions.light)
    return assets.prefetch_related(Prefetch("versions", queryset=light))


def newest_and_next(asset: Asset) -> tuple[str | None, str]:
    """`latest` and `next_version` as texts, of an asset from `with_versions`."""
    rows = list(asset.versions.all())
    active = [each for each in rows if not each.is_archived]
    newest = max(active, key=lambda each: (each.created_at, each.pk), default=None)
    highest = max((int(each.version) for each in rows if each.version.isdigit()), default=0)
    return newest.version if newest else None, str(highest + 1)


def failed_imports(workspace: Workspace, name: str | None = None) -> QuerySet[MlflowImport]:
    """Versions of MLflow's registry that could not be imported, with the reason; of one model, or of all."""
    rows = MlflowImport.objects.filter(workspace=workspace, imported_at=None, error__isnull=False)
    return rows if name is None else rows.filter(name=name)


def default_datastore(workspace: Workspace) -> Datastore:
    """The one every workspace has; made when somebody first looks for it."""
    found, _ = Datastore.objects.get_or_create(
        workspace=workspace, name=DEFAULT_DATASTORE, defaults={"type": DatastoreType.LOCAL, "is_default": True}
    )
    return found


def data_in(datastore: Datastore, *, most: int = 5) -> list[str]:
    """Data assets that name a datastore; at most `most` of them."""
    start = f"azureml://datastores/{datastore.name}/paths/"
    rows = DataVersion.objects.filter(asset__workspace=datastore.workspace, uri__startswith=start)
    return [str(each) for each in rows.select_related("asset")[:most]]

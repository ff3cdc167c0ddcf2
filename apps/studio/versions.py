"""Versions of assets as the lists and pages of models, environments and components need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Count, Max, QuerySet
from django.http import HttpRequest

from apps.studio.views import one


def with_newest(assets: Sequence[Any], versions: QuerySet[Any]) -> list[tuple[Any, int, Any | None]]:
    """(the asset, how many versions it has, the newest of them) of each asset of one kind; two queries for all."""
    keys = [each.pk for each in assets]
    counts = versions.filter(asset__in=keys).order_by().values("asset").annotate(count=Count("pk"), last=Max("pk"))
    found = {asset: (count, last) for asset, count, last in counts.values_list("asset", "count", "last")}
    newest = versions.in_bulk([last for _count, last in found.values()])
    shown = ((each, *found.get(each.pk, (0, None))) for each in assets)
    return [(each, count, newest.get(last)) for each, count, last in shown]


def asked_for(request: HttpRequest, versions: QuerySet[Any], kind: str, name: str) -> Any | None:
    """The version that the form or else the address names; the first one when they name none.

    Raises Problem "not-found" with the kind and name of the asset for a version that is not there.
    """
    wanted = request.POST.get("version") or request.GET.get("version", "")
    return one(versions.filter(version=wanted), kind, f"{name}:{wanted[:64]}") if wanted else versions.first()

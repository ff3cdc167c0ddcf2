"""Suggestions while people type where data is: data assets, datastores, and what is in their folders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.utils.translation import gettext as _

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry import locations
from apps.registry.datastores import datastores_of
from apps.registry.models import DataVersion

MOST = 12
LOOKED_AT = 2000  # files of a folder
START = "azureml://datastores/"


def places(workspace: Workspace, actor: Any, query: str) -> list[tuple[str, str]]:
    """(address, what it is), at most MOST."""
    if query.startswith(START) and "/paths/" in query:
        return list(islice(_inside(workspace, actor, query), MOST))
    text = query.removeprefix(START).removeprefix("azureml:")
    stores = [(f"{START}{each}/paths/", _("Datastore")) for each in datastores_of(workspace) if text in each.name]
    rows = DataVersion.objects.filter(asset__workspace=workspace, asset__name__icontains=text.partition(":")[0])
    rows = rows.filter(is_archived=False, asset__is_archived=False).select_related("asset")
    assets = [] if query.startswith(START) else rows.order_by("-created_at", "-pk")[:MOST]
    found = [(f"azureml:{each}", str(each.get_type_display())) for each in assets]
    return [*found, *stores][:MOST]


def _inside(workspace: Workspace, actor: Any, query: str) -> Iterator[tuple[str, str]]:
    """Files and folders of the folder that the address names so far. Nothing of a place that cannot be read."""
    folder, _slash, begun = query.rpartition("/")
    try:
        place = locations.resolve(
            f"{folder}/" if folder.endswith("/paths") else folder, workspace=workspace, actor=actor
        )
        if place.kind() != "folder":
            return
        names = dict.fromkeys(_first(name) for name, _size in islice(place.files(), LOOKED_AT))
    except Problem:
        return  # half an address, or a store that does not answer: there is nothing to suggest
    for name in names:
        if name.startswith(begun):
            yield f"{folder}/{name}", _("Folder") if name.endswith("/") else _("File")


def _first(path: str) -> str:
    name, slash, _rest = path.partition("/")
    return name + slash

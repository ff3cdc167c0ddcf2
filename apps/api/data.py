"""Data assets on the wire (wire 5.7)."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from apps.accounts.models import Workspace
from apps.api import serializers as shapes
from apps.registry import domain
from apps.registry.enums import DataType
from apps.registry.models import Data, DataVersion
from apps.registry.queries import newest_and_next


class DataKind:
    kind = "data"
    label = "data"
    series = Data
    versions = DataVersion
    body = shapes.DataBody
    workspace: Workspace
    request: Request

    def properties_of(self, version: DataVersion) -> dict[str, Any]:
        return {"dataType": version.type, "dataUri": version.source_uri}

    def show_container(self, asset: Any) -> dict[str, Any]:
        """The SDK needs the type of the container: that of what `@latest` is."""
        newest, _ = newest_and_next(asset)
        shown: dict[str, Any] = super().show_container(asset)  # type: ignore[misc]
        types = [each.type for each in asset.versions.all() if each.version == newest]
        shown["properties"]["dataType"] = types[0] if types else DataType.FOLDER
        return shown

    def register(self, name: str, version: str, given: dict[str, Any], common: dict[str, Any]) -> tuple[Any, bool]:
        return domain.register_data(
            workspace=self.workspace,
            name=name,
            version=version,
            uri=given["dataUri"],
            type=given["dataType"],
            actor=self.request.user,
            **common,
        )

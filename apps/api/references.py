"""Assets that a body names by an id."""

from __future__ import annotations

from typing import Any

from apps.accounts.models import Workspace
from apps.core.errors import Problem
from apps.registry.queries import latest
from apps.registry.references import asset_reference


def asset_id(workspace: Workspace, kind: str, version: Any) -> str | None:
    return f"{workspace.arm_id}/{kind}/{version.asset.name}/versions/{version.version}" if version is not None else None


class WithAssets:
    """Of a view below a workspace: what its bodies name."""

    workspace: Workspace

    def asset(self, model: type[Any], kind: str, text: str | None, field: str) -> Any:
        """The version an id names, in this workspace; None for no id."""
        if not text:
            return None
        name, version = asset_reference(text, workspace=self.workspace, kind=kind, field=field)
        rows = model.objects.filter(asset__workspace=self.workspace, asset__name=name)
        found = rows.filter(version=version).first() if version else None
        if version is None and rows.exists():
            found = latest(rows.first().asset)
        if found is None:
            raise Problem(
                "bad-field",
                field=field,
                reason=f"there is no {name}:{version or 'latest'} among the {kind}",
                target=field,
            )
        return found

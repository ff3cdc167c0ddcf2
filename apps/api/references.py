"""Assets that a body names by an id."""

from __future__ import annotations

from typing import Any

from apps.accounts.models import Workspace
from apps.registry import references


def asset_id(workspace: Workspace, kind: str, version: Any) -> str | None:
    return f"{workspace.arm_id}/{kind}/{version.asset.name}/versions/{version.version}" if version is not None else None


class WithAssets:
    """Of a view below a workspace: what its bodies name."""

    workspace: Workspace

    def asset(self, model: type[Any], kind: str, text: str | None, field: str) -> Any:
        """The version an id names, in this workspace; None for no id."""
        if not text:
            return None
        return references.find(model, kind, text, workspace=self.workspace, field=field)

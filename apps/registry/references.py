"""Assets as texts name them: by a long id, or by `azureml:` and their name."""

from __future__ import annotations

import re

from apps.accounts.models import Workspace
from apps.core.errors import Problem

ASSET_ID = re.compile(
    r"(?:azureml:/?)?/subscriptions/(?P<sub>[^/]+)/resourcegroups/(?P<rg>[^/]+)/providers/microsoft\.machinelearningservices"
    r"/workspaces/(?P<ws>[^/]+)/(?P<kind>[a-z]+)/(?P<name>[^/]+)/versions/(?P<version>[^/]+)",
    re.IGNORECASE,
)
SHORT_ID = re.compile(r"azureml:(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>latest))")


def asset_reference(text: str, *, workspace: Workspace, kind: str, field: str) -> tuple[str, str | None]:
    """(name, version) of an asset id, `azureml:name:version` or `azureml:name@latest`; version None means the newest.

    Raises:
        Problem: "bad-field" for anything else, and for another workspace's asset.
    """
    match = ASSET_ID.fullmatch(text)
    if match is not None and match["kind"].lower() == kind.lower():
        if match["ws"].lower() != workspace.name.lower():
            raise Problem(
                "bad-field",
                field=field,
                reason=f"it is in workspace {match['ws']}, not in {workspace.name}",
                target=field,
            )
        return match["name"], match["version"]
    match = SHORT_ID.fullmatch(text)
    if match is None:
        raise Problem(
            "bad-field", field=field, reason=f"{text!r} is no id of one of the {kind} of this workspace", target=field
        )
    return match["name"], match["version"]

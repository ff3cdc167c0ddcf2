"""The OpenAPI document: the short prefix only (the ARM prefix is the same again under a longer path)."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.openapi import AutoSchema

PREFIX = "/api/v1/"


def short_prefix_only(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's preprocessing hook."""
    return [each for each in endpoints if each[0].startswith(PREFIX)]


class PortwaySchema(AutoSchema):
    def get_operation_id(self) -> str:
        """The method and the view's own name: `get_endpoint`, `put_models_version`."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self.view).__name__).lower()
        return f"{self.method.lower()}_{words}"

    def get_tags(self) -> list[str]:
        """The first word of the path below the workspace."""
        rest = self.path.removeprefix(f"{PREFIX}workspaces").removeprefix("/{workspace}").strip("/")
        return [rest.split("/")[0] or "workspaces"]

    def get_request_serializer(self) -> Any:
        """Asset views say in `body` what a PUT takes."""
        return getattr(self.view, "body", None) if self.method == "PUT" else None

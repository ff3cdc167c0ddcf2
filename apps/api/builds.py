"""Building environment versions ahead of time, and what building them came to before."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import arm
from apps.api import serializers as shapes
from apps.api.views import WorkspaceView, listing, number, one
from apps.builds import history
from apps.builds.models import Attempt
from apps.builds.versions import start_build
from apps.core.errors import envelope
from apps.registry.models import EnvironmentVersion

ANY = OpenApiTypes.OBJECT


class VersionView(WorkspaceView):
    def version(self, name: str, version: str) -> EnvironmentVersion:
        rows = EnvironmentVersion.objects.filter(asset__workspace=self.workspace, asset__name=name, version=version)
        found: EnvironmentVersion = one(rows.select_related("asset__workspace"), "environment", f"{name}:{version}")
        return found


class Builds(VersionView):
    """The attempts to make a version runnable, newest first: by whom, how long, and what came of them."""

    @extend_schema(responses=ANY)
    def get(self, request: Request, name: str, version: str, **_: Any) -> Response:
        top = request.query_params.get("$top", "")
        rows = history.of(self.version(name, version))
        return listing(show(each) for each in rows[: number(top, "$top", most=history.KEPT) if top else history.KEPT])


class Build(VersionView):
    @extend_schema(request=shapes.BuildBody, responses={202: None})
    def post(self, request: Request, name: str, version: str, **_: Any) -> Response:
        """Build it now; `driver` says for which compute."""
        given = self.valid(shapes.BuildBody, request.data)
        found = self.version(name, version)
        return self.accepted(start_build(version=found, actor=request.user, driver=given.get("driver") or ""))


def show(attempt: Attempt) -> dict[str, Any]:
    operation, build = attempt.operation, attempt.build
    return {
        "startTime": arm.stamp(attempt.started_at),
        "seconds": attempt.seconds,
        "outcome": attempt.outcome,
        "driver": attempt.driver,
        "startedBy": operation.actor.username if operation and operation.actor else "",
        "operation": f"{settings.BASE_URL}/api/v1/workspaces/{operation.workspace}/operations/{operation.pk}"
        if operation
        else None,
        "kind": build.kind if build else None,
        "key": build.pk[:12] if build else None,
        "imageId": attempt.image_id or None,
        **({"error": envelope(attempt.error)["error"]} if attempt.error else {}),
    }

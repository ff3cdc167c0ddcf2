"""What all views of a workspace share: finding it, checking the role, operation headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import Workspace
from apps.accounts.policy import Permission, require, visible_workspaces
from apps.api import arm
from apps.core.errors import Problem
from apps.core.models import Operation

PAGE = 1000  # the most that a list shows at once


class WorkspaceView(APIView):
    """A view below a workspace, under the ARM prefix or the short one. `permissions` says what each method needs."""

    permissions: ClassVar[dict[str, Permission]] = {
        "GET": Permission.READ,
        "HEAD": Permission.READ,
        "OPTIONS": Permission.READ,
        "POST": Permission.WRITE,
        "PUT": Permission.WRITE,
        "PATCH": Permission.WRITE,
        "DELETE": Permission.DELETE,
    }
    workspace: Workspace

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.workspace = find_workspace(
            request.user, kwargs["workspace"], kwargs.get("subscription"), kwargs.get("group")
        )
        require(request.user, self.permissions[request.method or "GET"], self.workspace)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().dispatch(request, *args, **kwargs)
        request_id = request.headers.get("x-request-id")
        if request_id:
            response.headers["x-ms-request-id"] = request_id
        return response

    def accepted(
        self, operation: Operation, *, body: dict[str, Any] | None = None, status: int = 202, location: str = ""
    ) -> Response:
        """The answer that starts a long-running operation (wire 3.4).

        `location`: below the workspace, where its result can be had when it has ended.
        """
        url = arm.operation_url(self.workspace, operation.pk)
        headers = {"Azure-AsyncOperation": url, "Retry-After": "1", "x-ms-async-operation-timeout": "PT1H"}
        if status == 202:  # noqa: PLR2004
            headers["Location"] = f"{settings.BASE_URL}{self.workspace.arm_id}/{location}" if location else url
        return Response(body, status=status, headers=headers)

    def valid(self, serializer: Any, data: Any, **options: Any) -> dict[str, Any]:
        """The parsed body. Raises what `errors.handle` turns into a 400."""
        parsed = serializer(data=data, **options)
        parsed.is_valid(raise_exception=True)
        return dict(parsed.validated_data)


def find_workspace(actor: Any, name: str, subscription: str | None, group: str | None) -> Workspace:
    """The workspace, if the actor may know of it. Raises Problem "not-found"."""
    found = visible_workspaces(actor).filter(name__iexact=name).first()
    if found is None or (
        subscription is not None
        and (found.subscription_id.lower(), found.resource_group.lower())
        != (subscription.lower(), (group or "").lower())
    ):
        raise Problem("not-found", kind="workspace", name=name)
    return found


def one(rows: QuerySet[Any], kind: str, name: str) -> Any:
    """The single row, or Problem "not-found"."""
    found = rows.first()
    if found is None:
        raise Problem("not-found", kind=kind, name=name)
    return found


def number(text: str, field: str, *, most: int) -> int:
    """A whole number of a query or a header. Raises Problem "bad-field"."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        raise Problem("bad-field", field=field, reason=f"must be a whole number up to {most}", target=field)
    return min(int(text), most)


def listing(items: Iterable[dict[str, Any]]) -> Response:
    return Response({"value": list(items), "nextLink": None})

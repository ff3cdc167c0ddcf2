"""The gateway's question before each request to MLflow: who is it, may they, and in which workspace?

Only Envoy can ask (`/internal/…` has no route from outside). The answer's headers replace the client's own on the way
to the MLflow server, which believes them.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from apps.accounts.models import Membership, Role, Workspace
from apps.accounts.policy import PERMISSIONS, Permission
from apps.api.auth import user_of_bearer
from apps.core.errors import Problem
from apps.registry import mlflow_link
from apps.registry.mlflow_paths import READS, Access, classify
from apps.registry.names import mlflow_name

AUTHZ = "/internal/authz/mlflow"
CODES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST"}
Seat = tuple[Workspace, bool]  # a workspace one is in, and whether one may write there


@csrf_exempt  # the token or the page's origin is checked here; this view itself changes nothing a caller could name
def authorize(request: HttpRequest, path: str = "") -> HttpResponse:  # noqa: ARG001, PLR0911 -- one return per refusal
    asked = request.path.removeprefix(AUTHZ)
    method = request.method or "GET"
    user, problem = _caller(request, method)
    if problem is not None:
        return problem
    if user is None:
        if method == "GET" and "text/html" in request.headers.get("accept", ""):
            return redirect_to_login(request.get_full_path().removeprefix(AUTHZ))
        return _no(401, Problem("unauthenticated").message)
    access = classify(method, asked)
    if access is None:
        return _no(404, "This part of MLflow is not open on Portway.")
    seats = _seats(user)
    seat = _choose(seats, request.headers.get("x-mlflow-workspace", "").strip())
    if seat is None:
        # not 404: MLflow's client would take that for a server without workspaces
        return _no(403, "You are in no such workspace. MLFLOW_WORKSPACE names one you are a member of.")
    workspace, may_write = seat
    if access is not Access.READ and not may_write:
        problem_text = Problem("forbidden", workspace=workspace.name, permission=str(Permission.WRITE)).message
        return _no(403, problem_text)
    if access is Access.REGISTRY:
        mlflow_link.touch(workspace)
    return _yes(user, workspace, seats if asked.rstrip("/").endswith("/workspaces") else [])


def _yes(user: Any, workspace: Workspace, listed: list[Seat]) -> HttpResponse:
    answer = HttpResponse(status=200)
    answer.headers["x-portway-user"] = quote(user.username, safe="@+ ")  # names may hold any letter
    answer.headers["x-mlflow-workspace"] = mlflow_name(workspace.name)
    answer.headers["x-portway-workspaces"] = ",".join(mlflow_name(each.name) for each, _ in listed)
    return answer


def _no(status: int, message: str) -> JsonResponse:
    """As MLflow's clients read it."""
    answer = JsonResponse({"error_code": CODES[status], "message": message}, status=status)
    if status == 401:  # noqa: PLR2004
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _caller(request: HttpRequest, method: str) -> tuple[Any, HttpResponse | None]:
    """(user, refusal): a token counts alone; a session only from our own pages."""
    sent = request.headers.get("authorization", "")
    if sent:
        token = _token(sent)
        return (user_of_bearer(token) if token else None), None
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or not request.user.is_authenticated:
        return None, None
    if not _from_our_pages(request, method):
        return None, _no(403, "A request from another site's page was refused.")
    return request.user, None


def _token(sent: str) -> str:
    """The token in an Authorization header: bearer, or the password of HTTP basic (MLFLOW_TRACKING_PASSWORD)."""
    kind, _, value = sent.strip().partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _from_our_pages(request: HttpRequest, method: str) -> bool:
    """Whether a request with a cookie was made by our own page; a plain link from elsewhere may still open one."""
    origin = request.headers.get("origin")
    if origin is not None and origin not in settings.CSRF_TRUSTED_ORIGINS:
        return False
    if method in READS:
        return True
    site = request.headers.get("sec-fetch-site")
    return site == "same-origin" if site is not None else origin is not None


def _seats(user: Any) -> list[Seat]:
    """The user's workspaces, the one they joined first in front; the operator has all."""
    rows = Membership.objects.filter(user=user).select_related("workspace").order_by("pk")
    seats = [(row.workspace, user.is_superuser or Permission.WRITE in PERMISSIONS[Role(row.role)]) for row in rows]
    if user.is_superuser:
        own = {workspace.pk for workspace, _ in seats}
        seats += [(each, True) for each in Workspace.objects.exclude(pk__in=own)]
    return seats


def _choose(seats: list[Seat], name: str) -> Seat | None:
    if not name:
        return seats[0] if seats else None
    wanted = name.lower()
    return next((seat for seat in seats if wanted in {seat[0].name.lower(), mlflow_name(seat[0].name)}), None)

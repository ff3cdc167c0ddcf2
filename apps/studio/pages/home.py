"""The way in."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apps.accounts.policy import Permission, visible_workspaces
from apps.studio.views import Page, SignedIn


class Home(SignedIn):
    def get(self, request: HttpRequest) -> HttpResponse:
        first = visible_workspaces(request.user).first()
        if first is None:
            return self.page("no_workspace")
        return redirect("studio:endpoints", first.name)


class WorkspaceHome(Page):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return redirect("studio:endpoints", self.workspace.name)

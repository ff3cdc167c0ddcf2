"""The console's own admin site: who gets in, and which addresses there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import URLPattern, URLResolver, include, path
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from unfold.sites import UnfoldAdminSite

from apps.accounts.policy import is_administrator

View = Callable[..., HttpResponseBase]


class ConsoleSite(UnfoldAdminSite):  # type: ignore[misc]
    """Administrators only. There is no sign-in form here: the studio's is the only one, second factor included."""

    site_title = _("Console")
    site_header = _("Console")
    index_title = _("Overview")
    final_catch_all_view = False

    def has_permission(self, request: HttpRequest) -> bool:
        return is_administrator(request.user)

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        """Strangers go to the sign-in page and come back; everybody else gets the studio's page "not allowed"."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not self.has_permission(request):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        protected = csrf_protect(guarded)
        return protected if cacheable else never_cache(protected)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """None of Django's own pages (login, password, history, autocomplete …), only those of this console."""
        from apps.console import pages  # noqa: PLC0415 -- the pages need the site

        found: list[URLPattern | URLResolver] = [*pages.urls(self)]
        for model, admin in self._registry.items():
            meta = model._meta  # noqa: SLF001 -- Django's documented public API
            found.append(path(f"{meta.app_label}/{meta.model_name}/", include(admin.get_urls())))
        return found

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {
            "site_title": self.site_title,
            "has_permission": self.has_permission(request),
            "sidebar_navigation": self.get_sidebar_list(request) if self.has_permission(request) else [],
        }

    def show(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        return render(request, f"console/{template}.html", {**self.each_context(request), **context})


site = ConsoleSite(name="console")

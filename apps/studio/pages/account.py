"""One's own account: who one is, the language, and personal access tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from allauth.mfa.utils import is_mfa_enabled
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.accounts import domain
from apps.accounts.models import Membership, PersonalToken
from apps.core.errors import Problem
from apps.studio.forms import ProfileForm, TokenForm
from apps.studio.views import SignedIn, one


class Account(SignedIn):
    section = "profile"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(ProfileForm(instance=self._me()))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = ProfileForm(request.POST, instance=self._me())
        if not form.is_valid():
            return self._page(form, status=400)
        form.save()
        messages.success(request, _("Saved."))
        return self.go("studio:account")

    def _me(self) -> Any:
        return self.request.user

    def _page(self, form: ProfileForm, **more: Any) -> HttpResponse:
        mine = Membership.objects.filter(user=self._me()).select_related("workspace").order_by("workspace__name")
        return self.page("account", form=form, memberships=mine, has_totp=is_mfa_enabled(self._me()), **more)


class Tokens(SignedIn):
    section = "account"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(TokenForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = TokenForm(request.POST)
        if not form.is_valid():
            return self._page(form, status=400)
        days = form.cleaned_data["days"]
        expires = timezone.now() + timedelta(days=days) if days else None
        try:
            row, token = domain.create_token(user=self._me(), name=form.cleaned_data["name"], expires_at=expires)
        except Problem as problem:
            return self._page(form, problem=problem)
        response = self._page(TokenForm(), made=row, token=token)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _me(self) -> Any:
        return self.request.user

    def _page(self, form: TokenForm, **more: Any) -> HttpResponse:
        return self.page(
            "tokens",
            form=form,
            tokens=PersonalToken.objects.filter(user=self._me()),
            now=timezone.now(),
            **more,
        )


class TokenRevoke(SignedIn):
    section = "account"

    def post(self, request: HttpRequest, token: int) -> HttpResponse:
        found = one(PersonalToken.objects.filter(user=self._me(), pk=token), "token", str(token))
        domain.revoke_token(token=found, actor=request.user)
        return redirect("studio:tokens")

    def _me(self) -> Any:
        return self.request.user

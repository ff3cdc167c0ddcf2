"""Verbs on users and their tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts import domain, people
from apps.accounts.models import PersonalToken, User
from apps.console import html
from apps.console.site import site
from apps.console.verbs import ConsoleForm, RowVerb, Verb


class UserForm(ConsoleForm):
    username = forms.CharField(
        label=gettext_lazy("User name"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    email = forms.EmailField(label=gettext_lazy("E-mail"), required=False)
    password = forms.CharField(
        label=gettext_lazy("Password"),
        required=False,
        strip=False,
        help_text=gettext_lazy("Empty: you get a link with which the user sets one. Portway sends no mail."),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    administrator = forms.BooleanField(
        label=gettext_lazy("Administrator"),
        required=False,
        help_text=gettext_lazy("May use this console, and do everything in every workspace."),
    )


class CreateUser(Verb):
    name = "create"
    label = gettext_lazy("Add user")
    icon = "plus"
    form_class = UserForm
    sentence = gettext_lazy("The account can sign in at once. Give it a role in a workspace next.")

    def run(self, data: dict[str, Any]) -> Any:
        user = people.create_user(
            username=data["username"],
            email=data["email"],
            password=data["password"] or None,
            administrator=data["administrator"],
            actor=self.actor,
        )
        self.row = user
        if data["password"]:
            return _("%(name)s can sign in now.") % {"name": user.username}
        return show_link(self, user)

    def back(self) -> str:
        return html.address(self.row) if self.row is not None else html.listing(User)


def show_link(verb: Verb, user: User) -> HttpResponse:
    """The link is a secret: it is shown once and never stored."""
    path = people.password_link(user=user, actor=verb.actor)
    context = {
        **site.each_context(verb.request),
        "title": _("Password link"),
        "verb": verb,
        "user_row": user,
        "secret": verb.request.build_absolute_uri(path),
        "back": html.address(user),
    }
    response = render(verb.request, "console/secret.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response


class UserVerb(RowVerb):
    row: User


class PasswordLink(UserVerb):
    name = "password-link"
    label = gettext_lazy("Password link")
    icon = "key-round"
    sentence = gettext_lazy(
        "Makes a link with which the user sets a new password. It is good once and for three days; hand it over "
        "yourself. The password they have now works until then."
    )

    def refused(self) -> str:
        return "" if self.row.is_active else _("The account is deactivated")

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- there is nothing to ask
        return show_link(self, self.row)


class ResetTwoFactor(UserVerb):
    name = "reset-two-factor"
    label = gettext_lazy("Reset two-factor")
    icon = "shield-check"
    danger = True
    sentence = gettext_lazy(
        "For a user who lost the phone: make sure that it is them who asks. The password alone is enough afterwards, "
        "until they set two-factor up again. All their sessions end."
    )

    def refused(self) -> str:
        row: Any = self.row
        return "" if getattr(row, "has_mfa", True) else _("Two-factor is off")

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        people.reset_two_factor(user=self.row, actor=self.actor)


class EndSessions(UserVerb):
    name = "end-sessions"
    label = gettext_lazy("Sign out everywhere")
    icon = "log-out"
    sentence = gettext_lazy("Ends every session of the user in a browser. Tokens go on working.")

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        ended = people.sign_out(user=self.row, actor=self.actor)
        return _("%(count)s sessions ended.") % {"count": ended}


class MakeAdministrator(UserVerb):
    name = "make-administrator"
    label = gettext_lazy("Make administrator")
    icon = "settings"
    sentence = gettext_lazy("They may use this console, and do everything in every workspace.")

    def fits(self) -> bool:
        return not self.row.is_superuser

    def refused(self) -> str:
        return "" if self.row.is_active else _("The account is deactivated")

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        people.set_administrator(user=self.row, administrator=True, actor=self.actor)


class RevokeAdministrator(UserVerb):
    name = "revoke-administrator"
    label = gettext_lazy("Revoke administration")
    icon = "settings"
    danger = True
    sentence = gettext_lazy("They keep their roles in workspaces and lose everything else.")

    def fits(self) -> bool:
        return self.row.is_superuser

    def refused(self) -> str:
        return _("Ask another administrator: this is your own account") if self.row.pk == self.actor.pk else ""

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        people.set_administrator(user=self.row, administrator=False, actor=self.actor)


class Activate(UserVerb):
    name = "activate"
    label = gettext_lazy("Activate")
    icon = "circle-check"
    sentence = gettext_lazy("The user can sign in again, with the roles they had. Tokens that were revoked stay so.")

    def fits(self) -> bool:
        return not self.row.is_active

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        people.activate_user(user=self.row, actor=self.actor)


class SuccessorForm(ConsoleForm):
    successor = forms.ModelChoiceField(
        label=gettext_lazy("New owner"),
        required=False,
        queryset=User.objects.filter(is_active=True).order_by("username"),
        help_text=gettext_lazy("Needed where this is the only owner of a workspace."),
    )


class Deactivate(UserVerb):
    name = "deactivate"
    label = gettext_lazy("Deactivate")
    icon = "lock"
    danger = True
    form_class = SuccessorForm
    sentence = gettext_lazy("The user is signed out at once and cannot sign in any more.")

    def fits(self) -> bool:
        return self.row.is_active

    def refused(self) -> str:
        return _("Ask another administrator: this is your own account") if self.row.pk == self.actor.pk else ""

    def goes(self) -> list[str]:
        tokens = PersonalToken.objects.filter(user=self.row)
        return [
            _("all sessions in browsers"),
            *(_("the token %(name)s") % {"name": each.name} for each in tokens),
            *(
                _("the ownership of workspace %(name)s, which the new owner takes over") % {"name": each.name}
                for each in people.sole_workspaces(self.row)
            ),
        ]

    def stays(self) -> list[str]:
        return [
            _("the account with its roles, so that it can be activated again"),
            _("endpoints, models and everything else they made"),
            _("endpoint keys they know: regenerate those in the studio; endpoint tokens end within an hour"),
        ]

    def run(self, data: dict[str, Any]) -> Any:
        people.deactivate_user(user=self.row, actor=self.actor, successor=data["successor"])


class RevokeToken(RowVerb):
    row: PersonalToken
    name = "revoke"
    label = gettext_lazy("Revoke")
    icon = "trash-2"
    danger = True
    sentence = gettext_lazy("Whatever signs in with this token is refused from now on. It cannot be had back.")

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        domain.revoke_token(token=self.row, actor=self.actor)

    def back(self) -> str:
        return html.listing(PersonalToken)

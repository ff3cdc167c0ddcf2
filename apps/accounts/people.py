"""Verbs on the people who sign in. A user is never deleted: the audit trail goes on naming them."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.models import Authenticator
from django.contrib.auth import password_validation
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from apps.accounts.domain import set_role
from apps.accounts.models import Membership, PersonalToken, Role, User, Workspace
from apps.core import audit, events
from apps.core.errors import Problem


@transaction.atomic
def create_user(
    *, username: str, actor: Any, email: str = "", password: str | None = None, administrator: bool = False
) -> User:
    """Make an account. Without a password nobody can sign in to it until a link of `password_link` was used.

    Raises:
        Problem: "bad-name", "exists", or "weak-password" when the validators refuse the password.
    """
    user = User(username=username, email=email, is_superuser=administrator, is_staff=administrator)
    try:
        user.clean_fields(exclude=["password"])
    except ValidationError as error:
        field = "email" if "email" in error.message_dict else "username"
        rule = " ".join(error.messages)
        raise Problem("bad-name", kind=field, name=getattr(user, field), rule=rule, target=field) from None
    if User.objects.filter(username__iexact=username).exists():
        raise Problem("exists", kind="User", name=username, target="username")
    if email and User.objects.filter(email__iexact=email).exists():  # people sign in with it too
        raise Problem("exists", kind="User with the e-mail", name=email, target="email")
    if password is None:
        user.set_unusable_password()
    else:
        try:
            password_validation.validate_password(password, user)
        except ValidationError as error:
            raise Problem("weak-password", reason=" ".join(error.messages), target="password") from None
        user.set_password(password)
    user.save()
    audit.record(
        actor, "user.create", workspace="", target=f"user/{username}", administrator=administrator, email=email
    )
    return user


@transaction.atomic
def password_link(*, user: User, actor: Any) -> str:
    """A path where the user sets a password; good once, and for PASSWORD_RESET_TIMEOUT seconds.

    Raises:
        Problem: "conflict" for an account that is deactivated.
    """
    if not user.is_active:
        raise Problem("conflict", reason=f"{user.username} is deactivated.")
    audit.record(actor, "user.password-link", workspace="", target=f"user/{user.username}")
    token = default_token_generator.make_token(user)
    return reverse("account_reset_password_from_key", kwargs={"uidb36": user_pk_to_url_str(user), "key": token})


def reset_two_factor(*, user: User, actor: Any) -> None:
    """Let a user who lost the second factor sign in with the password alone, and ends the sessions there are."""
    keys = sessions_of(user)
    with transaction.atomic():
        removed, _ = Authenticator.objects.filter(user=user).delete()
        end_sessions(user, keys)
        audit.record(actor, "user.reset-two-factor", workspace="", target=f"user/{user.username}", removed=removed)


@transaction.atomic
def set_administrator(*, user: User, administrator: bool, actor: Any) -> None:
    """Raises Problem "last-administrator", "own-account" when it is taken from oneself, "conflict" when deactivated."""
    others = _other_administrators(user)
    if administrator and not user.is_active:
        raise Problem("conflict", reason=f"{user.username} is deactivated.")
    if not administrator:
        if user.is_superuser and not others:
            raise Problem("last-administrator", user=user.username)
        if getattr(actor, "pk", None) == user.pk:
            raise Problem("own-account", what="give up administration")
    User.objects.filter(pk=user.pk).update(is_superuser=administrator, is_staff=administrator)
    if not administrator:
        events.ended(user.pk)  # open pages may be of workspaces that are out of sight now
    audit.record(actor, "user.administrator", workspace="", target=f"user/{user.username}", administrator=administrator)


def _other_administrators(user: User) -> list[User]:
    """Those who can sign in, locked until the transaction ends: two cannot remove each other.

    Not their keys: audit records of other transactions that name them need not wait, and there is no deadlock.
    """
    rows = User.objects.select_for_update(no_key=True).filter(is_superuser=True, is_active=True).order_by("pk")
    return [each for each in list(rows) if each.pk != user.pk]


def sole_workspaces(user: User) -> list[Workspace]:
    """The workspaces that would be left without an owner who can sign in."""
    owned = Workspace.objects.filter(memberships__user=user, memberships__role=Role.OWNER)
    others = Membership.objects.filter(role=Role.OWNER, user__is_active=True).exclude(user=user)
    return list(owned.exclude(pk__in=others.values("workspace")))


def deactivate_user(*, user: User, actor: Any, successor: User | None = None) -> None:
    """Lock an account: sessions and tokens end now; roles stay, so that it can be let in again.

    Raises:
        Problem: "last-administrator", "own-account", or "last-owner" when workspaces need another owner and
            `successor` names none.
    """
    keys = sessions_of(user)  # one begun from now on is no good: a locked account has none
    with transaction.atomic():
        _deactivate(user, actor, successor, keys)


def _deactivate(user: User, actor: Any, successor: User | None, keys: list[str]) -> None:
    others = _other_administrators(user)
    if user.is_superuser and user.is_active and not others:
        raise Problem("last-administrator", user=user.username)
    if getattr(actor, "pk", None) == user.pk:
        raise Problem("own-account", what="deactivate it")
    owned = Workspace.objects.filter(memberships__user=user, memberships__role=Role.OWNER)
    list(owned.select_for_update(of=("self",), no_key=True).order_by("pk"))  # no other owner may leave meanwhile
    for workspace in sole_workspaces(user):
        if successor is None or successor.pk == user.pk or not successor.is_active:
            names = ", ".join(each.name for each in sole_workspaces(user))
            raise Problem("last-owner", user=user.username, workspaces=names, target="successor")
        set_role(workspace=workspace, user=successor, role=Role.OWNER, actor=actor)
    User.objects.filter(pk=user.pk).update(is_active=False)
    sessions = end_sessions(user, keys)
    tokens, _ = PersonalToken.objects.filter(user=user).delete()
    audit.record(
        actor, "user.deactivate", workspace="", target=f"user/{user.username}", sessions=sessions, tokens=tokens
    )


@transaction.atomic
def activate_user(*, user: User, actor: Any) -> None:
    """Let a deactivated user sign in again. Tokens that were revoked stay so."""
    User.objects.filter(pk=user.pk).update(is_active=True)
    audit.record(actor, "user.activate", workspace="", target=f"user/{user.username}")


def sign_out(*, user: User, actor: Any) -> int:
    """End every session of a user; how many there were."""
    keys = sessions_of(user)
    with transaction.atomic():
        ended = end_sessions(user, keys)
        audit.record(actor, "user.sign-out", workspace="", target=f"user/{user.username}", sessions=ended)
    return ended


def sessions_of(user: User) -> list[str]:
    """The keys of a user's sessions. Each there is must be read, so ask before a transaction begins."""
    living = Session.objects.filter(expire_date__gt=timezone.now())
    return [each.pk for each in living.iterator() if each.get_decoded().get("_auth_user_id") == str(user.pk)]


def end_sessions(user: User, keys: list[str]) -> int:
    """Sign a user out everywhere; how many sessions there were. Open pages lose their socket too."""
    Session.objects.filter(pk__in=keys).delete()
    events.ended(user.pk)
    return len(keys)


def clear_sessions() -> int:
    """Forget the sessions that have expired; how many."""
    gone, _ = Session.objects.filter(expire_date__lt=timezone.now()).delete()
    return gone

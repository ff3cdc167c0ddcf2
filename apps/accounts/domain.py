"""Verbs on workspaces, members and tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.accounts.models import Membership, PersonalToken, Role, User, Workspace
from apps.core import audit, events
from apps.core.errors import Problem

TOKEN_PREFIX = "pwt_"  # noqa: S105 -- not a secret: lets scanners recognise leaked tokens
LAST_USED_GRAIN = timedelta(minutes=1)


def digest_of(token: str) -> str:
    """What is stored of a token. A plain hash is enough: the token has 256 random bits, nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


@transaction.atomic
def create_workspace(
    *, name: str, actor: Any, display_name: str = "", description: str = "", owner: User | None = None
) -> Workspace:
    """Make a workspace; `owner`, else its maker, becomes the owner. Raises Problem "bad-name" or "exists"."""
    workspace = Workspace(name=name, display_name=display_name or name, description=description)
    try:
        workspace.clean_fields()
    except ValidationError as error:
        raise Problem("bad-name", kind="workspace", name=name, rule="; ".join(error.messages)) from None
    if Workspace.objects.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Workspace", name=name)
    workspace.save()
    first = owner or (actor if getattr(actor, "pk", None) else None)
    if first is not None:
        Membership.objects.create(user=first, workspace=workspace, role=Role.OWNER)
    detail = {"owner": first.username} if first is not None else {}
    audit.record(actor, "workspace.create", workspace=name, target=f"workspace/{name}", **detail)
    return workspace


@transaction.atomic
def describe_workspace(*, workspace: Workspace, display_name: str, description: str, actor: Any) -> None:
    """Change what people read of a workspace; its name is part of addresses and stays."""
    Workspace.objects.filter(pk=workspace.pk).update(
        display_name=display_name[:100] or workspace.name, description=description
    )
    audit.record(actor, "workspace.describe", workspace=workspace.name, target=f"workspace/{workspace.name}")


@transaction.atomic
def set_role(*, workspace: Workspace, user: User, role: str | None, actor: Any, successor: User | None = None) -> None:
    """Give a user a role, or take it away with None. `successor` becomes owner in place of the only one.

    Raises:
        Problem: "last-owner" when the workspace would be left without an owner who can sign in.
    """
    workspace = Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)  # one change of owners at a time
    if role != Role.OWNER and _only_owner(workspace, user):
        _succeed(workspace, user, successor, actor)
    before = Membership.objects.filter(workspace=workspace, user=user).values_list("role", flat=True).first()
    if role is None:
        Membership.objects.filter(workspace=workspace, user=user).delete()
        events.ended(user.pk)  # open pages learn of nothing any more
    else:
        Membership.objects.update_or_create(workspace=workspace, user=user, defaults={"role": Role(role)})
    audit.record(
        actor, "workspace.role", workspace=workspace.name, target=f"user/{user.username}", role=role, before=before
    )


def remove_member(*, workspace: Workspace, user: User, actor: Any, successor: User | None = None) -> None:
    """Take a user out of a workspace. Raises Problem "last-owner"."""
    set_role(workspace=workspace, user=user, role=None, actor=actor, successor=successor)


def _only_owner(workspace: Workspace, user: User) -> bool:
    owners = Membership.objects.filter(workspace=workspace, role=Role.OWNER)
    others = owners.filter(user__is_active=True).exclude(user=user)
    return owners.filter(user=user).exists() and not others.exists()


def _succeed(workspace: Workspace, user: User, successor: User | None, actor: Any) -> None:
    if successor is None or successor.pk == user.pk or not successor.is_active:
        raise Problem("last-owner", user=user.username, workspaces=workspace.name, target="successor")
    Membership.objects.update_or_create(workspace=workspace, user=successor, defaults={"role": Role.OWNER})
    audit.record(
        actor, "workspace.role", workspace=workspace.name, target=f"user/{successor.username}", role=Role.OWNER
    )


@transaction.atomic
def create_token(*, user: User, name: str, expires_at: datetime | None = None) -> tuple[PersonalToken, str]:
    """Make a personal access token; returns its row and the token, which cannot be had again."""
    name = name.strip()
    if not name:
        raise Problem(
            "bad-field",
            field="name",
            reason="give the token a name, so that you know later what it is for",
            target="name",
        )
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = PersonalToken.objects.create(
        user=user, name=name[:60], digest=digest_of(token), hint=token[:10], expires_at=expires_at
    )
    audit.record(user, "token.create", workspace="", target=f"user/{user.username}", name=row.name)
    return row, token


@transaction.atomic
def revoke_token(*, token: PersonalToken, actor: Any) -> None:
    audit.record(actor, "token.revoke", workspace="", target=f"user/{token.user.username}", name=token.name)
    token.delete()


def good_tokens() -> QuerySet[PersonalToken]:
    """Tokens that have not expired, of users who are not locked."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return PersonalToken.objects.select_related("user").filter(unexpired, user__is_active=True)


def find_token(token: str) -> PersonalToken | None:
    """The row of a personal access token; None when it is unknown, revoked, expired or its user is locked."""
    row = good_tokens().filter(digest=digest_of(token)).first()
    now = timezone.now()
    if row is not None and (row.last_used_at is None or now - row.last_used_at > LAST_USED_GRAIN):
        PersonalToken.objects.filter(pk=row.pk).update(last_used_at=now)
    return row


def user_of_token(token: str) -> User | None:
    """The active user a personal access token belongs to; None when the token is not good."""
    row = find_token(token)
    return row.user if row is not None else None


def ensure_admin(*, password: str) -> User:
    """The operator's account `admin`; the password is only set when the account is made."""
    model = get_user_model()
    user, created = model.objects.get_or_create(username="admin", defaults={"is_superuser": True, "is_staff": True})
    if created:
        user.set_password(password)
        user.save(update_fields=["password"])
    return user

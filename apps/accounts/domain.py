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
from apps.core import audit
from apps.core.errors import Problem

TOKEN_PREFIX = "pwt_"  # noqa: S105 -- not a secret: lets scanners recognise leaked tokens
LAST_USED_GRAIN = timedelta(minutes=1)


def digest_of(token: str) -> str:
    """What is stored of a token. A plain hash is enough: the token has 256 random bits, nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


@transaction.atomic
def create_workspace(*, name: str, actor: Any, display_name: str = "", description: str = "") -> Workspace:
    """Make a workspace; its maker becomes the owner. Raises Problem "bad-name" or "exists"."""
    workspace = Workspace(name=name, display_name=display_name or name, description=description)
    try:
        workspace.clean_fields()
    except ValidationError as error:
        raise Problem("bad-name", kind="workspace", name=name, rule="; ".join(error.messages)) from None
    if Workspace.objects.filter(name__iexact=name).exists():
        raise Problem("exists", kind="Workspace", name=name)
    workspace.save()
    if getattr(actor, "pk", None):
        Membership.objects.create(user=actor, workspace=workspace, role=Role.OWNER)
    audit.record(actor, "workspace.create", workspace=name, target=f"workspace/{name}")
    return workspace


@transaction.atomic
def set_role(*, workspace: Workspace, user: User, role: str | None, actor: Any) -> None:
    """Give a user a role, or take it away with None. The last owner cannot be removed (Problem "conflict")."""
    others = Membership.objects.filter(workspace=workspace, role=Role.OWNER).exclude(user=user)
    was_owner = Membership.objects.filter(workspace=workspace, user=user, role=Role.OWNER).exists()
    if was_owner and role != Role.OWNER and not others.exists():
        raise Problem("conflict", reason=f"{user} is the only owner of workspace {workspace}.")
    if role is None:
        Membership.objects.filter(workspace=workspace, user=user).delete()
    else:
        Membership.objects.update_or_create(workspace=workspace, user=user, defaults={"role": Role(role)})
    audit.record(actor, "workspace.role", workspace=workspace.name, target=f"user/{user.username}", role=role)


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

"""Who may do what. The studio and the API ask the same questions here."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.db.models import QuerySet

from apps.accounts.models import Membership, Role, Workspace
from apps.core.errors import Problem


class Permission(StrEnum):
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    KEYS = "listkeys"  # see, make and regenerate credentials of endpoints
    SCORE = "score"
    COMPUTE = "compute"  # clusters, instance types
    MEMBERS = "members"


_SCIENTIST = {Permission.READ, Permission.WRITE, Permission.DELETE, Permission.KEYS, Permission.SCORE}
PERMISSIONS: dict[str, frozenset[Permission]] = {
    Role.READER: frozenset({Permission.READ}),
    Role.DATA_SCIENTIST: frozenset(_SCIENTIST),
    Role.CONTRIBUTOR: frozenset(_SCIENTIST | {Permission.COMPUTE}),
    Role.OWNER: frozenset(Permission),
}


def is_administrator(actor: Any) -> bool:
    """Whether the actor runs this installation: may use the console, and everything in every workspace."""
    return bool(getattr(actor, "is_authenticated", False) and actor.is_active and actor.is_superuser)


def visible_workspaces(actor: Any) -> QuerySet[Workspace]:
    """The workspaces an actor may know of; every one for the operator, none for strangers."""
    if not getattr(actor, "is_authenticated", False) or not actor.is_active:
        return Workspace.objects.none()
    if actor.is_superuser:
        return Workspace.objects.all()
    return Workspace.objects.filter(memberships__user=actor)


def workspaces_with(actor: Any, permission: Permission) -> QuerySet[Workspace]:
    """The workspaces in which an actor has a permission, in one query."""
    rows = visible_workspaces(actor)
    if is_administrator(actor):
        return rows
    roles = [role for role, permissions in PERMISSIONS.items() if permission in permissions]
    return rows.filter(memberships__in=Membership.objects.filter(user=actor, role__in=roles))


def granted(actor: Any, workspace: Workspace) -> frozenset[Permission]:
    """Everything the actor may do in the workspace; nothing for strangers."""
    if not getattr(actor, "is_authenticated", False) or not actor.is_active:
        return frozenset()
    if actor.is_superuser:
        return frozenset(Permission)
    membership = Membership.objects.filter(user=actor, workspace=workspace).first()
    return PERMISSIONS[membership.role] if membership is not None else frozenset()


def can(actor: Any, permission: Permission, workspace: Workspace) -> bool:
    return permission in granted(actor, workspace)


def require(actor: Any, permission: Permission, workspace: Workspace) -> None:
    """Raises Problem: "not-found" for outsiders (they must not learn that it exists), "forbidden" for members."""
    if can(actor, permission, workspace):
        return
    if not can(actor, Permission.READ, workspace):
        raise Problem("not-found", kind="workspace", name=workspace.name)
    raise Problem("forbidden", workspace=workspace.name, permission=str(permission))

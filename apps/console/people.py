"""Users, workspaces, memberships and tokens."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.admin import display
from django.contrib.auth import get_user_model
from django.db.models import Count, Exists, OuterRef
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts.models import Membership, PersonalToken, Role, User, Workspace
from apps.accounts.people import sole_workspaces
from apps.console import html, member_verbs, user_verbs
from apps.console.base import ConsoleAdmin, Detail, Table, about, audit_table
from apps.console.compute import workspace_tables
from apps.console.compute_verbs import ChangeWorkspaceCompute
from apps.console.site import site
from apps.core.models import AuditRecord
from apps.endpoints.models import OnlineEndpoint


def account_state(user: User) -> Any:
    return html.named("active" if user.is_active else "deactivated")


class Users(ConsoleAdmin):
    heading = gettext_lazy("Users")
    hint = gettext_lazy("Accounts are made here, never by strangers. They are deactivated, not deleted.")
    list_display = ("username", "email", "kind", "active", "second_factor", "workspaces", "last_login_ago")
    list_filter = ("is_active", "is_superuser")
    search_fields = ("username", "email", "first_name", "last_name")
    ordering = ("username",)
    list_verbs = (user_verbs.CreateUser,)
    verbs = (
        user_verbs.PasswordLink,
        user_verbs.ResetTwoFactor,
        user_verbs.EndSessions,
        user_verbs.MakeAdministrator,
        user_verbs.RevokeAdministrator,
        user_verbs.Activate,
        user_verbs.Deactivate,
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(
                has_mfa=Exists(Authenticator.objects.filter(user=OuterRef("pk"))),
                workspace_count=Count("memberships"),
            )
        )

    @display(description=gettext_lazy("Kind"), ordering="is_superuser")
    def kind(self, row: User) -> Any:
        return _("Administrator") if row.is_superuser else _("User")

    @display(description=gettext_lazy("State"), ordering="is_active")
    def active(self, row: User) -> Any:
        return account_state(row)

    @display(description=gettext_lazy("Two-factor"), ordering="has_mfa")
    def second_factor(self, row: Any) -> Any:
        return html.named("on" if row.has_mfa else "off")

    @display(description=gettext_lazy("Workspaces"), ordering="workspace_count")
    def workspaces(self, row: Any) -> Any:
        return row.workspace_count

    @display(description=gettext_lazy("Last sign-in"), ordering="last_login")
    def last_login_ago(self, row: User) -> Any:
        return html.ago(row.last_login)

    def detail(self, row: Any) -> Detail:
        roles = row.memberships.select_related("workspace").order_by("workspace__name")
        sole = {each.pk for each in sole_workspaces(row)}
        return Detail(
            title=row.username,
            state=account_state(row),
            note=_("The only owner of %(names)s.")
            % {"names": ", ".join(each.workspace.name for each in roles if each.workspace_id in sole)}
            if sole
            else "",
            facts=(
                (_("E-mail"), row.email or html.NONE),
                (_("Kind"), self.kind(row)),
                (_("Two-factor"), self.second_factor(row)),
                (_("Password"), _("set") if row.has_usable_password() else _("not set yet")),
                (_("Created"), html.ago(row.date_joined)),
                (_("Last sign-in"), html.ago(row.last_login)),
            ),
            tables=(
                Table(
                    _("Workspaces"),
                    (_("Workspace"), _("Role")),
                    [(html.link(each.workspace), html.link(each, each.get_role_display())) for each in roles],
                    empty=_("Member of no workspace."),
                ),
                Table(
                    _("Tokens"),
                    TOKEN_COLUMNS,
                    [token_row(each) for each in row.tokens.all()],
                    empty=_("No personal access tokens."),
                ),
                audit_table(AuditRecord.objects.filter(actor=row), actor=row.username),
            ),
        )


class Workspaces(ConsoleAdmin):
    heading = gettext_lazy("Workspaces")
    hint = gettext_lazy("What one workspace owns, the members of another cannot see.")
    list_display = ("name", "display_name", "owners", "members", "endpoints", "created")
    search_fields = ("name", "display_name", "memberships__user__username")
    ordering = ("name",)
    list_verbs = (member_verbs.CreateWorkspace,)
    verbs = (member_verbs.GiveRoleHere, member_verbs.DescribeWorkspace, ChangeWorkspaceCompute)

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .prefetch_related("memberships__user")
            .annotate(
                member_count=Count("memberships", distinct=True),
                endpoint_count=Count("online_endpoints", distinct=True),
            )
        )

    @display(description=gettext_lazy("Owners"))
    def owners(self, row: Workspace) -> Any:
        names = [each.user.username for each in row.memberships.all() if each.role == Role.OWNER]
        return ", ".join(names[:3]) + (" …" if len(names) > 3 else "") or html.NONE  # noqa: PLR2004

    @display(description=gettext_lazy("Members"), ordering="member_count")
    def members(self, row: Any) -> Any:
        return row.member_count

    @display(description=gettext_lazy("Endpoints"), ordering="endpoint_count")
    def endpoints(self, row: Any) -> Any:
        return row.endpoint_count

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: Workspace) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        members = row.memberships.select_related("user").order_by("user__username")
        endpoints = OnlineEndpoint.objects.filter(workspace=row)
        runs_on, quota = workspace_tables(row)
        return Detail(
            title=row.name,
            studio=html.studio("workspace", row.name),
            facts=(
                (_("Display name"), row.display_name),
                (_("Description"), row.description or html.NONE),
                (_("Created"), html.ago(row.created_at)),
                (_("Resource group"), html.mono(row.resource_group)),
                *runs_on,
            ),
            tables=(
                Table(
                    _("Members"),
                    (_("User"), _("Role"), _("State")),
                    [
                        (html.link(each.user), html.link(each, each.get_role_display()), account_state(each.user))
                        for each in members
                    ],
                    empty=_("Nobody is a member. Administrators may do everything here all the same."),
                ),
                made_table(_("Endpoints"), endpoints, _("No endpoints.")),
                made_table(_("Batch endpoints"), row.batch_endpoints.all(), _("No batch endpoints.")),
                made_table(_("Clusters"), row.clusters.all(), _("No clusters.")),
                quota,
                audit_table(AuditRecord.objects.filter(workspace=row.name), workspace=row.name),
            ),
        )


def made_table(title: str, rows: Any, empty: str) -> Table:
    """What was made in a workspace."""
    cells = [(html.link(each), html.state_of(each), html.ago(each.created_at)) for each in rows]
    return Table(title, (_("Name"), _("State"), _("Created")), cells, empty)


class Memberships(ConsoleAdmin):
    heading = gettext_lazy("Memberships")
    hint = gettext_lazy("Who may do what in which workspace. Administrators need no role.")
    list_display = ("user", "workspace_link", "role_word", "active", "tools")
    list_display_links = ("user",)
    list_filter = ("role",)
    search_fields = ("user__username", "user__email", "workspace__name")
    ordering = ("workspace__name", "user__username")
    list_select_related = ("user", "workspace")
    list_verbs = (member_verbs.GiveRole,)
    verbs = (member_verbs.ChangeRole, member_verbs.RemoveMember)
    row_verbs = verbs

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: Membership) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("Role"), ordering="role")
    def role_word(self, row: Membership) -> Any:
        return row.get_role_display()

    @display(description=gettext_lazy("State"), ordering="user__is_active")
    def active(self, row: Membership) -> Any:
        return account_state(row.user)

    def detail(self, row: Any) -> Detail:
        return Detail(
            title=f"{row.user.username} · {row.workspace.name}",
            facts=(
                (_("User"), html.link(row.user)),
                (_("Workspace"), html.link(row.workspace)),
                (_("Role"), row.get_role_display()),
                (_("State"), account_state(row.user)),
            ),
            tables=(about(f"user/{row.user.username}"),),
        )


TOKEN_COLUMNS = (
    gettext_lazy("Name"),
    gettext_lazy("Begins with"),
    gettext_lazy("Created"),
    gettext_lazy("Last used"),
    gettext_lazy("Expires"),
)


def token_row(row: PersonalToken) -> tuple[Any, ...]:
    return (
        html.link(row, row.name),
        html.mono(f"{row.hint}…"),
        html.ago(row.created_at),
        html.ago(row.last_used_at) if row.last_used_at else _("Never"),
        expiry(row),
    )


def expiry(row: PersonalToken) -> Any:
    if row.expires_at is None:
        return _("Never")
    return html.named("expired") if row.expires_at < timezone.now() else html.ago(row.expires_at)


class Tokens(ConsoleAdmin):
    heading = gettext_lazy("Tokens")
    hint = gettext_lazy("Personal access tokens. Only a digest is kept: nobody can read a token again.")
    nothing = gettext_lazy("Nobody has made a token yet. Everybody makes their own, under Access tokens in the studio.")
    list_display = ("name", "owner", "begins", "created", "used", "expires", "tools")
    search_fields = ("name", "hint", "user__username")
    ordering = ("-created_at",)
    list_select_related = ("user",)
    verbs = (user_verbs.RevokeToken,)
    row_verbs = verbs

    @display(description=gettext_lazy("Owner"), ordering="user__username")
    def owner(self, row: PersonalToken) -> Any:
        return html.link(row.user)

    @display(description=gettext_lazy("Begins with"))
    def begins(self, row: PersonalToken) -> Any:
        return html.mono(f"{row.hint}…")

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: PersonalToken) -> Any:
        return html.ago(row.created_at)

    @display(description=gettext_lazy("Last used"), ordering="last_used_at")
    def used(self, row: PersonalToken) -> Any:
        return html.ago(row.last_used_at) if row.last_used_at else _("Never")

    @display(description=gettext_lazy("Expires"), ordering="expires_at")
    def expires(self, row: PersonalToken) -> Any:
        return expiry(row)

    def detail(self, row: Any) -> Detail:
        facts = zip(TOKEN_COLUMNS[1:], token_row(row)[1:], strict=True)
        return Detail(title=row.name, facts=((_("Owner"), html.link(row.user)), *facts))


site.register(get_user_model(), Users)
site.register(Workspace, Workspaces)
site.register(Membership, Memberships)
site.register(PersonalToken, Tokens)

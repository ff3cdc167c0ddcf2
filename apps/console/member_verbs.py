"""Verbs on workspaces and memberships."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.accounts import domain
from apps.accounts.models import Membership, Role, User, Workspace
from apps.console import html
from apps.console.user_verbs import SuccessorForm
from apps.console.verbs import ConsoleForm, RowVerb, Verb


def active_users() -> Any:
    return User.objects.filter(is_active=True).order_by("username")


class WorkspaceForm(ConsoleForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=33,
        help_text=gettext_lazy("3 to 33 letters, digits, - or _. It is part of addresses and cannot be changed."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "input mono"}),
    )
    display_name = forms.CharField(label=gettext_lazy("Display name"), max_length=100, required=False)
    description = forms.CharField(
        label=gettext_lazy("Description"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    owner = forms.ModelChoiceField(label=gettext_lazy("Owner"), queryset=active_users(), empty_label=None)


class CreateWorkspace(Verb):
    name = "create"
    label = gettext_lazy("Add workspace")
    icon = "plus"
    form_class = WorkspaceForm

    def initial(self) -> dict[str, Any]:
        return {"owner": self.actor}

    def run(self, data: dict[str, Any]) -> Any:
        self.row = domain.create_workspace(actor=self.actor, **data)

    def back(self) -> str:
        return html.address(self.row) if self.row is not None else html.listing(Workspace)


class DescribeForm(ConsoleForm):
    display_name = forms.CharField(label=gettext_lazy("Display name"), max_length=100)
    description = forms.CharField(
        label=gettext_lazy("Description"), max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3})
    )


class DescribeWorkspace(RowVerb):
    row: Workspace
    name = "describe"
    label = gettext_lazy("Edit")
    icon = "pencil"
    form_class = DescribeForm

    def initial(self) -> dict[str, Any]:
        return {"display_name": self.row.display_name, "description": self.row.description}

    def run(self, data: dict[str, Any]) -> Any:
        domain.describe_workspace(workspace=self.row, actor=self.actor, **data)


class RoleField(forms.ChoiceField):
    def __init__(self) -> None:
        super().__init__(label=gettext_lazy("Role"), choices=Role.choices, initial=Role.DATA_SCIENTIST)


class RoleHereForm(ConsoleForm):
    user = forms.ModelChoiceField(label=gettext_lazy("User"), queryset=active_users())
    role = RoleField()


class RoleForm(RoleHereForm):
    workspace = forms.ModelChoiceField(label=gettext_lazy("Workspace"), queryset=Workspace.objects.order_by("name"))
    field_order = ("user", "workspace", "role")


class GiveRole(Verb):
    name = "give-role"
    label = gettext_lazy("Give role")
    icon = "plus"
    form_class = RoleForm
    sentence = gettext_lazy("A user has one role in a workspace; this one takes the place of another.")

    def initial(self) -> dict[str, Any]:
        return {name: self.request.GET[name] for name in ("user", "workspace") if name in self.request.GET}

    def run(self, data: dict[str, Any]) -> Any:
        domain.set_role(actor=self.actor, **data)
        return _("%(user)s is %(role)s of %(workspace)s.") % {**data, "role": Role(data["role"]).label}

    def back(self) -> str:
        return html.listing(Membership)


class GiveRoleHere(RowVerb):
    row: Workspace
    name = "give-role"
    label = gettext_lazy("Give role")
    icon = "plus"
    form_class = RoleHereForm
    sentence = GiveRole.sentence

    def run(self, data: dict[str, Any]) -> Any:
        domain.set_role(workspace=self.row, actor=self.actor, **data)


class ChangeRoleForm(SuccessorForm):
    role = RoleField()
    field_order = ("role", "successor")


class ChangeRole(RowVerb):
    row: Membership
    name = "change-role"
    label = gettext_lazy("Change role")
    icon = "pencil"
    form_class = ChangeRoleForm

    def title(self) -> str:
        return _("Role of %(user)s in %(workspace)s") % {"user": self.row.user, "workspace": self.row.workspace}

    def initial(self) -> dict[str, Any]:
        return {"role": self.row.role}

    def run(self, data: dict[str, Any]) -> Any:
        domain.set_role(workspace=self.row.workspace, user=self.row.user, actor=self.actor, **data)


class RemoveMember(RowVerb):
    row: Membership
    name = "remove"
    label = gettext_lazy("Remove")
    icon = "trash-2"
    danger = True
    form_class = SuccessorForm
    sentence = gettext_lazy("The user no longer sees the workspace. What they made there stays.")

    def title(self) -> str:
        return _("Remove %(user)s from %(workspace)s") % {"user": self.row.user, "workspace": self.row.workspace}

    def run(self, data: dict[str, Any]) -> Any:
        domain.remove_member(workspace=self.row.workspace, user=self.row.user, actor=self.actor, **data)

    def back(self) -> str:
        return html.listing(Membership)

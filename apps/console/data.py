"""Data assets, datastores and components. Credentials are never even read here."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import display
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.batch.models import BatchDeployment
from apps.batch.users import users_of
from apps.console import html
from apps.console.base import ConsoleAdmin, Detail, Table, about, counted
from apps.console.batch import deployments_table
from apps.console.batch_verbs import Delete
from apps.console.site import site
from apps.console.verbs import LastVerb
from apps.registry.datastores import delete_datastore
from apps.registry.domain import delete_version
from apps.registry.enums import DatastoreType
from apps.registry.models import ComponentVersion, Datastore, DataVersion
from apps.registry.queries import data_in


class DeleteVersion(Delete, LastVerb):
    row: DataVersion | ComponentVersion

    def refused(self) -> str:
        users = users_of(self.row)
        return _("It is used by %(users)s") % {"users": ", ".join(users[:5])} if users else ""

    def goes(self) -> list[str]:
        return [_("the version %(name)s") % {"name": self.row}]

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- the form has checked the name
        delete_version(version=self.row, actor=self.actor, users=users_of(self.row))


class DeleteData(DeleteVersion):
    def stays(self) -> list[str]:
        return [_("files in a datastore; only what was uploaded with it goes, a while later")]


class DeleteDatastore(Delete, LastVerb):
    row: Datastore

    def refused(self) -> str:
        if self.row.is_default:
            return _("It comes with the workspace")
        users = data_in(self.row)
        return _("It is used by %(users)s") % {"users": ", ".join(users)} if users else ""

    def goes(self) -> list[str]:
        return [_("the name %(name)s and its credentials") % {"name": self.row}]

    def stays(self) -> list[str]:
        return [_("all files in it")]

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- as above
        delete_datastore(datastore=self.row, actor=self.actor)


class Versions(ConsoleAdmin):
    """What lists of asset versions share."""

    search_fields = ("asset__name", "version", "asset__workspace__name", "created_by__username")
    ordering = ("-created_at",)

    @display(description=gettext_lazy("Name"), ordering="asset__name")
    def full_name(self, row: Any) -> Any:
        return str(row)

    @display(description=gettext_lazy("Workspace"), ordering="asset__workspace__name")
    def workspace(self, row: Any) -> Any:
        return html.link(row.asset.workspace)

    @display(description=gettext_lazy("Type"), ordering="type")
    def type_word(self, row: Any) -> Any:
        return row.get_type_display()

    @display(description=gettext_lazy("Registered by"), ordering="created_by__username")
    def author(self, row: Any) -> Any:
        return html.link(row.created_by)

    @display(description=gettext_lazy("Registered"), ordering="created_at")
    def created(self, row: Any) -> Any:
        return html.ago(row.created_at)

    def common(self, row: Any) -> list[tuple[Any, Any]]:
        return [
            (_("Workspace"), html.link(row.asset.workspace)),
            (_("Type"), row.get_type_display()),
            (_("Archived"), _("yes") if row.is_archived or row.asset.is_archived else _("no")),
            (_("Registered by"), html.link(row.created_by)),
            (_("Registered"), html.ago(row.created_at)),
        ]


class DataAssets(Versions):
    heading = gettext_lazy("Data assets")
    hint = gettext_lazy("Every version of every workspace: files and folders by name.")
    nothing = gettext_lazy("No data asset has been registered yet.")
    list_display = ("full_name", "workspace", "type_word", "where", "size", "author", "created")
    list_filter = ("type", "is_archived", "asset__workspace")
    verbs = (DeleteData,)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("asset__workspace", "tree", "created_by")

    @display(description=gettext_lazy("Where"))
    def where(self, row: DataVersion) -> Any:
        """Without a query: signatures of shared links are in it."""
        return html.mono(row.uri.partition("?")[0]) if row.uri else _("uploaded")

    @display(description=gettext_lazy("Size"), ordering="tree__size_bytes")
    def size(self, row: DataVersion) -> Any:
        return html.size(row.tree.size_bytes) if row.tree else html.NONE

    def detail(self, row: Any) -> Detail:
        workspace = row.asset.workspace.name
        path = html.studio("data-asset", workspace, row.asset.name)
        files = [(_("Files"), row.tree.files)] if row.tree else []
        return Detail(
            title=str(row),
            studio=path and f"{path}?{urlencode({'version': row.version})}",
            facts=(*self.common(row), (_("Where"), self.where(row)), (_("Size"), self.size(row)), *files),
            tables=(about(f"data/{row}", workspace=workspace),),
        )


class Components(Versions):
    heading = gettext_lazy("Components")
    hint = gettext_lazy("Every version of every workspace: commands, and pipelines of them.")
    nothing = gettext_lazy("No component has been registered yet.")
    list_display = ("full_name", "workspace", "type_word", "deployed", "author", "created")
    list_filter = ("type", "is_archived", "is_anonymous", "asset__workspace")
    verbs = (DeleteVersion,)

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("asset__workspace", "environment__asset", "code__asset", "created_by")
        rows = super().get_queryset(request).select_related(*related)
        return rows.annotate(uses=counted(BatchDeployment.objects.all(), "component"))

    @display(description=gettext_lazy("Deployments"), ordering="uses")
    def deployed(self, row: Any) -> Any:
        return row.uses

    def detail(self, row: Any) -> Detail:
        return Detail(
            title=str(row),
            facts=(
                *self.common(row),
                (_("Display name"), row.display_name or html.NONE),
                (_("Environment"), html.mono(row.environment)),
                (_("Code"), html.mono(row.code)),
                (_("Same results for same inputs"), _("yes") if row.is_deterministic else _("no")),
            ),
            tables=(
                components_table(_("Steps"), row.parts, _("It is made of no others.")),
                components_table(_("Part of"), row.pipelines, _("No pipeline is made of it.")),
                deployments_table(row.batch_deployments.all()),
                about(f"component/{row}", workspace=row.asset.workspace.name),
            ),
        )


def components_table(title: str, related: Any, empty: str) -> Table:
    rows = related.select_related("asset").order_by("asset__name", "version")
    return Table(
        title, (_("Component"), _("Type")), [(html.link(each), each.get_type_display()) for each in rows], empty
    )


class Datastores(ConsoleAdmin):
    heading = gettext_lazy("Datastores")
    hint = gettext_lazy("Places for data that workspaces know by name. Credentials are shown nowhere.")
    nothing = gettext_lazy("No datastore has been made yet.")
    list_display = ("name", "workspace_link", "type_word", "where", "secret", "author", "created")
    list_filter = ("type", "is_default", "workspace")
    search_fields = ("name", "workspace__name", "created_by__username")
    ordering = ("workspace__name", "name")
    verbs = (DeleteDatastore,)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).defer("credentials").select_related("workspace", "created_by")
        kept = ExpressionWrapper(Q(credentials__isnull=False), output_field=BooleanField())
        return rows.annotate(kept=kept)

    @display(description=gettext_lazy("Workspace"), ordering="workspace__name")
    def workspace_link(self, row: Datastore) -> Any:
        return html.link(row.workspace)

    @display(description=gettext_lazy("Type"), ordering="type")
    def type_word(self, row: Datastore) -> Any:
        return row.get_type_display()

    @display(description=gettext_lazy("Where"))
    def where(self, row: Datastore) -> Any:
        if row.is_default:
            return _("In Portway's own folder")
        return html.mono(row.settings.get("root") if row.type == DatastoreType.LOCAL else row.place)

    @display(description=gettext_lazy("Credentials"), ordering="kept")
    def secret(self, row: Any) -> Any:
        return _("Kept encrypted") if row.kept else _("None")

    @display(description=gettext_lazy("Created by"), ordering="created_by__username")
    def author(self, row: Datastore) -> Any:
        return html.link(row.created_by)

    @display(description=gettext_lazy("Created"), ordering="created_at")
    def created(self, row: Datastore) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        workspace = row.workspace.name
        return Detail(
            title=row.name,
            studio=html.studio("datastore", workspace, row.name),
            facts=(
                (_("Workspace"), html.link(row.workspace)),
                (_("Type"), self.type_word(row)),
                (_("Where"), self.where(row)),
                (_("Credentials"), self.secret(row)),
                (_("Created"), html.ago(row.created_at)),
                (_("Created by"), html.link(row.created_by)),
            ),
            tables=(
                Table(_("Data assets"), (_("Name"),), [(each,) for each in data_in(row)], _("None is in it.")),
                about(f"datastore/{row.name}", workspace=workspace),
            ),
        )


site.register(DataVersion, DataAssets)
site.register(ComponentVersion, Components)
site.register(Datastore, Datastores)

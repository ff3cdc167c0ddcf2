"""Data assets and datastores: lists, looking into them, and new ones."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlencode

from django.db.models import Count, Max, Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.core.errors import Problem
from apps.registry import datastores, locations, uploads
from apps.registry.domain import register_data
from apps.registry.enums import DatastoreType
from apps.registry.locations import Location
from apps.registry.models import Data, Datastore, DataVersion
from apps.registry.queries import data_in, default_datastore
from apps.studio import ascode_assets
from apps.studio.ascode import AsCode, Writer
from apps.studio.browsing import browse, download, show_picture
from apps.studio.forms.data import FIELD_OF, KEEP, SETTINGS, DataForm, DatastoreEditForm, DatastoreForm
from apps.studio.forms.sources import UPLOAD
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import FormPage, Page, one

VERSIONS_SHOWN = 100
COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("Newest version")),
    Column(_lazy("Type")),
    Column(_lazy("Versions"), kind="number"),
    Column(_lazy("Registered"), "newest", "fold"),
)
STORE_COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("Type"), "type"),
    Column(_lazy("Place")),
    Column(_lazy("Created"), "created_at", "fold"),
)


class DataList(Page):
    section = "data"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Data.objects.filter(workspace=self.workspace, is_archived=False, name__icontains=query_of(request))
        rows = rows.annotate(count=Count("versions"), last=Max("versions__pk"), newest=Max("versions__created_at"))
        listed = listing(request, rows, COLUMNS, default="name")
        newest = DataVersion.objects.in_bulk([each.last for each in listed.rows if each.last])
        listed.rows = [(each, newest.get(each.last)) for each in listed.rows]
        return self.page("data", listing=listed)


class DataBase(Page):
    section = "data"
    permissions: ClassVar = {}
    asset: Data
    chosen: DataVersion

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name, version = kwargs["data"], request.GET.get("version", "")
        self.asset = one(Data.objects.filter(workspace=self.workspace, name=name), "data", name)
        rows = self.asset.versions.select_related("tree", "created_by", "asset__workspace")
        rows = rows.filter(version=version) if version else rows.order_by("-created_at", "-pk")
        self.chosen = one(rows, "data", f"{name}:{version}")

    def context(self) -> dict[str, Any]:
        return {**super().context(), "asset": self.asset, "chosen": self.chosen}


class DataPage(DataBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        browsed = browse(lambda: locations.of_version(self.chosen), request.GET.get("path", ""))
        versions = self.asset.versions.order_by("-created_at", "-pk").values_list("version", flat=True)
        kept = urlencode({"version": self.chosen.version})
        return self.page("data_asset", versions=versions[:VERSIONS_SHOWN], kept=kept, **browsed)


class DataDownload(DataBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        return download(request, locations.of_version(self.chosen), request.GET.get("path", ""))


class DataPicture(DataBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return show_picture(locations.of_version(self.chosen), request.GET.get("path", ""))


class DataCreate(FormPage):
    section = "data"
    template = "data_create"
    field_of: ClassVar = {"dataUri": "path"}

    def form(self, data: Any = None, files: Any = None) -> DataForm:
        return DataForm(data, files, initial={"path": self.request.GET.get("path", "")[:2000]})

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        version, _new = register_data(
            workspace=self.workspace,
            name=data["name"],
            version=data["version"] or None,
            uri=self._uploaded(data["upload"]) if data["source"] == UPLOAD else data["path"].strip(),
            type=data["type"],
            description=data["description"],
            tags=data["tags"],
            actor=self.request.user,
        )
        return self.go("studio:data-asset", self.workspace.name, version.asset.name)

    def _uploaded(self, files: list[Any]) -> str:
        archive = files[0] if len(files) == 1 and files[0].name.lower().endswith(".zip") else None
        some = [] if archive else files
        made = uploads.receive(workspace=self.workspace, archive=archive, files=some, paths=[], actor=self.request.user)
        return str(made.uri)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        path = data.get("path") if data.get("source") != UPLOAD else ""
        ascode_assets.data(writer, {**data, "path": path})
        return writer.done()


class Datastores(Page):
    section = "data"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        default_datastore(self.workspace)
        rows = Datastore.objects.filter(workspace=self.workspace, name__icontains=query_of(request))
        listed = listing(request, rows, STORE_COLUMNS, default="name")
        listed.rows = [(each, each.place) for each in listed.rows]
        return self.page("datastores", listing=listed)


class DatastoreBase(Page):
    section = "data"
    permissions: ClassVar = {}
    store: Datastore

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        default_datastore(self.workspace)
        rows = Datastore.objects.filter(workspace=self.workspace, name=kwargs["datastore"])
        self.store = one(rows.select_related("workspace", "created_by"), "datastore", kwargs["datastore"])

    def context(self) -> dict[str, Any]:
        return {**super().context(), "store": self.store, "where": self.store.place}

    def place(self) -> Location:
        return locations.at(self.store, locations.checked_path(self.folder, "folder"))

    @property
    def folder(self) -> str:
        return self.request.GET.get("folder", "").strip("/")[:1000]


class DatastorePage(DatastoreBase):
    """`folder` narrows what is listed to a path of it."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        browsed = browse(self.place, request.GET.get("path", ""))
        kept = urlencode({"folder": self.folder})
        return self.page("datastore", folder=self.folder, kept=kept, users=data_in(self.store), **browsed)


class DatastoreDownload(DatastoreBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        return download(request, self.place(), request.GET.get("path", ""))


class DatastorePicture(DatastoreBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return show_picture(self.place(), request.GET.get("path", ""))


class DatastoreDelete(DatastoreBase):
    permissions: ClassVar = {"POST": Permission.DELETE}

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        datastores.delete_datastore(datastore=self.store, actor=request.user)
        return self.go("studio:datastores", self.workspace.name)


class DatastoreEdit(FormPage, DatastoreBase):
    """Its name, its type and its place stay: what names its paths would find other files."""

    template = "datastore_form"
    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}
    field_of: ClassVar = {"credentials.secrets": "key", "credentials.credentialsType": "choice"}

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        datastores.check_changeable(self.store.name)

    def form(self, data: Any = None, files: Any = None) -> DatastoreEditForm:
        return DatastoreEditForm(data, store=self.store)

    def save(self, form: Any) -> HttpResponse:
        here, data = self.store, form.cleaned_data
        datastores.save_datastore(
            workspace=self.workspace,
            name=here.name,
            type=here.type,
            settings=here.settings,
            credentials=form.credentials(),
            description=data["description"],
            tags=data["tags"],
            properties=here.properties,
            actor=self.request.user,
        )
        return self.go("studio:datastore", self.workspace.name, here.name)

    def as_code(self, data: dict[str, Any]) -> AsCode | None:
        here = self.store
        names = SETTINGS.get(DatastoreType(here.type))
        if names is None:
            return None
        place = {name: here.settings.get(wire) for name, wire in names.items()}
        writer = Writer(self.workspace.name)
        kept = datastores.stored_credentials(here)["credentialsType"] if data.get("choice") == KEEP else ""
        ascode_assets.datastore(writer, {**data, **place, "name": here.name, "type": here.type, "kept": kept})
        return writer.done()


class DatastoreCreate(FormPage):
    section = "data"
    template = "datastore_form"
    field_of: ClassVar = {**FIELD_OF, "credentials.secrets": "key", "credentials.credentialsType": "key"}

    def form(self, data: Any = None, files: Any = None) -> DatastoreForm:
        return DatastoreForm(data)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        if Datastore.objects.filter(Q(workspace=self.workspace), name=data["name"]).exists():
            raise Problem("exists", kind="Datastore", name=data["name"], target="name")
        store, _new = datastores.save_datastore(
            workspace=self.workspace,
            name=data["name"],
            type=data["type"],
            settings=form.settings(),
            credentials=form.credentials(),
            description=data["description"],
            tags=data["tags"],
            actor=self.request.user,
        )
        return self.go("studio:datastore", self.workspace.name, store.name)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_assets.datastore(writer, data)
        return writer.done()

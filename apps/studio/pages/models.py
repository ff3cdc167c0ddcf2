"""Models: the list, and one model with its versions and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from django.db.models import Max, QuerySet
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch.users import users_of
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.registry import storage
from apps.registry.domain import delete_version
from apps.registry.models import Model, ModelVersion
from apps.registry.queries import failed_imports
from apps.studio.listing import Column, listing, query_of
from apps.studio.versions import asked_for, with_newest
from apps.studio.views import Page, one

FILES_SHOWN = 2000
DEPLOYED_SHOWN = 100
VERSION_COLUMNS = (
    Column(_lazy("Version")),
    Column(_lazy("Type")),
    Column(_lazy("Size")),
    Column(_lazy("Registered"), "created_at"),
    Column(_lazy("By")),
)
TEXT_SHOWN = 256 * 1024
COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("Newest version")),
    Column(_lazy("Type")),
    Column(_lazy("Versions")),
    Column(_lazy("Registered"), "newest", "fold"),
)


class Models(Page):
    section = "models"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Model.objects.filter(workspace=self.workspace, is_archived=False, name__icontains=query_of(request))
        if request.GET.get("sort", "").removeprefix("-") == "newest":
            rows = rows.annotate(newest=Max("versions__created_at"))
        listed = listing(request, rows, COLUMNS, default="name")
        listed.rows = with_newest(listed.rows, ModelVersion.objects.all())
        return self.page("models", listing=listed, failed=failed_imports(self.workspace)[:10])


class ModelBase(Page):
    section = "models"
    permissions: ClassVar = {}
    model: Model
    chosen: ModelVersion | None

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name = kwargs["model"]
        self.model = one(Model.objects.filter(workspace=self.workspace, name=name), "model", name)
        rows = self.model.versions.select_related("tree", "created_by", "asset__workspace")
        self.chosen = self.choose(request, rows)

    def choose(self, request: HttpRequest, rows: QuerySet[ModelVersion]) -> ModelVersion | None:
        return asked_for(request, rows, "model", self.model.name)

    def context(self) -> dict[str, Any]:
        return {**super().context(), "model": self.model, "chosen": self.chosen}

    def exactly(self, wanted: str) -> ModelVersion:
        """The version that was asked for; never another one instead."""
        if self.chosen is None or self.chosen.version != wanted:
            raise Problem("not-found", kind="model", name=f"{self.model.name}:{wanted}")
        return self.chosen


class ModelPage(ModelBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        deployed = OnlineDeployment.objects.filter(model__asset=self.model, endpoint__workspace=self.workspace)
        rows = self.model.versions.select_related("tree", "created_by", "asset")
        light = rows.defer("signature", "input_example", "flavors")
        return self.page(
            "model",
            listing=listing(request, light, VERSION_COLUMNS, default="-created_at"),
            deployed=deployed.select_related("endpoint", "model")[:DEPLOYED_SHOWN],
        )


@dataclass(frozen=True)
class File:
    name: str
    size: int
    depth: int
    folder: bool = False

    @property
    def short(self) -> str:
        return self.name.rpartition("/")[2]


class ModelFiles(ModelBase):
    """The files of a version, one of them shown when it is text."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        version = self.exactly(request.GET.get("version", ""))
        root, path = storage.tree_path(version.tree_id), request.GET.get("path", "")
        files, more = _files(root)
        shown, reason = None, ""
        if path:
            shown, reason = _text(_inside(root, path))
        return self.page("model_files", files=files, more=more, path=path, shown=shown, reason=reason)


class ModelDownload(ModelBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponseBase:
        version = self.exactly(request.GET.get("version", ""))
        file = _inside(storage.tree_path(version.tree_id), request.GET.get("path", ""))
        return FileResponse(
            file.open("rb"), as_attachment=True, filename=file.name, content_type="application/octet-stream"
        )


class ModelDelete(ModelBase):
    """Delete one version; the last one takes the model with it."""

    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page()

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        version = self.exactly(request.POST.get("version", ""))
        if request.POST.get("name", "") != str(version):
            reason = _("type the name of the model and its version to delete it")
            return self._page(Problem("bad-field", field=_("Name"), reason=reason))
        try:
            delete_version(version=version, actor=request.user, users=users_of(version))
        except Problem as problem:
            return self._page(problem)
        return self.go("studio:models", self.workspace.name)

    def _page(self, problem: Problem | None = None) -> HttpResponse:
        return self.page(
            "version_delete",
            asset=self.model,
            kind="model",
            version=self.chosen,
            users=users_of(self.chosen) if self.chosen else [],
            problem=problem,
        )


def _files(root: Path) -> tuple[list[File], bool]:
    """Folders and files in the order of a tree, at most FILES_SHOWN; and whether there are more."""
    found: list[File] = []
    for path in sorted(root.rglob("*"), key=lambda each: each.relative_to(root).parts):
        name = path.relative_to(root).as_posix()
        if len(found) == FILES_SHOWN:
            return found, True
        folder = path.is_dir()
        found.append(File(name, 0 if folder else path.stat().st_size, name.count("/"), folder))
    return found, False


def _inside(root: Path, path: str) -> Path:
    """A file of the tree. Raises Problem "not-found" for anything else."""
    place = root / path
    try:
        found = "\x00" not in path and place.resolve().is_relative_to(root.resolve()) and place.is_file()
    except OSError:  # a name that no file system takes
        found = False
    if not found:
        raise Problem("not-found", kind="file", name=path[:200])
    return place


def _text(file: Path) -> tuple[str | None, str]:
    """The text of a file, or why it is not shown."""
    if file.stat().st_size > TEXT_SHOWN:
        return None, _("This file is too long to be shown: download it.")
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:
        return None, _("This file is not text: download it.")
    return (None, _("This file is not text: download it.")) if "\x00" in text else (text, "")

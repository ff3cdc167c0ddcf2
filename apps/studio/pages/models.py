"""Models: list, register, and one model with its versions."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.registry import storage, uploads
from apps.registry.domain import register_model
from apps.registry.enums import ModelType
from apps.registry.models import Model, ModelVersion, Upload
from apps.registry.queries import failed_imports
from apps.studio.forms import ModelForm
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import Page, one

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
        shown = [each.pk for each in listed.rows]
        counts = Model.objects.filter(pk__in=shown).annotate(count=Count("versions"), last=Max("versions__pk"))
        by_model = {each.pk: each for each in counts}
        newest = ModelVersion.objects.in_bulk([each.last for each in by_model.values() if each.last])
        listed.rows = [(each, by_model[each.pk].count, newest.get(by_model[each.pk].last)) for each in listed.rows]
        return self.page("models", listing=listed, failed=failed_imports(self.workspace)[:10])


class ModelPage(Page):
    section = "models"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, model: str, **_: Any) -> HttpResponse:
        found = one(Model.objects.filter(workspace=self.workspace, name=model), "model", model)
        versions = list(found.versions.select_related("tree", "created_by", "asset"))
        wanted = request.GET.get("version", "")
        chosen = next((each for each in versions if each.version == wanted), versions[0] if versions else None)
        deployed = OnlineDeployment.objects.filter(model__asset=found, endpoint__workspace=self.workspace)
        return self.page(
            "model",
            model=found,
            versions=versions,
            chosen=chosen,
            deployed=deployed.select_related("endpoint", "model"),
        )


class ModelRegister(Page):
    section = "models"
    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("model_register", form=ModelForm())

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        """A plain form, or the upload element, which wants JSON: where to go, or what is wrong."""
        wants_json = request.headers.get("accept") == "application/json"
        form = ModelForm(request.POST)
        if not form.is_valid():
            if wants_json:
                field, errors = next(iter(form.errors.items()))
                raise Problem("bad-field", field=field, reason=str(errors[0]))
            return self.page("model_register", form=form, status=400)
        try:
            version = self._register(form.cleaned_data)
        except Problem as problem:
            if wants_json:
                raise
            return self.page("model_register", form=form, problem=problem)
        target = reverse("studio:model", args=[self.workspace.name, version.asset.name])
        return JsonResponse({"location": target}) if wants_json else redirect(target)

    def _register(self, data: dict[str, Any]) -> ModelVersion:
        files = self.request.FILES.getlist("files")
        archive = files[0] if len(files) == 1 and (files[0].name or "").lower().endswith(".zip") else None
        upload = uploads.receive(
            workspace=self.workspace,
            archive=archive,
            files=[] if archive else files,
            paths=_paths(self.request.POST.get("paths", "")),
            actor=self.request.user,
        )
        version, _new = register_model(
            workspace=self.workspace,
            name=data["name"],
            version=data["version"] or None,
            tree=upload.tree,
            path=upload.path,
            type=data["type"] or _type_of(upload),
            source=upload.uri,
            description=data["description"],
            actor=self.request.user,
        )
        return version


def _paths(text: str) -> list[str]:
    """The relative paths of the files, as one JSON list: Django bounds the number of form fields."""
    if not text:
        return []
    try:
        paths = json.loads(text)
    except ValueError as error:
        raise Problem("bad-json", reason=str(error)) from None
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        raise Problem("bad-field", field="paths", reason="must be a list of paths")
    return paths


def _type_of(upload: Upload) -> str:
    root = storage.tree_path(upload.tree_id) / upload.path
    found = (root / "MLmodel").is_file() or any(
        (each / "MLmodel").is_file() for each in root.iterdir() if each.is_dir()
    )
    return ModelType.MLFLOW if found else ModelType.CUSTOM

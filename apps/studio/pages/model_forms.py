"""Registering a model: by dropping its files, or from a run of MLflow."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse

from apps.core.errors import Problem
from apps.registry import mlflow_client, sources, storage, uploads
from apps.registry.domain import register_model
from apps.registry.enums import ModelType
from apps.registry.models import ModelVersion, Upload
from apps.registry.names import mlflow_name
from apps.studio import ascode
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms import ModelForm, RunForm
from apps.studio.views import FormPage

RUNS_SHOWN = 50


class ModelRegister(FormPage):
    section = "models"
    template = "model_register"

    def form(self, data: Any = None, files: Any = None) -> ModelForm:
        return ModelForm(data)

    def post(self, request: HttpRequest, **more: Any) -> HttpResponse:
        """A plain form, or the upload element, which wants JSON: where to go, or what is wrong."""
        if request.headers.get("accept") != "application/json":
            return super().post(request, **more)
        form = self.form(request.POST)
        if not form.is_valid():
            field, errors = next(iter(form.errors.items()))
            raise Problem("bad-field", field=field, reason=str(errors[0]))
        return JsonResponse({"location": self._address(self._register(form.cleaned_data))})

    def save(self, form: Any) -> HttpResponse:
        return self.go(self._address(self._register(form.cleaned_data)))

    def _address(self, version: ModelVersion) -> str:
        return reverse("studio:model", args=[self.workspace.name, version.asset.name])

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

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode.model(writer, data)
        return writer.done()


class ModelFromRun(FormPage):
    section = "models"
    template = "model_from_run"

    def form(self, data: Any = None, files: Any = None) -> RunForm:
        chosen = self.request.GET.get("uri", "")
        name = chosen.rpartition("/")[2]
        return RunForm(data, initial={"uri": chosen, "name": name})

    def show(self, form: Any, **context: Any) -> HttpResponse:
        """What MLflow has may change, and MLflow may be away: then the form still takes an address."""
        logged, away = [], None
        try:
            logged = mlflow_client.logged_models(mlflow_name(self.workspace.name), most=RUNS_SHOWN)
        except Problem as problem:
            away = problem.as_json()
        for each in logged:
            each["at"] = datetime.fromtimestamp(each["at"] / 1000, tz=UTC)
        return super().show(form, logged=logged, away=away, tracking_uri=f"{settings.BASE_URL}/mlflow", **context)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        source = sources.resolve(data["uri"], workspace=self.workspace, actor=self.request.user)
        version, _new = register_model(
            workspace=self.workspace,
            name=data["name"],
            version=data["version"] or None,
            tree=source.tree,
            path=source.path,
            type=ModelType.MLFLOW,
            source=source.uri,
            run_id=source.run_id,
            description=data["description"],
            actor=self.request.user,
        )
        return self.go("studio:model", self.workspace.name, version.asset.name)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode.model(writer, {**data, "run": data.get("uri") or "runs:/RUN_ID/model"})
        return writer.done()


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

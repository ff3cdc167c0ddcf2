"""Registering a model: by dropping its files, or from a run of MLflow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import reverse

from apps.core.errors import Problem
from apps.registry import mlflow_client, sources, storage
from apps.registry.domain import register_model
from apps.registry.enums import ModelType
from apps.registry.models import Upload
from apps.registry.names import mlflow_name
from apps.studio import ascode_assets
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms import ModelForm, RunForm
from apps.studio.pages.sending import SendingPage
from apps.studio.views import FormPage

RUNS_SHOWN = 50


class ModelRegister(SendingPage):
    section = "models"
    template = "model_register"

    def form(self, data: Any = None, files: Any = None) -> ModelForm:
        return ModelForm(data)

    def register(self, data: dict[str, Any]) -> str:
        upload = self.received()
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
        return reverse("studio:model", args=[self.workspace.name, version.asset.name])

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_assets.model(writer, data)
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
        ascode_assets.model(writer, {**data, "run": data.get("uri") or "runs:/RUN_ID/model"})
        return writer.done()


def _type_of(upload: Upload) -> str:
    root = storage.tree_path(upload.tree_id) / upload.path
    found = (root / "MLmodel").is_file() or any(
        (each / "MLmodel").is_file() for each in root.iterdir() if each.is_dir()
    )
    return ModelType.MLFLOW if found else ModelType.CUSTOM

"""The MLflow server's WSGI application: MLflow's own Flask app, with Portway's workspaces. Not imported by Django.

Who calls was settled before (`apps/api/mlflow.py` behind Envoy); this process believes the headers `x-portway-user` and
`x-mlflow-workspace`, which only Envoy and this installation's own processes can send to its socket.
"""

# mypy: disable-error-code="no-untyped-call,attr-defined,return-value"
# MLflow's server side has no types

from __future__ import annotations

import gc

gc.disable()  # a fifth of the start: the imports make many objects and hardly any garbage

import os  # noqa: E402
import sqlite3  # noqa: E402
import sys  # noqa: E402

# A tracking server keeps no data frames; the client half of the package asks for these and goes without. Saves 50 MB.
sys.modules["pandas"] = sys.modules["scipy"] = None  # type: ignore[assignment]

from collections.abc import Iterable  # noqa: E402
from typing import Any  # noqa: E402

import mlflow.server  # noqa: E402
from flask import Response, has_request_context, request  # noqa: E402
from mlflow.entities import Workspace  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.server import handlers  # noqa: E402
from mlflow.store.db import utils as databases  # noqa: E402
from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore  # noqa: E402
from mlflow.store.workspace.abstract_store import AbstractStore  # noqa: E402
from mlflow.tracking._workspace.registry import _get_workspace_store_registry  # noqa: E402
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME  # noqa: E402
from werkzeug.middleware.proxy_fix import ProxyFix  # noqa: E402

from apps.registry.mlflow_paths import classify  # noqa: E402

USER = "x-portway-user"
LISTED = "x-portway-workspaces"
DEFAULT_EXPERIMENT = "0"  # what a client names that never chose an experiment


class Workspaces(AbstractStore):
    """Portway's database says which workspaces there are; here every name that got past the front door exists."""

    def __init__(self, workspace_uri: str) -> None:
        self.uri = workspace_uri

    def list_workspaces(self) -> Iterable[Workspace]:
        names = request.headers.get(LISTED, "") if has_request_context() else ""
        return [Workspace(name=name) for name in names.split(",") if name]

    def get_workspace(self, workspace_name: str) -> Workspace:
        return Workspace(name=workspace_name)

    def get_default_workspace(self) -> Workspace:
        return Workspace(name=DEFAULT_WORKSPACE_NAME)


class Tracking(WorkspaceAwareSqlAlchemyStore):
    """Experiment 0 is the workspace `default`'s; elsewhere it means the experiment named Default, made on first use."""

    def _own(self, experiment_id: str) -> str:
        if str(experiment_id) != DEFAULT_EXPERIMENT or self._get_active_workspace() == DEFAULT_WORKSPACE_NAME:
            return experiment_id
        found = self.get_experiment_by_name("Default")
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.create_experiment("Default"))
        except MlflowException:  # another request made it meanwhile
            found = self.get_experiment_by_name("Default")
            if found is None:
                raise
            return str(found.experiment_id)

    def get_experiment(self, experiment_id: str) -> Any:
        return super().get_experiment(self._own(experiment_id))

    def create_run(self, experiment_id: str, *args: Any, **kwargs: Any) -> Any:
        return super().create_run(self._own(experiment_id), *args, **kwargs)

    def create_logged_model(self, experiment_id: str = DEFAULT_EXPERIMENT, *args: Any, **kwargs: Any) -> Any:
        return super().create_logged_model(self._own(experiment_id), *args, **kwargs)

    def search_runs(self, experiment_ids: list[str], *args: Any, **kwargs: Any) -> Any:
        return super().search_runs([self._own(each) for each in experiment_ids], *args, **kwargs)

    def search_logged_models(self, experiment_ids: list[str], *args: Any, **kwargs: Any) -> Any:
        return super().search_logged_models([self._own(each) for each in experiment_ids], *args, **kwargs)


def guard() -> Response | None:
    """Refuse what did not come through the front door and what is not open."""
    if request.path == "/mlflow/health":
        return None
    if not request.headers.get(USER) or not request.headers.get("x-mlflow-workspace"):
        return _refusal("Requests reach MLflow through Portway's gateway only.", 403)
    if classify(request.method, request.path) is None:
        return _refusal("This part of MLflow is not open on Portway.", 404)
    return None


def _refusal(message: str, status: int) -> Response:
    code = {403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND"}[status]
    answer = mlflow.server.app.json.response({"error_code": code, "message": message})
    answer.status_code = status
    return answer


def prepare() -> None:
    """Bring the database up to date and build the stores, before the first request."""
    # the gateway does the sign-in; MLflow would else try its own at each search, compile 9,000 lines and fail
    sys.modules["mlflow.server.auth"] = None  # type: ignore[assignment]
    _get_workspace_store_registry().register("portway", Workspaces)
    uri = os.environ[mlflow.server.BACKEND_STORE_URI_ENV_VAR]
    for scheme in ("sqlite", "postgresql"):
        handlers._tracking_store_registry.register(scheme, _tracking)  # noqa: SLF001 -- MLflow has no public way for this
    if uri.startswith("sqlite:///"):
        with sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=30) as link:
            link.execute("PRAGMA journal_mode=WAL")
    engine = databases.create_sqlalchemy_engine_with_retry(uri)
    filled = databases._all_tables_exist(engine)  # noqa: SLF001
    if filled and databases._get_schema_version(engine) != databases._get_latest_schema_revision():  # noqa: SLF001
        databases._upgrade_db(engine)  # noqa: SLF001
    engine.dispose()
    handlers.initialize_backend_stores(uri, None, os.environ[mlflow.server.ARTIFACT_ROOT_ENV_VAR])


def _tracking(store_uri: str, artifact_uri: str) -> Tracking:
    return Tracking(store_uri, artifact_uri)


prepare()
app = mlflow.server.app
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0, x_proto=1)  # type: ignore[method-assign]  # redirects stay https
app.before_request_funcs.setdefault(None, []).insert(0, guard)
gc.collect()
gc.freeze()
gc.enable()

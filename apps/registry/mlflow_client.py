"""Talking to the MLflow server over its socket, as the installation itself: plain HTTP, no MLflow package."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.conf import settings

from apps.core.errors import Problem
from apps.core.unixhttp import UnixConnection
from apps.registry.mlflow_paths import PREFIX

TIMEOUT_S = 10.0
PAGE = 200
MOST_PAGES = 500
API = f"{PREFIX}/api/2.0/mlflow/"


def get(path: str, *, workspace: str, **query: Any) -> dict[str, Any] | None:
    """The answer to a GET in one of MLflow's workspaces; None when there is no such thing.

    Raises:
        Problem: "unavailable" when the server does not answer, or not sensibly.
    """
    return _call("GET", f"{path}?{urlencode(query)}", workspace)


def search(path: str, *, workspace: str, **body: Any) -> dict[str, Any] | None:
    """The answer to one of MLflow's searches, which are POSTs; else like `get`."""
    return _call("POST", path, workspace, json.dumps(body))


def _call(method: str, target: str, workspace: str, body: str | None = None) -> dict[str, Any] | None:
    link = UnixConnection(settings.HOME.mlflow_socket, timeout=TIMEOUT_S)
    headers = {"x-portway-user": "portway", "x-mlflow-workspace": workspace, "Content-Type": "application/json"}
    try:
        link.request(method, f"{API}{target}", body=body, headers=headers)
        answer = link.getresponse()
        found = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Problem("unavailable", what="MLflow", evidence=f"{type(error).__name__}: {error}"[:300]) from None
    finally:
        link.close()
    if answer.status == http.client.OK and isinstance(found, dict):
        return found
    code = found.get("error_code") if isinstance(found, dict) else ""
    if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
        return None
    raise Problem("unavailable", what="MLflow", evidence=f"HTTP {answer.status} {code}")


def logged_models(workspace: str, *, most: int) -> list[dict[str, Any]]:
    """The models that runs have logged, the newest first: uri, name, run, experiment, at (ms).

    Raises Problem "unavailable".
    """
    found = search("experiments/search", workspace=workspace, max_results=PAGE) or {}
    experiments = {each["experiment_id"]: each["name"] for each in found.get("experiments", [])}
    if not experiments:
        return []
    answer = search(
        "logged-models/search",
        workspace=workspace,
        experiment_ids=list(experiments),
        max_results=most,
        order_by=[{"field_name": "creation_timestamp_ms", "ascending": False}],
    )
    infos = [each["info"] for each in (answer or {}).get("models", [])]
    return [
        {
            "uri": f"runs:/{info['source_run_id']}/{info['name']}",
            "name": info["name"],
            "run": info["source_run_id"],
            "experiment": experiments.get(info["experiment_id"], ""),
            "at": int(info["creation_timestamp_ms"]),
        }
        for info in infos
        if info.get("source_run_id") and info.get("name")
    ]


def versions(workspace: str, *, everything: bool) -> Iterator[dict[str, Any]]:
    """The model versions of a workspace, the last changed first; one page of them, or all."""
    query = {"max_results": PAGE, "order_by": "last_updated_timestamp DESC"}
    for _ in range(MOST_PAGES if everything else 1):
        found = get("model-versions/search", workspace=workspace, **query) or {}
        yield from found.get("model_versions", [])
        if not found.get("next_page_token"):
            return
        query["page_token"] = found["next_page_token"]


def version(workspace: str, name: str, number: str) -> dict[str, Any] | None:
    found = get("model-versions/get", workspace=workspace, name=name, version=number)
    return found["model_version"] if found else None


def version_uri(workspace: str, name: str, number: str) -> str | None:
    """Where the files of a model version are, e.g. mlflow-artifacts:/…"""
    found = get("model-versions/get-download-uri", workspace=workspace, name=name, version=number)
    return found["artifact_uri"] if found else None


def run(workspace: str, run_id: str) -> dict[str, Any] | None:
    found = get("runs/get", workspace=workspace, run_id=run_id)
    return found["run"] if found else None

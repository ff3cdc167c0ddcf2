"""What is registered in MLflow becomes deployable here, within two seconds and once.

The gateway's question (`apps/api/mlflow.py`) touches a workspace's link before each change of MLflow's registry. The
controller then reads that workspace's newest versions every second for a while, and all of them every half minute.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.core import audit, events
from apps.core.errors import Problem
from apps.registry import domain, mlflow_client, mlflow_files
from apps.registry.enums import ModelType
from apps.registry.models import MlflowImport, MlflowLink
from apps.registry.names import mlflow_name

log = structlog.get_logger(__name__)

WARM = timedelta(seconds=5)  # a change is read for so long after it was announced: it takes MLflow a moment
FULL = timedelta(seconds=30)
CLAIM = timedelta(seconds=30)  # an import that gives no sign of life for so long is taken over
BEAT_S = 5.0
RETRY_S, LONGEST_RETRY_S = 5, 3600
BATCH = 20
PROMPT = "mlflow.prompt.is_prompt"


def touch(workspace: Workspace) -> None:
    """Note that MLflow's registry is about to change for a workspace."""
    now = timezone.now()
    if not MlflowLink.objects.filter(pk=workspace.pk).update(touched_at=now):
        MlflowLink.objects.get_or_create(workspace=workspace, defaults={"touched_at": now})


def sync() -> int:
    """Read what changed in MLflow and import what is new; how many versions were imported."""
    now = timezone.now()
    due = Q(synced_at=None) | Q(synced_at__lt=F("touched_at") + WARM) | Q(full_at=None) | Q(full_at__lt=now - FULL)
    for link in MlflowLink.objects.filter(due).select_related("workspace").order_by("-touched_at")[:50]:
        try:
            _read(link, everything=link.full_at is None or link.full_at < now - FULL)
        except Problem as problem:
            log.info("mlflow.unavailable", reason=problem.evidence)
            return 0
    waiting = MlflowImport.objects.filter(imported_at=None, retry_at__lte=timezone.now())
    return sum(_import(row) for row in waiting.select_related("workspace").order_by("retry_at")[:BATCH])


def _read(link: MlflowLink, *, everything: bool) -> None:
    started = timezone.now()
    known = set(MlflowImport.objects.filter(workspace=link.workspace).values_list("name", "version", "made_ms"))
    for found in mlflow_client.versions(mlflow_name(link.workspace.name), everything=everything):
        key = (found["name"], str(found["version"]), int(found["creation_timestamp"]))
        if key in known or found.get("status", "READY") != "READY" or _tags(found).get(PROMPT) == "true":
            continue
        name, version, made = key
        MlflowImport.objects.get_or_create(
            workspace=link.workspace, name=name, version=version, made_ms=made, defaults={"retry_at": started}
        )
    done = {"synced_at": started} | ({"full_at": started} if everything else {})
    MlflowLink.objects.filter(pk=link.pk).update(**done)


def _import(row: MlflowImport) -> bool:
    """Import one version, or note why not; False also when another controller is at it."""
    now = timezone.now()
    mine = MlflowImport.objects.filter(pk=row.pk, imported_at=None, retry_at__lte=now)
    if not mine.update(retry_at=now + CLAIM, attempts=F("attempts") + 1):
        return False
    try:
        return _register(row)
    except Problem as problem:
        error = problem.as_json()
    except Exception as failure:
        log.exception("mlflow.import_crashed", model=str(row))
        error = Problem("internal", evidence=f"{type(failure).__name__}: {failure}"[:500]).as_json()
    wait = min(LONGEST_RETRY_S, RETRY_S * 2 ** min(row.attempts, 20))
    MlflowImport.objects.filter(pk=row.pk).update(error=error, retry_at=timezone.now() + timedelta(seconds=wait))
    log.info("mlflow.import_failed", model=str(row), workspace=row.workspace.name, reason=error["message"])
    events.changed(row.workspace.name, f"model:{row.name}")
    return False


def _register(row: MlflowImport) -> bool:
    workspace = row.workspace
    found = mlflow_client.version(mlflow_name(workspace.name), row.name, row.version)
    if found is None or int(found["creation_timestamp"]) != row.made_ms:
        row.delete()  # gone from MLflow before it ever came here
        return False
    uri = mlflow_files.of_version(workspace, row.name, row.version)
    tree, path = mlflow_files.take(workspace, uri, beat=_Beat(row))
    with transaction.atomic():
        version, _ = domain.register_model(
            workspace=workspace,
            name=row.name,
            version=row.version,
            tree=tree,
            path=path,
            actor=None,
            type=ModelType.MLFLOW,
            source=f"models:/{row.name}/{row.version}",
            run_id=found.get("run_id") or "",
            tags=_tags(found),
            description=found.get("description") or "",
        )
        MlflowImport.objects.filter(pk=row.pk).update(imported_at=timezone.now(), model_version=version, error=None)
        audit.record(None, "model.import", workspace=workspace.name, target=f"model/{row}", source=version.source)
        events.changed(workspace.name, f"model:{row.name}")
    log.info("mlflow.imported", model=str(row), workspace=workspace.name)
    return True


class _Beat:
    """Keeps the claim on an import alive while its files are copied."""

    def __init__(self, row: MlflowImport) -> None:
        self.pk = row.pk
        self.last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last > BEAT_S:
            self.last = time.monotonic()
            MlflowImport.objects.filter(pk=self.pk, imported_at=None).update(retry_at=timezone.now() + CLAIM)


def _tags(found: dict[str, Any]) -> dict[str, str]:
    return {str(tag["key"]): str(tag.get("value", "")) for tag in found.get("tags", [])}

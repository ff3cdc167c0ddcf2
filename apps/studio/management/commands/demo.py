from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.accounts.models import User, Workspace
from apps.core.models import Operation, OperationState
from apps.endpoints import domain
from apps.endpoints.domain import DeploymentSpec, EndpointSpec
from apps.endpoints.models import OnlineEndpoint
from apps.gateway.domain import keys_of
from apps.registry import storage
from apps.registry.domain import register_model
from apps.registry.enums import ModelType
from apps.registry.models import ModelVersion

TRAIN_S = 120
WAIT_S = 150
NAME = "diabetes"
TRAFFIC = {"blue": 90, "green": 10}


class Command(BaseCommand):
    help = "Set up the demo, once: two models, an endpoint, two deployments, traffic 90/10."
    requires_system_checks: ClassVar[list[str]] = []  # they load every URL: a second of each start

    def handle(self, *_args: Any, **_options: Any) -> None:
        mark = settings.HOME.root / "demo.json"
        if mark.exists():
            return
        admin = User.objects.get(username="admin")
        workspace = Workspace.objects.get(name="default")
        endpoint = OnlineEndpoint.objects.filter(name=NAME).first()
        if endpoint is None:
            endpoint, operation = domain.create_endpoint(
                workspace=workspace, name=NAME, actor=admin,
                spec=EndpointSpec(description="Demo: progression of diabetes after one year"),
            )  # fmt: skip
            self._wait(operation)
        models, sample = self._models(workspace, admin)
        for name, model in models.items():
            if not endpoint.deployments.filter(name=name).exists():
                spec = DeploymentSpec(model=model, instance_type="medium", max_concurrent_requests=16)
                _, operation = domain.create_deployment(endpoint=endpoint, name=name, spec=spec, actor=admin)
                self._wait(operation)
        endpoint.refresh_from_db()
        if endpoint.traffic != TRAFFIC:
            self._wait(domain.update_endpoint(endpoint=endpoint, spec=EndpointSpec(traffic=TRAFFIC), actor=admin))
        settings.HOME.write_private(
            mark,
            json.dumps({"uri": endpoint.scoring_uri, "key": keys_of(NAME)["primary"], "body": sample}),
        )

    def _models(self, workspace: Workspace, admin: User) -> tuple[dict[str, ModelVersion], Any]:
        with storage.scratch() as folder:
            try:
                subprocess.run(
                    [sys.executable, str(settings.BASE_DIR / "examples" / "demo" / "train.py"), str(folder)],
                    check=True, capture_output=True, text=True, timeout=TRAIN_S,
                )  # fmt: skip
            except subprocess.SubprocessError as error:
                raise CommandError(f"training failed: {str(getattr(error, 'stderr', error))[-300:]}") from error
            sample = json.loads((folder / "sample.json").read_text())
            return {name: self._register(folder / name, name, workspace, admin) for name in TRAFFIC}, sample

    def _register(self, folder: Path, name: str, workspace: Workspace, admin: User) -> ModelVersion:
        with storage.scratch() as scratch:
            folder.rename(scratch / "model")
            tree = storage.adopt(scratch)
        version, _ = register_model(
            workspace=workspace, name=f"{NAME}-{name}", version="1", tree=tree, path="model",
            type=ModelType.MLFLOW, source="demo", actor=admin,
        )  # fmt: skip
        return version

    def _wait(self, operation: Operation) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            operation.refresh_from_db()
            if operation.state == OperationState.SUCCEEDED:
                return
            if not operation.live:
                raise CommandError(
                    f"{operation}: {(operation.error or {}).get('message')} {(operation.error or {}).get('evidence')}",
                )
            time.sleep(0.05)
        raise CommandError(f"{operation} did not end within {WAIT_S} s")

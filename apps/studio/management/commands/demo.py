from __future__ import annotations

import json
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.models import User, Workspace
from apps.builds import domain as builds
from apps.core import operations
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
NEEDED = ("mlflow-skinny", "numpy", "pandas", "scikit-learn", "scipy", "cloudpickle")
TRAFFIC = {"blue": 90, "green": 10}


class Command(BaseCommand):
    help = "Set up the demo, once: two models, an endpoint, two deployments, traffic 90/10."
    requires_system_checks = ()  # they load every URL: a second of each start

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="where examples/demo/train.py puts, or has put, its models")

    def handle(self, *_args: Any, folder: Path, **_options: Any) -> None:
        mark = settings.HOME.root / "demo.json"
        if mark.exists() and json.loads(mark.read_text())["complete"]:
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
        for cut_off in Operation.objects.filter(lock=domain.lock_of(endpoint), state__in=OperationState.live()):
            self._wait(cut_off)  # by the end of an earlier start
        models, sample = self._models(folder, workspace, admin)
        self._deploy(endpoint, "blue", models["blue"], admin)
        self._traffic(endpoint, {"blue": 100}, admin)
        call = {"uri": endpoint.scoring_uri, "key": keys_of(NAME)["primary"], "body": sample}
        settings.HOME.write_private(mark, json.dumps({**call, "complete": False}))  # a prediction answers now
        self._deploy(endpoint, "green", models["green"], admin)
        self._traffic(endpoint, TRAFFIC, admin)
        settings.HOME.write_private(mark, json.dumps({**call, "complete": True}))

    def _deploy(self, endpoint: OnlineEndpoint, name: str, model: ModelVersion, admin: User) -> None:
        if not endpoint.deployments.filter(name=name).exists():
            spec = DeploymentSpec(model=model, instance_type="medium", max_concurrent_requests=16)
            self._wait(domain.create_deployment(endpoint=endpoint, name=name, spec=spec, actor=admin)[1])

    def _traffic(self, endpoint: OnlineEndpoint, traffic: dict[str, int], admin: User) -> None:
        endpoint.refresh_from_db()
        if endpoint.traffic != traffic:
            self._wait(domain.update_endpoint(endpoint=endpoint, spec=EndpointSpec(traffic=traffic), actor=admin))

    def _models(self, folder: Path, workspace: Workspace, admin: User) -> tuple[dict[str, ModelVersion], Any]:
        """The trained models, registered. While they are being trained, their environment is built."""
        requirements = "\n".join(f"{name}=={version(name)}" for name in NEEDED)
        builds.ensure(builds.EnvironmentSpec(requirements=requirements), log=self.stdout.write, check=lambda: None)
        deadline = time.monotonic() + TRAIN_S
        while not (folder / "sample.json").exists():  # it is written last
            if time.monotonic() > deadline:
                raise CommandError(f"training did not end within {TRAIN_S} s; see training.log in the logs folder")
            time.sleep(0.02)
        sample = json.loads((folder / "sample.json").read_text())
        return {name: self._register(folder / name, name, workspace, admin) for name in TRAFFIC}, sample

    def _register(self, folder: Path, name: str, workspace: Workspace, admin: User) -> ModelVersion:
        with storage.scratch() as scratch:
            shutil.copytree(folder, scratch / "model")
            tree = storage.adopt(scratch)
        registered, _ = register_model(
            workspace=workspace, name=f"{NAME}-{name}", version="1", tree=tree, path="model",
            type=ModelType.MLFLOW, source="demo", actor=admin,
        )  # fmt: skip
        return registered

    def _wait(self, operation: Operation) -> None:
        operations.run(operation.pk)  # here, unless a worker was faster: workers may still be starting
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            operation.refresh_from_db()
            if operation.state == OperationState.SUCCEEDED:
                return
            if not operation.live:
                raise CommandError(
                    f"{operation}: {(operation.error or {}).get('message')} {(operation.error or {}).get('evidence')}"
                )
            time.sleep(0.05)
        raise CommandError(f"{operation} did not end within {WAIT_S} s")

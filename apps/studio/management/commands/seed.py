"""`manage.py seed`: a workspace as large as a large installation's, to measure pages on. Nothing in it runs."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import User, Workspace
from apps.core.models import Operation, OperationState
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.registry.enums import ModelType
from apps.registry.models import Environment, EnvironmentVersion, Model, ModelVersion, Tree

BATCH = 1000
SPLITS: tuple[dict[str, int], ...] = ({"blue": 100}, {"blue": 90, "green": 10}, {"blue": 50, "green": 50}, {})
TOPICS = ("churn", "fraud", "demand", "pricing", "vision", "search", "risk", "energy")


class Command(BaseCommand):
    help = "Fill a workspace with endpoints, models, environments and operations, to measure pages on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workspace", default="load", help="made when it is not there; must be empty")
        parser.add_argument("--endpoints", type=int, default=1000)
        parser.add_argument("--models", type=int, default=10_000)
        parser.add_argument("--operations", type=int, default=5000)

    @transaction.atomic
    def handle(
        self, *_args: Any, workspace: str, endpoints: int, models: int, operations: int, **_options: Any
    ) -> None:
        place, _made = Workspace.objects.get_or_create(name=workspace, defaults={"display_name": workspace.title()})
        if OnlineEndpoint.objects.filter(workspace=place).exists() or Model.objects.filter(workspace=place).exists():
            raise CommandError(f"Workspace {workspace} is not empty.")
        actor = User.objects.filter(is_superuser=True).order_by("pk").first()
        versions = _models(place, models, actor)
        _environments(place, max(1, models // 100), actor)
        _endpoints(place, endpoints, versions, actor)
        _operations(place, endpoints, operations, actor)
        self.stdout.write(f"{workspace}: {endpoints} endpoints, {models} models, {operations} operations")


def _name(number: int) -> str:
    return f"{TOPICS[number % len(TOPICS)]}-{number:05}"


def _models(place: Workspace, count: int, actor: Any) -> list[ModelVersion]:
    """Each third has two versions."""
    digest = hashlib.sha256(b"seed").hexdigest()
    tree, _made = Tree.objects.get_or_create(digest=digest, defaults={"size_bytes": 4096, "files": 3})
    assets = Model.objects.bulk_create([Model(workspace=place, name=_name(each)) for each in range(count)], BATCH)
    rows = [
        ModelVersion(
            asset=asset,
            version=str(version),
            type=ModelType.MLFLOW,
            tree=tree,
            description=f"Model {number} of the seed",
            flavors={"python_function": {}},
            created_by=actor,
        )
        for number, asset in enumerate(assets)
        for version in range(1, 3 if number % 3 == 0 else 2)
    ]
    made: list[ModelVersion] = ModelVersion.objects.bulk_create(rows, BATCH)
    return made


def _environments(place: Workspace, count: int, actor: Any) -> None:
    assets = Environment.objects.bulk_create(
        [Environment(workspace=place, name=f"env-{each:04}") for each in range(count)], BATCH
    )
    text = "dependencies: [python=3.11]\n"
    EnvironmentVersion.objects.bulk_create(
        [EnvironmentVersion(asset=each, version="1", conda_file=text, created_by=actor) for each in assets], BATCH
    )


def _endpoints(place: Workspace, count: int, versions: list[ModelVersion], actor: Any) -> None:
    """Each with two deployments that never came up, so that nothing is started for them."""
    states = (ProvisioningState.SUCCEEDED, ProvisioningState.SUCCEEDED, ProvisioningState.FAILED)
    rows = OnlineEndpoint.objects.bulk_create(
        [
            OnlineEndpoint(
                workspace=place,
                name=f"seed-{_name(each)}",
                description=f"Endpoint {each} of the seed",
                tags={"team": TOPICS[each % len(TOPICS)]},
                traffic=SPLITS[each % len(SPLITS)],
                state=ProvisioningState.SUCCEEDED,
                created_by=actor,
                modified_by=actor,
            )
            for each in range(count)
        ],
        BATCH,
    )
    OnlineDeployment.objects.bulk_create(
        [
            OnlineDeployment(
                endpoint=endpoint,
                name=name,
                model=versions[number % len(versions)] if versions else None,
                instance_type="small",
                state=states[number % len(states)],
            )
            for number, endpoint in enumerate(rows)
            for name in ("blue", "green")
        ],
        BATCH,
    )


def _operations(place: Workspace, endpoints: int, count: int, actor: Any) -> None:
    """Ended ones, one a minute back in time."""
    now = timezone.now()
    rows = Operation.objects.bulk_create(
        [
            Operation(
                kind="online-endpoint.update",
                workspace=place.name,
                target=f"online-endpoint/seed-{_name(each % max(1, endpoints))}",
                lock=f"seed/{each}",
                state=OperationState.SUCCEEDED if each % 10 else OperationState.FAILED,
                percent=100,
                actor=actor,
            )
            for each in range(count)
        ],
        BATCH,
    )
    for number, row in enumerate(rows):  # the time of a row is the time it is written
        row.created_at = row.started_at = row.finished_at = now - timedelta(minutes=number)
    Operation.objects.bulk_update(rows, ["created_at", "started_at", "finished_at"], BATCH)

"""The controller's part for batch work."""

from __future__ import annotations

from collections.abc import Collection

from apps.batch import retention
from apps.batch.domain import schedules
from apps.batch.engine import nodes, pipeline
from apps.batch.models import Node
from apps.compute import domain as compute
from apps.core.controller import every

compute.make_room_with(nodes.make_room)


@every(1.0, "nodes")
def tend_clusters() -> None:
    nodes.schedule()


@every(2.0, "pipelines")
def advance_pipelines() -> None:
    """What no message told of."""
    pipeline.sweep()


@every(10.0, "schedules")
def fire_schedules() -> None:
    schedules.fire_due()


@every(3600.0, "job-folders")
def sweep_folders() -> None:
    retention.sweep()


@every(60.0, "node-reservations")
def sweep_reservations() -> None:
    """Give back what is reserved for nodes that are gone."""
    compute.release_unowned(_living, kind=":")


def _living(owner_keys: Collection[str]) -> set[str]:
    return {each.owner_key for each in Node.objects.all()} & set(owner_keys)

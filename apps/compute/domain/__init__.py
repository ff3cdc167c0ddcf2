"""Verbs on replica sets, replicas and instance types."""

from apps.compute.domain.recipes import (
    OWNER,
    Recipe,
    driver,
    handle_of,
    last_line,
    logs,
    mark_log,
    read_log,
    replica_name,
    spec_of,
    validate,
)
from apps.compute.domain.replicas import update
from apps.compute.domain.sets import (
    addresses,
    destroy,
    ensure_set,
    failure,
    halt,
    ready_count,
    reconcile,
    scale,
    settle,
    stand_down,
    stop_draining,
    sweep_orphans,
)
from apps.compute.domain.sizes import SIZES, instance_type, seed_instance_types, usable
from apps.compute.domain.usage import usage

__all__ = [
    "OWNER",
    "SIZES",
    "Recipe",
    "addresses",
    "destroy",
    "driver",
    "ensure_set",
    "failure",
    "halt",
    "handle_of",
    "instance_type",
    "last_line",
    "logs",
    "mark_log",
    "read_log",
    "ready_count",
    "reconcile",
    "replica_name",
    "scale",
    "seed_instance_types",
    "settle",
    "spec_of",
    "stand_down",
    "stop_draining",
    "sweep_orphans",
    "update",
    "usable",
    "usage",
    "validate",
]

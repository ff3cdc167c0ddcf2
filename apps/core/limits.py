"""What this installation allows. `settings.LIMITS` gives the defaults; an administrator's value counts at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from apps.core import audit
from apps.core.errors import Problem
from apps.core.models import Limit


@dataclass(frozen=True)
class Rule:
    """How a limit is called, and between which values it may be set."""

    label: str | Promise
    least: int
    most: int


RULES: dict[str, Rule] = {
    "endpoints": Rule(_("Endpoints of the installation"), 1, 10_000),
    "deployments": Rule(_("Deployments of the installation"), 1, 50_000),
    "deployments_per_endpoint": Rule(_("Deployments of one endpoint"), 1, 200),
    "instances_per_deployment": Rule(_("Instances of one deployment"), 1, 1_000),
    "request_timeout_ms": Rule(_("Longest request timeout, in milliseconds"), 1_000, 3_600_000),
    "requests_per_second": Rule(_("Requests per second of one endpoint"), 1, 1_000_000),
    "clusters": Rule(_("Compute clusters of the installation"), 1, 10_000),
    "nodes_per_cluster": Rule(_("Nodes of one compute cluster"), 1, 1_000),
    "jobs_per_workspace": Rule(_("Jobs of one workspace that have not ended"), 1, 1_000_000),
    "mini_batches_per_job": Rule(_("Mini-batches of one job"), 1, 10_000_000),
    "job_output_bytes": Rule(_("Results of one job, in bytes"), 2**20, 2**50),
    "job_files_days": Rule(_("Days that the working files of ended jobs are kept"), 1, 3_650),
    "upload_bytes": Rule(_("Largest upload, in bytes"), 2**20, 2**40),
    "upload_files": Rule(_("Files of one upload"), 1, 1_000_000),
}


@dataclass(frozen=True)
class Current:
    """A limit as it is in force."""

    name: str
    rule: Rule
    value: int
    default: int

    @property
    def changed(self) -> bool:
        return self.value != self.default


_followers: dict[str, Callable[[int], object]] = {}
_counters: dict[str, list[Callable[[], int]]] = {}


def count_with(name: str, function: Callable[[], int]) -> None:
    """Have what `function` counts count against a limit, together with what other apps have of it."""
    _counters.setdefault(name, []).append(function)


def check_room(name: str, what: str) -> None:
    """Raises Problem "limit" when the installation may have no more of what the limit counts."""
    if sum(count() for count in _counters[name]) >= (most := get(name)):
        raise Problem("limit", limit=most, what=what)


def follow(name: str, function: Callable[[int], object]) -> None:
    """Have `function` called with the new value, in the transaction that changes it."""
    _followers[name] = function


def get(name: str) -> int:
    """The value in force."""
    row = Limit.objects.filter(pk=name).values_list("value", flat=True).first()
    return int(settings.LIMITS[name]) if row is None else row


def everything() -> list[Current]:
    rows = dict(Limit.objects.values_list("name", "value"))
    return [Current(name, rule, rows.get(name, default(name)), default(name)) for name, rule in RULES.items()]


def default(name: str) -> int:
    return int(settings.LIMITS[name])


@transaction.atomic
def set_limit(*, name: str, value: int | None, actor: Any) -> None:
    """Set a limit, or with None go back to the default. Nothing that exists is taken away by a lower one.

    Raises:
        Problem: "not-found" for an unknown name, "bad-field" for a value out of its range.
    """
    rule = RULES.get(name)
    if rule is None:
        raise Problem("not-found", kind="limit", name=name)
    if value is not None and not rule.least <= value <= rule.most:
        reason = f"must be {rule.least} to {rule.most}, not {value}"
        raise Problem("bad-field", field=str(rule.label), reason=reason, target="value")
    before = get(name)
    if value is None:
        Limit.objects.filter(pk=name).delete()
    else:
        Limit.objects.update_or_create(name=name, defaults={"value": value})
    after = default(name) if value is None else value
    if name in _followers:
        _followers[name](after)
    audit.record(actor, "limit.set", workspace="", target=f"limit/{name}", before=before, after=after)

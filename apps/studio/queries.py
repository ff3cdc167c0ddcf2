"""Reads of more than one page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _

from apps.accounts.models import Workspace
from apps.compute.domain import hourly
from apps.compute.enums import ReplicaState
from apps.compute.models import InstanceType, ReplicaSet
from apps.core.models import Operation, OperationState
from apps.endpoints.enums import ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint

HOURS_OF_A_MONTH = 730


@dataclass(frozen=True)
class Card:
    """A deployment as pages show it: what was asked, and what is there."""

    deployment: OnlineDeployment
    ready: int
    live: int
    mirror: int
    hourly: Decimal | None = None

    @property
    def degraded(self) -> bool:
        return self.deployment.state == ProvisioningState.SUCCEEDED and self.ready < self.deployment.instance_count

    @property
    def tone(self) -> str:
        if not self.degraded:
            return self.deployment.tone
        return "degraded" if self.ready else "failed"

    @property
    def word(self) -> str:
        if not self.degraded:
            return str(self.deployment.get_state_display())
        return _("Degraded") if self.ready else _("Not ready")


def endpoints_of(workspace: Workspace) -> QuerySet[OnlineEndpoint]:
    return OnlineEndpoint.objects.filter(workspace=workspace).select_related("workspace", "created_by", "modified_by")


def deployments_of(endpoint: OnlineEndpoint) -> QuerySet[OnlineDeployment]:
    related = ("endpoint__workspace", "model__asset", "code__asset", "environment__asset", "serving", "created_by")
    return OnlineDeployment.objects.filter(endpoint=endpoint).select_related(*related)


def cards(deployments: Iterable[OnlineDeployment]) -> list[Card]:
    """Each deployment with its ready instances: of the set that serves, else of the one that is being started."""
    rows = list(deployments)
    sets = ReplicaSet.objects.filter(owner_key__in=[each.owner_key for each in rows]).annotate(
        ready=Count("replicas", filter=Q(replicas__state=ReplicaState.READY)),
    )
    by_key: dict[Any, int] = {}
    for each in sets:
        by_key[each.pk] = by_key[each.owner_key, each.revision] = each.ready
    return [
        Card(
            deployment=row,
            ready=by_key.get(row.serving_id or (row.owner_key, row.revision), 0),
            live=row.endpoint.traffic.get(row.name, 0),
            mirror=row.endpoint.mirror_traffic.get(row.name, 0),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Prices:
    """What instance types cost, by name in small letters."""

    types: Mapping[str, InstanceType]

    def of(self, deployment: OnlineDeployment) -> Decimal | None:
        """Of an hour of a deployment; None without a price."""
        return hourly(self.types.get(deployment.instance_type.lower()), deployment.instance_count)


def priced(shown: Iterable[Card]) -> list[Card]:
    """The cards with what each deployment costs an hour."""
    known = prices()
    return [replace(each, hourly=known.of(each.deployment)) for each in shown]


def prices() -> Prices:
    return Prices({each.name.lower(): each for each in InstanceType.objects.exclude(price_hour=0)})


def operations_of(endpoint: OnlineEndpoint) -> QuerySet[Operation]:
    mine = Q(target=endpoint.topic) | Q(target__startswith=f"online-deployment/{endpoint.name}/")
    return Operation.objects.filter(mine, workspace=endpoint.workspace.name).select_related("actor")


def live_operation(endpoint: OnlineEndpoint) -> Operation | None:
    return operations_of(endpoint).filter(state__in=OperationState.live()).first()

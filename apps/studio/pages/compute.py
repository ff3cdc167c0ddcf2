"""What a workspace runs on: its target, its quota, and the sizes that can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from apps.accounts.policy import Permission
from apps.compute import domain as compute
from apps.compute.domain import Ledger
from apps.compute.models import InstanceType
from apps.endpoints.models import OnlineDeployment
from apps.studio.pretty import size_words
from apps.studio.queries import HOURS_OF_A_MONTH, prices
from apps.studio.views import Page


@dataclass(frozen=True)
class Choice:
    """An instance type as this workspace meets it now."""

    row: InstanceType
    size: str
    notes: list[str]
    count: int
    reason: str


class Compute(Page):
    section = "compute"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **kwargs: object) -> HttpResponse:
        ledger = Ledger(self.workspace)
        chosen = ledger.choice.target if ledger.choice is not None else ""
        cost = self._cost()
        return self.page(
            "compute",
            runs_on=compute.label(chosen) if chosen else _("automatic: containers only for what needs them"),
            lines=ledger.quota_lines(),
            types=[_choice(each, ledger) for each in InstanceType.objects.filter(enabled=True)],
            cost=cost,
            month=cost * HOURS_OF_A_MONTH,
        )

    def _cost(self) -> Decimal:
        rows = OnlineDeployment.objects.filter(endpoint__workspace=self.workspace)
        known = prices()
        return sum((known.of(each) or Decimal(0) for each in rows), Decimal(0))


def _choice(row: InstanceType, ledger: Ledger) -> Choice:
    size, notes = compute.size_of(row)
    count, reason = ledger.most(row)
    return Choice(row, size_words(size), notes, count, reason)

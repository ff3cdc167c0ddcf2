"""Online endpoints: the list, and the tabs of one endpoint."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.core import audit
from apps.core.errors import Problem
from apps.core.models import AuditRecord
from apps.endpoints import domain
from apps.endpoints.enums import AuthMode, ProvisioningState
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import domain as gateway
from apps.monitoring.queries import summary
from apps.studio import ascode_calls, invoke
from apps.studio.listing import Column, listing, query_of
from apps.studio.queries import (
    HOURS_OF_A_MONTH,
    cards,
    deployments_of,
    endpoints_of,
    live_operation,
    operations_of,
    priced,
)
from apps.studio.views import Page, one

HISTORY = 50


COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("State"), "state"),
    Column(_lazy("Traffic"), kind="col-traffic"),
    Column(_lazy("Deployments")),
    Column(_lazy("Requests/min"), kind="fold number"),
    Column(_lazy("p95"), kind="fold number"),
    Column(_lazy("Created"), "created_at", "fold"),
)


class Endpoints(Page):
    section = "endpoints"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = endpoints_of(self.workspace)
        query, state = query_of(request), request.GET.get("state", "")
        if query:
            rows = rows.filter(Q(name__icontains=query) | Q(description__icontains=query))
        if state in ProvisioningState.values:
            rows = rows.filter(state=state)
        listed = listing(request, rows, COLUMNS, default="name", states=ProvisioningState.choices)
        related = OnlineDeployment.objects.filter(endpoint__in=listed.rows).select_related("endpoint")
        by_endpoint: dict[int, list[Any]] = {}
        for card in cards(related):
            by_endpoint.setdefault(card.deployment.endpoint_id, []).append(card)
        recent = summary([each.pk for each in listed.rows])
        listed.rows = [(each, by_endpoint.get(each.pk, []), recent[each.pk]) for each in listed.rows]
        return self.page("endpoints", listing=listed)


class EndpointPage(Page):
    """A page of one endpoint, found in this workspace only."""

    section = "endpoints"
    tab: ClassVar[str] = "overview"
    endpoint: OnlineEndpoint

    permissions: ClassVar = {}

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        self.endpoint = one(
            endpoints_of(self.workspace).filter(name=kwargs["endpoint"]),
            "endpoint",
            kwargs["endpoint"],
        )

    def context(self) -> dict[str, Any]:
        return {
            **super().context(),
            "endpoint": self.endpoint,
            "tab": self.tab,
            "operation": live_operation(self.endpoint),
        }


class Overview(EndpointPage):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        shown = priced(cards(deployments_of(self.endpoint)))
        total = sum((each.hourly or Decimal(0) for each in shown), Decimal(0))
        return self.page("endpoint", cards=shown, total=total, month=total * HOURS_OF_A_MONTH)


class Deployments(EndpointPage):
    tab = "deployments"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.page("endpoint_deployments", cards=cards(deployments_of(self.endpoint)))


class EndpointDelete(EndpointPage):
    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page()

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        if request.POST.get("name", "") != self.endpoint.name:
            return self._page(
                Problem("bad-field", field=_("Name"), reason=_("type the name of the endpoint to delete it")),
            )
        try:
            operation = domain.delete_endpoint(endpoint=self.endpoint, actor=request.user)
        except Problem as problem:
            return self._page(problem)
        return self.to_operation(operation)

    def _page(self, problem: Problem | None = None) -> HttpResponse:
        return self.page("endpoint_delete", problem=problem, deployments=self.endpoint.deployments.all())


class Keys(EndpointPage):
    tab = "keys"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        sample = invoke.sample(deployments_of(self.endpoint).exclude(model=None).first())
        return self.page(
            "endpoint_keys",
            slots=("primary", "secondary"),
            tabs=ascode_calls.request(self.endpoint.name, path=self.endpoint.scoring_path, body=json.dumps(sample)),
            group="request",
            uses_keys=self.endpoint.auth_mode == AuthMode.KEY,
        )


class KeyReveal(EndpointPage):
    """A key or a fresh token, for the one who asks; never part of a page."""

    permissions: ClassVar = {"POST": Permission.KEYS}

    def post(self, request: HttpRequest, slot: str, **_: Any) -> HttpResponse:
        if slot == "token":
            if self.endpoint.auth_mode == AuthMode.KEY:
                raise Problem("no-tokens", endpoint=self.endpoint.name)
            value = gateway.issue_token(self.endpoint.name, subject=request.user.get_username())["accessToken"]
        elif self.endpoint.auth_mode != AuthMode.KEY:
            raise Problem("no-keys", endpoint=self.endpoint.name)
        else:
            value = gateway.keys_of(self.endpoint.name).get(slot)
        if not value:
            raise Problem("not-found", kind="key", name=slot)
        audit.record(
            request.user, "online-endpoint.reveal-key", workspace=self.workspace.name, target=self.endpoint.topic
        )
        return JsonResponse({"value": value}, headers={"Cache-Control": "no-store"})


class KeyRegenerate(EndpointPage):
    permissions: ClassVar = {"POST": Permission.KEYS}

    def post(self, request: HttpRequest, slot: str, **_: Any) -> HttpResponse:
        if slot not in {"primary", "secondary"}:
            raise Problem("not-found", kind="key", name=slot)
        return self.to_operation(
            domain.regenerate_key(endpoint=self.endpoint, slot=slot, value=None, actor=request.user),
        )


class Activity(EndpointPage):
    tab = "activity"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        name = self.endpoint.name
        mine = Q(target=self.endpoint.topic) | Q(target__startswith=f"online-deployment/{name}/")
        records = AuditRecord.objects.filter(mine, workspace=self.workspace.name).select_related("actor")[:HISTORY]
        return self.page("endpoint_activity", operations=operations_of(self.endpoint)[:HISTORY], records=records)

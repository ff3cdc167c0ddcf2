"""The traffic editor: nothing changes until Apply, and the domain checks again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from apps.accounts.policy import Permission
from apps.core.errors import Problem
from apps.core.models import AuditRecord, Operation
from apps.endpoints import domain
from apps.endpoints.domain import EndpointSpec
from apps.endpoints.rules import MIRROR_MAX
from apps.studio import ascode_online
from apps.studio.ascode import AsCode, Writer
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.queries import cards, deployments_of, endpoints_of, operations_of
from apps.studio.views import number, texts, wants_code

HISTORY = 20


@dataclass(frozen=True)
class Proposal:
    """What the form asks for; numbers that are none stay text, for the domain to refuse."""

    live: dict[str, Any]
    mirror: dict[str, Any]


class Traffic(EndpointPage):
    tab = "traffic"
    permissions: ClassVar = {"GET": Permission.READ, "POST": Permission.WRITE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page(Proposal(self.endpoint.traffic, self.endpoint.mirror_traffic))

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        proposal = _proposal(request)
        if wants_code(request):
            return texts(self._code(proposal).tabs)
        try:
            operation = domain.update_endpoint(
                endpoint=self.endpoint,
                spec=EndpointSpec(traffic=proposal.live, mirror_traffic=proposal.mirror),
                actor=request.user,
                if_match=number(request.POST.get("revision", "")),
            )
        except Problem as problem:
            self.endpoint = endpoints_of(self.workspace).get(pk=self.endpoint.pk)
            return self._page(proposal, problem)
        here = reverse("studio:endpoint-traffic", args=[self.workspace.name, self.endpoint.name])
        return self.go(f"{here}?applied={operation.pk}")

    def _page(self, proposal: Proposal, problem: Problem | None = None) -> HttpResponse:
        """The editor over the present state, with the proposal in its controls."""
        rows = [
            {"card": card, "proposed": proposal.live.get(card.deployment.name, 0)}
            for card in cards(deployments_of(self.endpoint))
        ]
        changes = AuditRecord.objects.filter(
            action="online-endpoint.traffic", target=self.endpoint.topic, workspace=self.workspace.name
        ).select_related("actor")
        target, percent = next(iter(proposal.mirror.items()), ("", 10))
        return self.page(
            "endpoint_traffic",
            rows=rows,
            problem=problem,
            mirror_target=target,
            mirror_percent=percent,
            mirror_max=MIRROR_MAX,
            applied=self._applied(),
            code=self._code(proposal),
            changes=changes.order_by("-at", "-pk")[:HISTORY],
        )

    def _applied(self) -> Operation | None:
        """The change one has just made: one stays here, where its effect is counted, and can look at its timeline."""
        try:
            wanted = UUID(self.request.GET.get("applied", ""))
        except ValueError:
            return None
        return operations_of(self.endpoint).filter(pk=wanted).first()

    def _code(self, proposal: Proposal) -> AsCode:
        writer = Writer(self.workspace.name)
        mirror = proposal.mirror if proposal.mirror or self.endpoint.mirror_traffic else None
        ascode_online.traffic(writer, self.endpoint.name, proposal.live, mirror)
        return writer.done()


def _proposal(request: HttpRequest) -> Proposal:
    live = {
        name.removeprefix("live."): _number(str(value))
        for name, value in request.POST.items()
        if name.startswith("live.")
    }
    target = str(request.POST.get("mirror", ""))
    return Proposal(live, {target: _number(str(request.POST.get("mirror_percent", "")))} if target else {})


def _number(text: str) -> Any:
    """What is no number stays text, for the domain to refuse."""
    return number(text, -1) if number(text, -1) >= 0 else text[:40]

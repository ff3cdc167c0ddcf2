"""Verbs on endpoints, deployments, instances and operations. Each leads to the timeline of what it began."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.compute import domain as compute
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.console.verbs import ConsoleForm, RowVerb
from apps.core import operations
from apps.core.models import Operation
from apps.endpoints import domain, instances
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint


class DeleteEndpoint(RowVerb):
    row: OnlineEndpoint
    name = "delete"
    label = gettext_lazy("Delete")
    icon = "trash-2"
    danger = True

    def goes(self) -> list[str]:
        return [
            _("the endpoint %(name)s, its address and its keys; callers get 404") % {"name": self.row.name},
            *(
                _("the deployment %(name)s, its instances and their logs") % {"name": each}
                for each in self.row.deployments.all()
            ),
        ]

    def stays(self) -> list[str]:
        return [_("models and environments of the workspace")]

    def type_to_confirm(self) -> str:
        return self.row.name

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- the form has checked the name
        return domain.delete_endpoint(endpoint=self.row, actor=self.actor)


class DeleteDeployment(RowVerb):
    row: OnlineDeployment
    name = "delete"
    label = gettext_lazy("Delete")
    icon = "trash-2"
    danger = True

    def refused(self) -> str:
        endpoint = self.row.endpoint
        taken = endpoint.traffic.get(self.row.name) or endpoint.mirror_traffic.get(self.row.name)
        return _("It takes traffic: move that to 0 in the studio first") if taken else ""

    def goes(self) -> list[str]:
        return [_("the deployment %(name)s, its instances and their logs") % {"name": self.row}]

    def stays(self) -> list[str]:
        return [_("the endpoint with its other deployments"), _("its model and its environment")]

    def type_to_confirm(self) -> str:
        return str(self.row)

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- as above
        return domain.delete_deployment(deployment=self.row, actor=self.actor)


class ReasonForm(ConsoleForm):
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=300, required=False)


class NeededReasonForm(ConsoleForm):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=300,
        help_text=gettext_lazy("The owners of the deployment read it, and it is in the audit trail."),
    )


class ReplicaVerb(RowVerb):
    row: Replica

    def serves(self) -> bool:
        return OnlineDeployment.objects.filter(serving=self.row.set_id).exists()

    def refused(self) -> str:
        return "" if self.serves() else _("No deployment serves from it any more")

    def others(self) -> int:
        return self.row.set.replicas.filter(state=ReplicaState.READY).exclude(pk=self.row.pk).count()

    def effect(self) -> str:
        others = self.others()
        if others:
            return _("Requests go to the other %(count)s ready instances; none fails.") % {"count": others}
        return _("No other instance of this deployment is ready: requests to it fail meanwhile.")


class RestartReplica(ReplicaVerb):
    name = "restart"
    label = gettext_lazy("Restart")
    icon = "refresh-cw"
    form_class = ReasonForm

    @property
    def sentence(self) -> str:  # type: ignore[override]
        return " ".join(
            [
                _("The gateway sends it no more requests, those in flight finish, then it is stopped and started."),
                self.effect(),
            ]
        )

    def fits(self) -> bool:
        return self.row.state != ReplicaState.HELD

    def run(self, data: dict[str, Any]) -> Operation:
        return instances.restart_replica(replica=self.row, actor=self.actor, reason=data["reason"])


class StopReplica(ReplicaVerb):
    name = "stop"
    label = gettext_lazy("Stop")
    icon = "pause"
    danger = True
    form_class = NeededReasonForm

    @property
    def sentence(self) -> str:  # type: ignore[override]
        return " ".join(
            [
                _(
                    "It is taken out of the routes, stopped, and kept down until an administrator starts it again or "
                    "the deployment is rolled to a new revision. The number of instances its owner asked for stays."
                ),
                self.effect(),
            ]
        )

    def fits(self) -> bool:
        return self.row.state in compute.STOPPABLE

    def run(self, data: dict[str, Any]) -> Operation:
        return instances.stop_replica(replica=self.row, actor=self.actor, reason=data["reason"])


class StartReplica(ReplicaVerb):
    name = "start"
    label = gettext_lazy("Start")
    icon = "play"
    sentence = gettext_lazy("It is started again, and takes requests as soon as it is ready.")

    def fits(self) -> bool:
        return self.row.state == ReplicaState.HELD

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- there is nothing to ask
        return instances.start_replica(replica=self.row, actor=self.actor)


class CancelOperation(RowVerb):
    row: Operation
    name = "cancel"
    label = gettext_lazy("Cancel")
    icon = "x"
    danger = True
    sentence = gettext_lazy("It stops at its next step or wait, and what it was working on is marked as canceled.")

    def fits(self) -> bool:
        return self.row.live

    def listed(self) -> bool:
        return operations.can_cancel(self.row) and not self.row.cancel_requested

    def refused(self) -> str:
        if self.row.cancel_requested:
            return _("It is being canceled")
        return "" if operations.can_cancel(self.row) else _("Operations of this kind cannot be canceled")

    def run(self, data: dict[str, Any]) -> Any:  # noqa: ARG002 -- as above
        operations.cancel(self.row, actor=self.actor)
        return _("It will stop at its next step.")

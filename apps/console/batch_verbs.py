"""Verbs on batch endpoints, deployments, jobs, schedules, clusters, nodes and hosts."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from apps.batch import domain
from apps.batch.enums import JobState
from apps.batch.models import BatchDeployment, BatchEndpoint, Cluster, Host, Job, Node, Schedule
from apps.console.serving_verbs import ReasonForm
from apps.console.verbs import LastVerb, RowVerb
from apps.core.models import Operation

STOPPING = (JobState.CANCEL_REQUESTED, JobState.FINALIZING)


class Delete(RowVerb):
    """What all deletions share; the name must be typed."""

    name = "delete"
    label = gettext_lazy("Delete")
    icon = "trash-2"
    danger = True

    def type_to_confirm(self) -> str:
        return str(self.row)


class DeleteBatchEndpoint(Delete):
    row: BatchEndpoint

    def goes(self) -> list[str]:
        deployments = [_("the deployment %(name)s") % {"name": each} for each in self.row.deployments.all()]
        schedules = [_("the schedule %(name)s") % {"name": each} for each in self.row.schedules.all()]
        endpoint = _("the endpoint %(name)s and its address; callers get 404") % {"name": self.row.name}
        return [endpoint, *deployments, *schedules]

    def stays(self) -> list[str]:
        return [_("its jobs with their results; those that run go on"), _("models and clusters of the workspace")]

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- the form has checked the name
        return domain.delete_endpoint(endpoint=self.row, actor=self.actor)


class DeleteBatchDeployment(Delete):
    row: BatchDeployment

    def goes(self) -> list[str]:
        found = [_("the deployment %(name)s") % {"name": self.row}]
        if self.row.endpoint.default_deployment_id == self.row.pk:
            found.append(_("the default deployment of the endpoint: jobs must name another one until it has one again"))
        return found

    def stays(self) -> list[str]:
        return [_("its jobs with their results; those that run go on"), _("its model and its environment")]

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- as above
        return domain.delete_deployment(deployment=self.row, actor=self.actor)


class CancelJob(RowVerb):
    row: Job
    name = "cancel"
    label = gettext_lazy("Cancel")
    icon = "x"
    danger = True
    sentence = gettext_lazy(
        "Mini-batches that run are stopped within seconds. What is done is kept and written to the output, and the "
        "rest can be run later with Retry in the studio."
    )

    def fits(self) -> bool:
        return self.row.live

    def listed(self) -> bool:
        return self.fits() and self.row.state not in STOPPING

    def refused(self) -> str:
        return _("It is ending already") if self.row.state in STOPPING else ""

    def run(self, data: dict[str, Any]) -> str:  # noqa: ARG002 -- there is nothing to ask
        domain.cancel(job=self.row, actor=self.actor)
        return _("It stops within seconds.")


class DeleteJob(Delete, LastVerb):
    row: Job

    def fits(self) -> bool:
        return not self.row.live

    def refused(self) -> str:
        return _("It is a step: delete the job of its pipeline") if self.row.parent_id else ""

    def goes(self) -> list[str]:
        steps = [_("the step %(name)s") % {"name": each.step or each} for each in self.row.children.all()]
        return [_("the record of %(name)s, its mini-batches and its logs") % {"name": self.row}, *steps]

    def stays(self) -> list[str]:
        return [_("results that were written to a datastore")]

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- as above
        domain.delete_job(job=self.row, actor=self.actor)


class EnableSchedule(RowVerb):
    row: Schedule
    name = "enable"
    label = gettext_lazy("Enable")
    icon = "play"

    sentence = gettext_lazy(
        "It makes jobs again from its next time on; times that passed meanwhile are not made up for. The jobs are "
        "made in your name from now on."
    )

    def fits(self) -> bool:
        return not self.row.enabled

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- as above
        domain.enable_schedule(schedule=self.row, enabled=True, actor=self.actor)


class DisableSchedule(RowVerb):
    row: Schedule
    name = "disable"
    label = gettext_lazy("Disable")
    icon = "pause"
    sentence = gettext_lazy("It makes no more jobs until somebody enables it; a job that runs goes on.")

    def fits(self) -> bool:
        return self.row.enabled

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- as above
        domain.enable_schedule(schedule=self.row, enabled=False, actor=self.actor)


class DeleteSchedule(Delete, LastVerb):
    row: Schedule

    def goes(self) -> list[str]:
        return [_("the schedule %(name)s") % {"name": self.row}]

    def stays(self) -> list[str]:
        return [_("the jobs it made")]

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- as above
        domain.delete_schedule(schedule=self.row, actor=self.actor)


class ShrinkCluster(RowVerb):
    row: Cluster
    name = "shrink"
    label = gettext_lazy("Give back idle nodes")
    icon = "undo-2"
    sentence = gettext_lazy(
        "Nodes that idle and that no job wants go now, down to the least the cluster keeps. Nodes at work stay."
    )

    def run(self, data: dict[str, Any]) -> str:  # noqa: ARG002 -- as above
        count = domain.give_back_idle(cluster=self.row, actor=self.actor)
        return ngettext("%(count)s node was given back.", "%(count)s nodes were given back.", count) % {"count": count}


class DeleteCluster(Delete):
    row: Cluster

    def refused(self) -> str:
        if self.row.deployments.exists():
            return _("Deployments name it: change or delete them first")
        return _("Jobs run on it") if self.row.jobs.filter(state__in=JobState.live()).exists() else ""

    def goes(self) -> list[str]:
        nodes = [_("the node %(name)s") % {"name": each} for each in self.row.nodes.all()]
        return [_("the cluster %(name)s") % {"name": self.row}, *nodes]

    def stays(self) -> list[str]:
        return [_("the jobs that ran on it, with their results")]

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- as above
        return domain.delete_cluster(cluster=self.row, actor=self.actor)


class StopNode(LastVerb):
    row: Node
    name = "stop"
    label = gettext_lazy("Stop")
    icon = "pause"
    danger = True
    form_class = ReasonForm
    sentence = gettext_lazy(
        "Its program is stopped within seconds and its room is free. Mini-batches it has not finished are queued again "
        "and the job goes on; while work waits, or for its minimum, the cluster gets another node."
    )

    def run(self, data: dict[str, Any]) -> str:
        domain.stop_node(node=self.row, reason=data["reason"], actor=self.actor)
        return _("The node is gone.")


class ForgetHost(LastVerb):
    row: Host
    name = "forget"
    label = gettext_lazy("Forget")
    icon = "trash-2"
    danger = True
    sentence = gettext_lazy("It leaves this list. When a worker of that name starts again, it comes back by itself.")

    def fits(self) -> bool:
        return self.row.lost

    def run(self, data: dict[str, Any]) -> None:  # noqa: ARG002 -- as above
        domain.forget_host(host=self.row, actor=self.actor)

"""Schedules: a batch endpoint is invoked whenever a cron expression says so."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import JobSpec, ScheduleSpec
from apps.batch.models import BatchEndpoint, Schedule
from apps.core.errors import Problem
from apps.studio import ascode_batch
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms.schedules import RECURRENCE_HELP, ScheduleForm, inputs_of, kept_of, times_of
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import FormPage, Page, number, one

COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("State"), "enabled"),
    Column(_lazy("When")),
    Column(_lazy("Endpoint"), "endpoint__name"),
    Column(_lazy("Next run"), "next_at"),
    Column(_lazy("Last run"), "last_at", "fold"),
    Column(""),
)
PLAIN = ("cron", "time_zone", "deployment", "display_name", "description", "tags", "enabled")
"""Fields that a form and a `ScheduleSpec` call the same."""


class Schedules(Page):
    section = "jobs"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Schedule.objects.filter(workspace=self.workspace).select_related("endpoint", "last_job")
        if query := query_of(request):
            rows = rows.filter(
                Q(name__icontains=query) | Q(display_name__icontains=query) | Q(endpoint__name__icontains=query)
            )
        return self.page("schedules", listing=listing(request, rows, COLUMNS, default="name"))


class ScheduleBase(Page):
    section = "jobs"
    permissions: ClassVar = {}
    schedule: Schedule

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        rows = Schedule.objects.filter(workspace=self.workspace, name=kwargs["schedule"])
        rows = rows.select_related("workspace", "endpoint", "last_job")
        self.schedule = one(rows, "schedule", kwargs["schedule"])

    def context(self) -> dict[str, Any]:
        return {**super().context(), "schedule": self.schedule}


class ScheduleForms(FormPage):
    """What creating and changing a schedule share. Who may score may have it done at night."""

    section = "jobs"
    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}
    field_of: ClassVar = {"timeZone": "time_zone", "displayName": "display_name", "InputData": "input_0_value"}

    def job(self, data: dict[str, Any]) -> JobSpec:
        return JobSpec(inputs=inputs_of(data))

    def spec(self, data: dict[str, Any]) -> ScheduleSpec:
        values = {name: data[name] for name in PLAIN} | self.trigger(data)
        return ScheduleSpec(endpoint=data["endpoint"], job=self.job(data), **values)

    def trigger(self, data: dict[str, Any]) -> dict[str, Any]:
        """Of a `ScheduleSpec` the recurrence, the start and the end, which no field of the form has."""
        return {}

    def code_of(self, name: str, data: dict[str, Any]) -> AsCode:
        chosen = data.get("endpoint")
        if not isinstance(chosen, BatchEndpoint):
            rows = BatchEndpoint.objects.filter(workspace=self.workspace)
            chosen = rows.filter(pk=number(str(chosen))).first() if chosen else rows.first()
        job = asdict(self.job(data))
        writer = Writer(self.workspace.name)
        written = {**data, "endpoint": chosen.name if chosen else "", "job": job | job["overrides"]}
        written |= self.trigger(data)
        ascode_batch.schedule(writer, name, written)
        return writer.done()


class ScheduleCreate(ScheduleForms):
    template = "schedule_create"

    def form(self, data: Any = None, files: Any = None) -> ScheduleForm:
        chosen = BatchEndpoint.objects.filter(workspace=self.workspace, name=self.request.GET.get("endpoint", ""))
        return ScheduleForm(data, workspace=self.workspace, initial={"endpoint": chosen.first()})

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        spec = self.spec(data)
        domain.create_schedule(workspace=self.workspace, name=data["name"], spec=spec, actor=self.request.user)
        return self.go("studio:schedules", self.workspace.name)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        return self.code_of(data.get("name") or "", data)


class ScheduleEdit(ScheduleForms, ScheduleBase):
    """Of those that invoke an endpoint; the definition of a job is no form's."""

    template = "schedule_edit"

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        if self.schedule.endpoint is None:
            reason = "it makes a pipeline job; save it again where its definition is"
            raise Problem("unsupported", what=self.schedule.name, reason=reason)

    def form(self, data: Any = None, files: Any = None) -> ScheduleForm:
        here = self.schedule
        initial = asdict(domain.schedule_spec_of(here, endpoint=None)) | {"endpoint": here.endpoint_id}
        form = ScheduleForm(data, workspace=self.workspace, initial=initial, inputs=here.body.get("inputs", {}))
        del form.fields["name"]
        if here.recurrence:
            form.fields["cron"].help_text = RECURRENCE_HELP
        return form

    def context(self) -> dict[str, Any]:
        return {**super().context(), "kept_times": times_of(self.schedule)}

    def job(self, data: dict[str, Any]) -> JobSpec:
        """What the form does not know of a job stays."""
        before = self.schedule.body
        inputs = inputs_of(data)
        for name, given in inputs.items():
            if mode := before.get("inputs", {}).get(name, {}).get("mode"):
                given["mode"] = mode
        return JobSpec(**before | {"inputs": kept_of(before.get("inputs", {})) | inputs})

    def trigger(self, data: dict[str, Any]) -> dict[str, Any]:
        """All of it stays, but a recurrence gives way to another expression."""
        here = self.schedule
        same = (data.get("cron") or "").split() == here.cron.split()
        recurrence = here.recurrence if same else None
        return {"recurrence": recurrence, "starts_at": here.starts_at, "ends_at": here.ends_at}

    def save(self, form: Any) -> HttpResponse:
        spec = self.spec(form.cleaned_data)
        domain.update_schedule(schedule=self.schedule, spec=spec, actor=self.request.user)
        return self.go("studio:schedules", self.workspace.name)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        return self.code_of(self.schedule.name, data)


class ScheduleEnable(ScheduleBase):
    """On when it is off, off when it is on."""

    permissions: ClassVar = {"POST": Permission.WRITE}

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        enabled = not self.schedule.enabled
        domain.enable_schedule(schedule=self.schedule, enabled=enabled, actor=request.user)
        return self.go("studio:schedules", self.workspace.name)


class ScheduleDelete(ScheduleBase):
    permissions: ClassVar = {"POST": Permission.DELETE}

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        domain.delete_schedule(schedule=self.schedule, actor=request.user)
        return self.go("studio:schedules", self.workspace.name)

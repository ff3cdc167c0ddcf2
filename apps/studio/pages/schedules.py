"""Schedules: a batch endpoint is invoked whenever a cron expression says so."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch import domain
from apps.batch.domain import JobSpec, ScheduleSpec
from apps.batch.models import BatchEndpoint, Schedule
from apps.studio.forms.schedules import ScheduleForm
from apps.studio.listing import Column, listing, query_of
from apps.studio.views import FormPage, Page, one

COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("State"), "enabled"),
    Column(_lazy("When")),
    Column(_lazy("Endpoint"), "endpoint__name"),
    Column(_lazy("Next run"), "next_at"),
    Column(_lazy("Last run"), "last_at", "fold"),
    Column(""),
)


class Schedules(Page):
    section = "jobs"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Schedule.objects.filter(workspace=self.workspace).select_related("endpoint", "last_job")
        if query := query_of(request):
            rows = rows.filter(Q(name__icontains=query) | Q(endpoint__name__icontains=query))
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
    field_of: ClassVar = {"timeZone": "time_zone", "InputData": "path"}

    def spec(self, data: dict[str, Any], before: Schedule | None = None) -> ScheduleSpec:
        """What the form does not know of a job stays."""
        chosen: BatchEndpoint = data["endpoint"]
        job = dict(before.body) if before is not None else {}
        job["inputs"] = {"data": {"type": data["type"], "uri": data["path"].strip()}}
        return ScheduleSpec(
            endpoint=chosen,
            cron=data["cron"],
            time_zone=data["time_zone"],
            job=JobSpec(**job),
            deployment=data["deployment"],
            description=data["description"],
            enabled=data["enabled"],
        )


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


class ScheduleEdit(ScheduleForms, ScheduleBase):
    template = "schedule_edit"

    def form(self, data: Any = None, files: Any = None) -> ScheduleForm:
        here = self.schedule
        given: dict[str, Any] = next(iter(here.body.get("inputs", {}).values()), {})
        initial = {name: getattr(here, name) for name in ("name", "cron", "time_zone", "description", "enabled")}
        initial |= {"endpoint": here.endpoint_id, "deployment": here.deployment_name}
        initial |= {"path": given.get("uri", ""), "type": given.get("type", "UriFolder")}
        form = ScheduleForm(data, workspace=self.workspace, initial=initial)
        del form.fields["name"]
        return form

    def save(self, form: Any) -> HttpResponse:
        spec = self.spec(form.cleaned_data, self.schedule)
        domain.update_schedule(schedule=self.schedule, spec=spec, actor=self.request.user)
        return self.go("studio:schedules", self.workspace.name)


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

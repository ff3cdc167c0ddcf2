"""Creating an endpoint, and changing what is said about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse

from apps.core.errors import Problem
from apps.endpoints import domain
from apps.endpoints.domain import EndpointSpec
from apps.studio import ascode_online
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms import EndpointEditForm, EndpointForm
from apps.studio.forms.base import differences
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.views import FormPage, number

FIELDS = ("description", "auth_mode", "public_network_access", "tags")


class EndpointCreate(FormPage):
    section = "endpoints"
    template = "endpoint_create"

    def form(self, data: Any = None, files: Any = None) -> EndpointForm:
        return EndpointForm(data)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        spec = EndpointSpec(**{name: data[name] for name in FIELDS})
        made = domain.create_endpoint(workspace=self.workspace, name=data["name"], spec=spec, actor=self.request.user)
        return self.to_operation(made[1])

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_online.endpoint(writer, data)
        return writer.done()


class EndpointEdit(FormPage, EndpointPage):
    template = "endpoint_edit"
    theirs: Sequence[tuple[Any, Any]] = ()

    def context(self) -> dict[str, Any]:
        return {**super().context(), "theirs": self.theirs}

    def form(self, data: Any = None, files: Any = None) -> EndpointEditForm:
        return EndpointEditForm(data, initial={name: getattr(self.endpoint, name) for name in FIELDS})

    def save(self, form: Any) -> HttpResponse:
        """What somebody else changed meanwhile is not written over: the revision must be the one that was shown."""
        try:
            operation = domain.update_endpoint(
                endpoint=self.endpoint,
                spec=EndpointSpec(**form.cleaned_data),
                actor=self.request.user,
                if_match=number(self.request.POST.get("revision", "")),
            )
        except Problem as problem:
            self.endpoint.refresh_from_db()
            if problem.code == "stale":
                self.theirs = differences(form, {name: getattr(self.endpoint, name) for name in FIELDS})
            raise
        return self.to_operation(operation)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_online.endpoint(writer, {**data, "name": self.endpoint.name}, verb="update")
        return writer.done()

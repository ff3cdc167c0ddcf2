"""Components: the list, one with its versions, steps and YAML, and a new one."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch.domain.pipelines import interface_of
from apps.batch.models import BatchDeployment, BatchEndpoint
from apps.batch.users import users_of
from apps.core.errors import Problem
from apps.registry import components
from apps.registry.domain import delete_version, register_component
from apps.registry.models import Component, ComponentVersion, Environment
from apps.registry.pipelines.written import Unreadable, Written
from apps.studio import ascode_assets
from apps.studio.ascode import AsCode, Writer
from apps.studio.components import as_yaml, steps_of
from apps.studio.forms.components import EXAMPLE, ComponentForm, at_line
from apps.studio.listing import Column, listing, query_of
from apps.studio.pages.code_files import CodePage
from apps.studio.versions import asked_for, with_newest
from apps.studio.views import Page, one

USERS_SHOWN = 20
ENDPOINTS_SHOWN = 20
COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("Newest version")),
    Column(_lazy("Type")),
    Column(_lazy("Versions")),
    Column(_lazy("Registered"), "newest", "fold"),
)
VERSION_COLUMNS = (
    Column(_lazy("Version")),
    Column(_lazy("Type")),
    Column(_lazy("Registered"), "created_at"),
    Column(_lazy("By")),
)


class Components(Page):
    """Those that have a name: what pipelines brought along is shown with them."""

    section = "components"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Component.objects.filter(workspace=self.workspace, is_archived=False, name__icontains=query_of(request))
        rows = rows.exclude(name=components.ANONYMOUS).annotate(newest=Max("versions__created_at"))
        listed = listing(request, rows, COLUMNS, default="name")
        listed.rows = with_newest(listed.rows, ComponentVersion.objects.defer("spec"))
        return self.page("components", listing=listed)


class ComponentBase(Page):
    section = "components"
    permissions: ClassVar = {}
    component: Component
    chosen: ComponentVersion | None

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name = kwargs["component"]
        self.component = one(Component.objects.filter(workspace=self.workspace, name=name), "component", name)
        related = ("created_by", "asset__workspace", "code__asset", "environment__asset")
        rows = self.component.versions.select_related(*related)
        self.chosen = asked_for(request, rows, "component", name)

    def context(self) -> dict[str, Any]:
        return {**super().context(), "component": self.component, "chosen": self.chosen}


class ComponentPage(ComponentBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        deployed = BatchDeployment.objects.filter(component__asset=self.component, endpoint__workspace=self.workspace)
        light = self.component.versions.select_related("created_by", "asset").defer("spec")
        return self.page(
            "component",
            listing=listing(request, light, VERSION_COLUMNS, default="-created_at"),
            deployed=deployed.select_related("endpoint", "component__asset")[:USERS_SHOWN],
            **(self._of(self.chosen) if self.chosen else {}),
        )

    def _of(self, chosen: ComponentVersion) -> dict[str, Any]:
        takes, gives = interface_of(chosen.spec)
        endpoints = BatchEndpoint.objects.filter(workspace=self.workspace)
        return {
            "takes": takes,
            "gives": gives,
            "steps": steps_of(chosen),
            "yaml": as_yaml(chosen),
            "pipelines": chosen.pipelines.filter(is_anonymous=False).select_related("asset")[:USERS_SHOWN],
            "endpoints": endpoints[:ENDPOINTS_SHOWN] if chosen.type == "pipeline" else [],
        }


class ComponentDelete(ComponentBase):
    """Delete one version; the last one takes the component with it."""

    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page()

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        wanted = request.POST.get("version", "")
        if self.chosen is None or self.chosen.version != wanted:
            raise Problem("not-found", kind="component", name=f"{self.component.name}:{wanted}")
        if request.POST.get("name", "") != str(self.chosen):
            reason = _("type the name of the component and its version to delete it")
            return self._page(Problem("bad-field", field=_("Name"), reason=reason))
        try:
            delete_version(version=self.chosen, actor=request.user, users=users_of(self.chosen))
        except Problem as problem:
            return self._page(problem)
        return self.go("studio:components", self.workspace.name)

    def _page(self, problem: Problem | None = None) -> HttpResponse:
        users = users_of(self.chosen) if self.chosen else []
        return self.page(
            "version_delete",
            asset=self.component,
            kind="component",
            version=self.chosen,
            users=users,
            problem=problem,
        )


class ComponentRegister(CodePage):
    """`from` names a version, `name:version`, whose YAML the new one begins with."""

    section = "components"
    template = "component_register"

    def form(self, data: Any = None, files: Any = None) -> ComponentForm:
        return ComponentForm(data, files, initial={} if data else {"text": self._first()})

    def _first(self) -> str:
        name, _colon, version = self.request.GET.get("from", "").partition(":")
        rows = ComponentVersion.objects.filter(asset__workspace=self.workspace, asset__name=name, version=version)
        found = rows.select_related("asset__workspace").first()
        if found is not None:
            return as_yaml(found, versioned=False)
        newest = Environment.objects.filter(workspace=self.workspace, is_archived=False).order_by("-pk").first()
        return EXAMPLE.replace("%(environment)s", newest.name if newest else "ENVIRONMENT")

    def save(self, form: Any) -> HttpResponse:
        written: Written = form.cleaned_data["text"]
        try:
            version = self._register(written, form.cleaned_data)
        except Problem as problem:
            message = f"{problem.message} {problem.next_step}".strip()
            form.add_error("text", at_line(written.line_of(_target(problem)), message))
            return self.show(form, status=problem.entry.status)
        address = self.workspace.name, version.asset.name
        return self.go("studio:component", *address)

    def _register(self, written: Written, data: dict[str, Any]) -> ComponentVersion:
        document = dict(written.document)
        upload = self.received_code(data)
        name, version = document["name"], document.get("version")
        with transaction.atomic():  # a version of the code only if there is a component of it
            if upload is not None:
                document["code"] = components.reference_to(self.code_of(upload, name))
            made, _new = register_component(
                workspace=self.workspace,
                name=name,
                version=None if version is None else str(version),
                document=document,
                actor=self.request.user,
            )
        return made

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_assets.component(writer, _written(data.get("text")), [each.name for each in data.get("code") or []])
        return writer.done()


def _target(problem: Problem) -> str:
    """The line of the file that it is about, where the problem itself names none."""
    if problem.code == "bad-name":
        return "version" if problem.params["kind"] == "version" else "name"
    return "version" if problem.code == "immutable" else problem.target


def _written(text: Any) -> Written | None:
    """What a form has cleaned, or begins with; None for what cannot be read."""
    if not isinstance(text, str):
        return text  # type: ignore[no-any-return]
    try:
        return Written(text)
    except Unreadable:
        return None

"""Environments: list, one with its versions and builds, and a new one."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from apps.accounts.policy import Permission
from apps.batch.users import users_of
from apps.builds import history
from apps.builds.models import package_of
from apps.builds.packaging import domain as packaging
from apps.builds.versions import outlook, start_build, topic
from apps.core.errors import Problem
from apps.core.models import Operation, OperationState
from apps.core.operations import can_cancel
from apps.endpoints.models import OnlineDeployment
from apps.registry import storage
from apps.registry.domain import delete_version, register_environment
from apps.registry.models import Environment, EnvironmentVersion
from apps.studio import ascode_assets
from apps.studio.ascode import AsCode, Writer
from apps.studio.forms import ContextForm, EnvironmentForm
from apps.studio.forms.assets import inference_config
from apps.studio.listing import Column, listing, query_of
from apps.studio.pages.sending import SendingPage
from apps.studio.versions import asked_for
from apps.studio.views import FormPage, Page, one

BUILDS = 10
BUILDING = ("environment.build", packaging.KIND)
LOG_TAIL = 200
DOCKERFILE_SHOWN = 100_000  # bytes
VERSION_COLUMNS = (Column(_lazy("Version")), Column(_lazy("Created"), "created_at"), Column(_lazy("By")))
COLUMNS = (
    Column(_lazy("Name"), "name"),
    Column(_lazy("Versions")),
    Column(_lazy("Changed"), "newest"),
)


class Environments(Page):
    section = "environments"
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        rows = Environment.objects.filter(
            workspace=self.workspace, is_archived=False, name__icontains=query_of(request)
        ).annotate(count=Count("versions"), newest=Max("versions__created_at"))
        return self.page("environments", listing=listing(request, rows, COLUMNS, default="name"))


class EnvironmentBase(Page):
    section = "environments"
    permissions: ClassVar = {}
    environment: Environment
    chosen: EnvironmentVersion | None

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        super().prepare(request, **kwargs)
        name = kwargs["environment"]
        rows = Environment.objects.filter(workspace=self.workspace, name=name)
        self.environment = one(rows, "environment", name)
        packaged = (f"package__{each}" for each in ("model__asset", "code__asset", "base__asset", "image"))
        versions = self.environment.versions.select_related("created_by", "asset__workspace", *packaged)
        self.chosen = asked_for(request, versions, "environment", name)

    def wanted(self) -> EnvironmentVersion:
        """The version that a form names; never another one instead."""
        wanted = self.request.POST.get("version", "")
        if self.chosen is None or self.chosen.version != wanted:
            raise Problem("not-found", kind="environment", name=f"{self.environment.name}:{wanted}")
        return self.chosen


class EnvironmentPage(EnvironmentBase):
    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        deployed = OnlineDeployment.objects.filter(
            environment__asset=self.environment, endpoint__workspace=self.workspace
        )
        light = self.environment.versions.select_related("created_by", "asset").defer("conda_file", "requirements")
        operation = self.building()
        dockerfile = _dockerfile(self.chosen) if self.chosen else ""
        return self.page(
            "environment",
            environment=self.environment,
            listing=listing(request, light, VERSION_COLUMNS, default="-created_at"),
            chosen=self.chosen,
            package=package_of(self.chosen),
            outlook=outlook(self.chosen) if self.chosen else None,
            attempts=history.of(self.chosen)[:BUILDS] if self.chosen else [],
            build_topic=topic(self.chosen) if self.chosen else "",
            operation=operation,
            dockerfile=dockerfile,
            source=dockerfile or (self.chosen.source_text if self.chosen else ""),
            operation_topic=f"operation:{operation.pk}" if operation else "operation:",
            live_log=_tail(operation),
            can_cancel=operation is not None and can_cancel(operation),
            deployed=deployed.select_related("endpoint", "environment"),
        )

    def building(self) -> Operation | None:
        """The build of the chosen version that has not ended yet."""
        rows = Operation.objects.filter(kind__in=BUILDING, workspace=self.workspace.name)
        live = rows.filter(state__in=OperationState.live())
        return live.filter(target=topic(self.chosen)).first() if self.chosen else None


def _dockerfile(version: EnvironmentVersion) -> str:
    if not version.build_context_id:
        return ""
    path = storage.tree_path(version.build_context_id) / version.dockerfile_path
    try:
        with path.open("rb") as stream:
            return stream.read(DOCKERFILE_SHOWN).decode("utf-8", "replace")
    except OSError:
        return ""


def _tail(operation: Operation | None) -> str:
    step = operation.steps.first() if operation else None
    return "\n".join(step.log.splitlines()[-LOG_TAIL:]) if step else ""


class EnvironmentBuild(EnvironmentBase):
    permissions: ClassVar = {"POST": Permission.WRITE}

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self.to_operation(start_build(version=self.wanted(), actor=request.user))


class EnvironmentDelete(EnvironmentBase):
    """Delete one version; the last one takes the environment with it."""

    permissions: ClassVar = {"GET": Permission.DELETE, "POST": Permission.DELETE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        return self._page()

    def post(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        version = self.wanted()
        if request.POST.get("name", "") != str(version):
            reason = _("type the name of the environment and its version to delete it")
            return self._page(Problem("bad-field", field=_("Name"), reason=reason))
        try:
            delete_version(version=version, actor=request.user, users=users_of(version))
        except Problem as problem:
            return self._page(problem)
        return self.go("studio:environments", self.workspace.name)

    def _page(self, problem: Problem | None = None) -> HttpResponse:
        users = users_of(self.chosen) if self.chosen else []
        return self.page(
            "version_delete",
            asset=self.environment,
            kind="environment",
            version=self.chosen,
            users=users,
            problem=problem,
        )


class EnvironmentCreate(FormPage):
    section = "environments"
    template = "environment_create"

    def form(self, data: Any = None, files: Any = None) -> EnvironmentForm:
        return EnvironmentForm(data)

    def save(self, form: Any) -> HttpResponse:
        data = form.cleaned_data
        version, _new = register_environment(
            workspace=self.workspace,
            name=data["name"],
            version=data["version"] or None,
            image=data["image"],
            conda_file=data["conda_file"],
            inference_config=inference_config(data),
            description=data["description"],
            actor=self.request.user,
        )
        return self.go("studio:environment", self.workspace.name, version.asset.name)

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_assets.environment(writer, data | {"inference_config": inference_config(data)})
        return writer.done()


class EnvironmentFromContext(SendingPage):
    section = "environments"
    template = "environment_context"

    def form(self, data: Any = None, files: Any = None) -> ContextForm:
        return ContextForm(data)

    def register(self, data: dict[str, Any]) -> str:
        upload = self.received()
        version, _new = register_environment(
            workspace=self.workspace,
            name=data["name"],
            version=data["version"] or None,
            build_context=storage.subtree(upload.tree, upload.path),
            dockerfile_path=data["dockerfile_path"],
            inference_config=inference_config(data),
            description=data["description"],
            actor=self.request.user,
        )
        return reverse("studio:environment", args=[self.workspace.name, version.asset.name])

    def as_code(self, data: dict[str, Any]) -> AsCode:
        writer = Writer(self.workspace.name)
        ascode_assets.environment_of_context(writer, data | {"inference_config": inference_config(data)})
        return writer.done()

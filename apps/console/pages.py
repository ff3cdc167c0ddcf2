"""The pages that are not about one kind of row: overview, health, limits, caches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from apps.accounts.models import User, Workspace
from apps.batch.enums import JobState
from apps.batch.models import BatchEndpoint, Job
from apps.builds import prune
from apps.builds.uv import UvError
from apps.console import facts, html
from apps.console.verbs import ConsoleForm, Verb, page_of
from apps.core import disk, health, limits
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint

if TYPE_CHECKING:
    from apps.console.site import ConsoleSite

CACHE_LOOK_S = 300


class LimitForm(ConsoleForm):
    value = forms.IntegerField(
        label=gettext_lazy("Value"),
        required=False,
        help_text=gettext_lazy("Empty: back to the default. In force at once; nothing that exists is taken away."),
    )


class SetLimit(Verb):
    name = "edit"
    label = gettext_lazy("Limit")
    icon = "pencil"
    form_class = LimitForm
    row: limits.Current

    def title(self) -> str:
        return str(self.row.rule.label)

    @property
    def sentence(self) -> str:  # type: ignore[override]
        return _("From %(least)s to %(most)s. The default of this installation is %(default)s.") % {
            "least": self.row.rule.least,
            "most": self.row.rule.most,
            "default": self.row.default,
        }

    def initial(self) -> dict[str, Any]:
        return {"value": self.row.value}

    def run(self, data: dict[str, Any]) -> Any:
        limits.set_limit(name=self.row.name, value=data["value"], actor=self.actor)

    def back(self) -> str:
        return reverse("console:limits")


class PrunePackages(Verb):
    name = "prune"
    label = gettext_lazy("Prune package cache")
    icon = "trash-2"
    danger = True
    sentence = gettext_lazy("Packages are downloaded again when an environment needs them.")

    def goes(self) -> list[str]:
        return [_("packages in uv's cache that no environment links to")]

    def stays(self) -> list[str]:
        return [_("every environment, whether it is used or not")]

    def type_to_confirm(self) -> str:
        return "prune"

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- the form has checked the word
        cache.delete("console.packages")
        return prune.prune_cache(actor=self.actor)

    def back(self) -> str:
        return reverse("console:caches")


def _limit(_request: HttpRequest, name: str) -> limits.Current:
    for each in limits.everything():
        if each.name == name:
            return each
    raise Http404


def packages() -> tuple[Path | None, disk.Room]:
    """uv's cache and its size, looked up at most every few minutes: it may hold very many files."""
    found: tuple[Path | None, disk.Room] | None = cache.get("console.packages")
    if found is None:
        try:
            folder = prune.cache_folder()
        except (UvError, OSError):
            return None, disk.Room(0, 0, whole=False)
        found = (folder, disk.measure(folder, seconds=3.0))
        cache.set("console.packages", found, CACHE_LOOK_S)
    return found


@require_safe
def index(request: HttpRequest, site: ConsoleSite) -> HttpResponse:
    parts = health.parts()
    return site.show(
        request,
        "index",
        title=_("Overview"),
        parts=parts,
        up=all(part.up for part in parts),
        findings=[each for each in health.findings() if not each.fine],
        isolation=facts.isolation(),
        disk=facts.disk_use(),
        certificate=facts.certificate(),
        replicas=facts.replicas(),
        operations=facts.operations_of_a_day(),
        troubles=facts.troubles(),
        counts=[
            (_("Users"), User.objects.filter(is_active=True).count(), html.listing(User)),
            (_("Workspaces"), Workspace.objects.count(), html.listing(Workspace)),
            (_("Endpoints"), OnlineEndpoint.objects.count(), html.listing(OnlineEndpoint)),
            (_("Deployments"), OnlineDeployment.objects.count(), html.listing(OnlineDeployment)),
            (_("Batch endpoints"), BatchEndpoint.objects.count(), html.listing(BatchEndpoint)),
            (_("Jobs under way"), Job.objects.filter(state__in=JobState.live()).count(), html.listing(Job)),
        ],
    )


@require_safe
def health_page(request: HttpRequest, site: ConsoleSite) -> HttpResponse:
    parts = health.parts()
    return site.show(
        request,
        "health",
        title=_("Health"),
        parts=parts,
        up=all(part.up for part in parts),
        findings=health.findings(),
        isolation=facts.isolation(),
        disk=facts.disk_use(),
        certificate=facts.certificate(),
        machine=facts.machine(),
    )


@require_safe
def limits_page(request: HttpRequest, site: ConsoleSite) -> HttpResponse:
    return site.show(request, "limits", title=_("Limits"), limits=limits.everything())


@require_safe
def caches_page(request: HttpRequest, site: ConsoleSite) -> HttpResponse:
    folder, room = packages()
    environments = Path(settings.HOME.environments)
    return site.show(
        request,
        "caches",
        title=_("Caches"),
        packages=room,
        packages_folder=folder,
        own=bool(settings.UV_CACHE_DIR),
        environments=disk.measure(environments),
        environments_folder=environments,
        overlays=disk.measure(environments / "overlays"),
    )


def urls(site: ConsoleSite) -> list[URLPattern]:
    wrap, ours = site.admin_view, {"site": site}
    set_limit = page_of(SetLimit, site.each_context, _limit)
    prune_packages = page_of(PrunePackages, site.each_context, lambda _request, _id: None)
    return [
        path("", wrap(index), ours, name="index"),
        path("health/", wrap(health_page), ours, name="health"),
        path("limits/", wrap(limits_page), ours, name="limits"),
        path("limits/<str:object_id>/", wrap(set_limit), name="limit"),
        path("caches/", wrap(caches_page), ours, name="caches"),
        path("caches/prune/", wrap(prune_packages), name="caches-prune"),
    ]

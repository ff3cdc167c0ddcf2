"""What the command palette and the pickers of the forms ask for: JSON, never more than a screenful."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from apps.accounts.policy import Permission
from apps.batch.models import BatchEndpoint, Job
from apps.builds.models import package_of
from apps.core.errors import Problem
from apps.endpoints.models import OnlineDeployment
from apps.registry.components import ANONYMOUS
from apps.registry.models import Component, ComponentVersion, Environment, EnvironmentVersion, Model, ModelVersion
from apps.studio.listing import query_of
from apps.studio.places import places
from apps.studio.queries import endpoints_of
from apps.studio.views import Page

MOST = 12
EACH = 6


class Pick(Page):
    """Suggestions for one kind of field: {"found": [{"value", "note", "type", "traffic"}]}."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, kind: str, **_kwargs: Any) -> HttpResponse:
        lists: dict[str, Callable[[str], list[dict[str, Any]]]] = {
            "models": self._models,
            "environments": self._environments,
            "components": self._components,
            "endpoints": self._endpoints,
            "places": self._places,
        }
        found = lists.get(kind)
        if found is None:
            raise Problem("not-found", kind="list", name=kind)
        return JsonResponse({"found": found(query_of(request))}, headers={"Cache-Control": "no-store"})

    def _models(self, query: str) -> list[dict[str, Any]]:
        rows = self._versions(ModelVersion, query)
        return [{"value": str(each), "note": each.get_type_display(), "type": each.type} for each in rows]

    def _environments(self, query: str) -> list[dict[str, Any]]:
        return [
            {"value": str(each), "note": _("Package"), "type": "package"}
            if package_of(each) is not None
            else {"value": str(each), "note": ""}
            for each in self._versions(EnvironmentVersion, query).select_related("package")
        ]

    def _components(self, query: str) -> list[dict[str, Any]]:
        """The pipelines among them: only those can be deployed."""
        rows = self._versions(ComponentVersion, query, type="pipeline", is_anonymous=False)
        return [{"value": str(each), "note": each.display_name} for each in rows.defer("spec")]

    def _versions(self, model: Any, query: str, **more: Any) -> QuerySet[Any]:
        """The newest versions of assets whose name holds what was typed; `name:` narrows to one asset's versions."""
        name, colon, version = query.partition(":")
        rows = model.objects.filter(
            asset__workspace=self.workspace, is_archived=False, asset__is_archived=False, **more
        ).select_related("asset")
        rows = (
            rows.filter(asset__name=name, version__startswith=version)
            if colon
            else rows.filter(asset__name__icontains=name)
        )
        found: QuerySet[Any] = rows.order_by("-created_at", "-pk")[:MOST]
        return found

    def _endpoints(self, query: str) -> list[dict[str, Any]]:
        rows = endpoints_of(self.workspace).filter(name__icontains=query)[:MOST]
        return [
            {"value": each.name, "note": str(each.get_state_display()), "traffic": any(each.traffic.values())}
            for each in rows
        ]

    def _places(self, query: str) -> list[dict[str, Any]]:
        """Data assets and, of an address of a datastore, what is in the folder that it begins with."""
        return [{"value": value, "note": note} for value, note in places(self.workspace, self.request.user, query)]


class Find(Page):
    """Everything of the workspace by name, and what one can do: {"found": [{"title", "note", "icon", "href"}]}."""

    permissions: ClassVar = {"GET": Permission.READ}

    def get(self, request: HttpRequest, **_kwargs: Any) -> HttpResponse:
        query = query_of(request)
        found = [*self._commands(query), *(self._things(query) if query else [])]
        return JsonResponse({"found": found}, headers={"Cache-Control": "no-store"})

    def _commands(self, query: str) -> list[dict[str, str]]:
        go, make = _("Go to"), _("Create")
        commands = [
            (_("Home"), go, "house", "workspace", True),
            (_("Endpoints"), go, "radio", "endpoints", True),
            (_("Batch endpoints"), go, "boxes", "batch-endpoints", True),
            (_("Jobs"), go, "activity", "jobs", True),
            (_("Clusters"), go, "server", "clusters", True),
            (_("Data"), go, "hard-drive", "data", True),
            (_("Datastores"), go, "hard-drive", "datastores", True),
            (_("Models"), go, "box", "models", True),
            (_("Environments"), go, "layers", "environments", True),
            (_("Components"), go, "route", "components", True),
            (_("Operations"), go, "history", "operations", True),
            (_("Deploy a model"), make, "rocket", "deploy", Permission.WRITE in self.granted),
            (_("Register a model"), make, "upload", "model-register", Permission.WRITE in self.granted),
            (_("Create an endpoint"), make, "plus", "endpoint-create", Permission.WRITE in self.granted),
            (_("Create a batch endpoint"), make, "plus", "batch-endpoint-create", Permission.WRITE in self.granted),
            (_("Create a job"), make, "play", "job-create", Permission.SCORE in self.granted),
            (_("Create a cluster"), make, "plus", "cluster-create", Permission.COMPUTE in self.granted),
            (_("Register data"), make, "upload", "data-create", Permission.WRITE in self.granted),
            (_("Create an environment"), make, "plus", "environment-create", Permission.WRITE in self.granted),
            (_("Register a component"), make, "upload", "component-register", Permission.WRITE in self.granted),
        ]
        needle = query.casefold()
        return [
            {"title": title, "note": note, "icon": icon, "href": self._url(name)}
            for title, note, icon, name, allowed in commands
            if allowed and needle in f"{note} {title}".casefold()
        ]

    def _things(self, query: str) -> list[dict[str, str]]:
        endpoints = endpoints_of(self.workspace).filter(name__icontains=query)[:EACH]
        deployments = OnlineDeployment.objects.filter(endpoint__workspace=self.workspace, name__icontains=query)
        here = {"workspace": self.workspace, "is_archived": False, "name__icontains": query}
        return [
            *(self._row(each.name, _("Endpoint"), "radio", "endpoint", each.name) for each in endpoints),
            *(
                self._row(str(each), _("Deployment"), "server", "deployment", each.endpoint.name, each.name)
                for each in deployments.select_related("endpoint")[:EACH]
            ),
            *(
                self._row(each.name, _("Batch endpoint"), "boxes", "batch-endpoint", each.name)
                for each in BatchEndpoint.objects.filter(workspace=self.workspace, name__icontains=query)[:EACH]
            ),
            *(
                self._row(each.display_name or each.name, _("Job"), "activity", "job", each.name)
                for each in Job.objects.filter(workspace=self.workspace, parent=None).filter(
                    Q(name__icontains=query) | Q(display_name__icontains=query)
                )[:EACH]
            ),
            *(
                self._row(each.name, _("Model"), "box", "model", each.name)
                for each in Model.objects.filter(**here)[:EACH]
            ),
            *(
                self._row(each.name, _("Environment"), "layers", "environment", each.name)
                for each in Environment.objects.filter(**here)[:EACH]
            ),
            *(
                self._row(each.name, _("Component"), "route", "component", each.name)
                for each in Component.objects.filter(**here).exclude(name=ANONYMOUS)[:EACH]
            ),
        ]

    def _row(self, title: str, note: str, icon: str, name: str, *names: str) -> dict[str, str]:
        return {"title": title, "note": note, "icon": icon, "href": self._url(name, *names)}

    def _url(self, name: str, *names: str) -> str:
        return reverse(f"studio:{name}", args=[self.workspace.name, *names])

"""Models, and environments on disk."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib.admin import display
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.builds import prune
from apps.builds.models import Build
from apps.console import html
from apps.console.base import ConsoleAdmin, Detail, Table, about
from apps.console.site import site
from apps.console.verbs import ConsoleForm, RowVerb, Verb
from apps.core.models import Operation
from apps.endpoints.models import OnlineDeployment
from apps.registry.models import ModelVersion

GIB = 2**30


class Models(ConsoleAdmin):
    heading = gettext_lazy("Models")
    hint = gettext_lazy("Every version of every workspace. They are registered in the studio, the API or MLflow.")
    nothing = gettext_lazy("No model has been registered yet.")
    list_display = ("full_name", "workspace", "type_word", "size", "deployed", "author", "created")
    list_filter = ("type", "is_archived", "asset__workspace")
    search_fields = ("asset__name", "version", "asset__workspace__name", "created_by__username")
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("asset__workspace", "tree", "created_by")
        return rows.annotate(uses=Count("deployments"))

    @display(description=gettext_lazy("Model"), ordering="asset__name")
    def full_name(self, row: ModelVersion) -> Any:
        return str(row)

    @display(description=gettext_lazy("Workspace"), ordering="asset__workspace__name")
    def workspace(self, row: ModelVersion) -> Any:
        return html.link(row.asset.workspace)

    @display(description=gettext_lazy("Type"), ordering="type")
    def type_word(self, row: ModelVersion) -> Any:
        return row.get_type_display()

    @display(description=gettext_lazy("Size"), ordering="tree__size_bytes")
    def size(self, row: ModelVersion) -> Any:
        return html.size(row.tree.size_bytes)

    @display(description=gettext_lazy("Deployments"), ordering="uses")
    def deployed(self, row: Any) -> Any:
        return row.uses

    @display(description=gettext_lazy("Registered by"), ordering="created_by__username")
    def author(self, row: ModelVersion) -> Any:
        return html.link(row.created_by)

    @display(description=gettext_lazy("Registered"), ordering="created_at")
    def created(self, row: ModelVersion) -> Any:
        return html.ago(row.created_at)

    def detail(self, row: Any) -> Detail:
        users = OnlineDeployment.objects.filter(model=row).select_related("endpoint__workspace")
        path = html.studio("model", row.asset.workspace.name, row.asset.name)
        return Detail(
            title=str(row),
            studio=path and f"{path}?{urlencode({'version': row.version})}",
            facts=(
                (_("Workspace"), html.link(row.asset.workspace)),
                (_("Type"), row.get_type_display()),
                (_("Size"), f"{html.size(row.tree.size_bytes)}, {row.tree.files} " + _("files")),
                (_("Source"), html.mono(row.source)),
                (_("Registered by"), html.link(row.created_by)),
                (_("Registered"), html.ago(row.created_at)),
            ),
            tables=(
                Table(
                    _("Deployments"),
                    (_("Deployment"), _("State")),
                    [(html.link(each), html.state_of(each)) for each in users],
                    empty=_("Deployed nowhere."),
                ),
                about(f"model/{row}", workspace=row.asset.workspace.name),
            ),
        )


class WithUsers(ChangeList):
    """Gives each environment what uses it and its size, in one query for all."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: Any = self.result_list
        found = {each.build.pk: each for each in prune.stored(rows)}
        for each in rows:
            each.stored = found[each.pk]


class RulesForm(ConsoleForm):
    unused_days = forms.IntegerField(
        label=gettext_lazy("Unused for at least, in days"), min_value=0, max_value=3650, required=False
    )
    budget_gib = forms.IntegerField(
        label=gettext_lazy("Keep all within, in GiB"),
        min_value=0,
        max_value=100_000,
        required=False,
        help_text=gettext_lazy("The longest unused go first until the rest fits."),
    )


class ChosenForm(ConsoleForm):
    chosen = forms.CharField(widget=forms.HiddenInput)


class PruneEnvironments(Verb):
    """Two steps: the rules are looked at first, then exactly the list that was shown is what goes."""

    name = "prune"
    label = gettext_lazy("Prune")
    icon = "trash-2"
    danger = True
    form_class = ChosenForm
    sentence = gettext_lazy(
        "Environments are made again when a deployment needs them, which takes seconds to minutes. One that anything "
        "uses is never removed, and an image that was pulled only when it is chosen by itself."
    )

    def __init__(self, request: Any, row: Any = None) -> None:
        super().__init__(request, row)
        asked = request.GET if {"unused_days", "budget_gib"} & set(request.GET) else {"unused_days": "30"}
        self.rules = RulesForm(asked)
        days, budget = None, None
        if self.rules.is_valid():
            days, budget = self.rules.cleaned_data["unused_days"], self.rules.cleaned_data["budget_gib"]
        self.plan = prune.plan(unused_days=days, budget_bytes=None if budget is None else budget * GIB)

    def initial(self) -> dict[str, Any]:
        return {"chosen": " ".join(each.build.pk for each in self.plan.goes)}

    def refused(self) -> str:
        if not self.rules.is_valid():
            return _("These rules cannot be read")
        return "" if self.plan.goes else _("These rules take nothing away")

    def goes(self) -> list[Any]:
        return [shown(each) for each in self.plan.goes]

    def stays(self) -> list[Any]:
        return [f"{shown(each)}: {why}" for each, why in self.plan.kept]

    def type_to_confirm(self) -> str:
        return "prune"

    def run(self, data: dict[str, Any]) -> Operation:
        return prune.prune(keys=data["chosen"].split(), actor=self.actor)

    def back(self) -> str:
        return html.listing(Build)


def shown(each: prune.Stored) -> str:
    if each.build.is_image:
        what = each.build.get_kind_display()
        return f"{each.build.pk[:12]} · {what} · {each.build.image} · {html.size(each.size)}"
    first = (each.build.requirements.splitlines() or [_("no packages")])[0]
    return f"{each.build.pk[:12]} · Python {each.build.python} · {first} … · {html.size(each.size)}"


class RemoveEnvironment(RowVerb):
    row: Build
    name = "remove"
    label = gettext_lazy("Remove")
    icon = "trash-2"
    danger = True
    sentence = gettext_lazy("It is made again when a deployment needs it.")

    def stored(self) -> prune.Stored:
        return prune.stored([self.row])[0]

    def refused(self) -> str:
        why = self.stored().kept_because
        return why[:1].upper() + why[1:]

    def goes(self) -> list[Any]:
        return [shown(self.stored())]

    def type_to_confirm(self) -> str:
        return self.row.pk[:12]

    def run(self, data: dict[str, Any]) -> Operation:  # noqa: ARG002 -- the form has checked the key
        return prune.prune(keys=[self.row.pk], actor=self.actor)


class Environments(ConsoleAdmin):
    heading = gettext_lazy("Environments")
    hint = gettext_lazy(
        "Python environments on disk, and the images that were built or pulled for them. Equal requests share one, "
        "whatever workspace asks."
    )
    nothing = gettext_lazy("No environment has been built yet.")
    list_display = ("key_word", "kind_word", "state_word", "python", "first", "size", "users", "last_used")
    list_filter = ("kind", "driver", "state", "python")
    search_fields = ("key", "requirements", "lock", "image", "image_id")
    ordering = ("-last_used_at",)
    list_verbs = (PruneEnvironments,)
    verbs = (RemoveEnvironment,)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002 -- Django's
        return WithUsers

    @display(description=gettext_lazy("Key"), ordering="key")
    def key_word(self, row: Build) -> Any:
        return html.mono(row.pk[:12])

    @display(description=gettext_lazy("State"), ordering="state")
    def state_word(self, row: Build) -> Any:
        return html.state_of(row)

    @display(description=gettext_lazy("Kind"), ordering="kind")
    def kind_word(self, row: Build) -> Any:
        return row.get_kind_display()

    @display(description=gettext_lazy("Requirements or image"))
    def first(self, row: Build) -> Any:
        if row.is_image:
            return html.mono(row.image)
        lines = row.requirements.splitlines()
        return html.mono(", ".join(lines[:2])[:60] + (f" +{len(lines) - 2}" if len(lines) > 2 else ""))  # noqa: PLR2004

    @display(description=gettext_lazy("Size"), ordering="size_bytes")
    def size(self, row: Any) -> Any:
        return html.size(row.stored.size)

    @display(description=gettext_lazy("Used by"))
    def users(self, row: Any) -> Any:
        return ", ".join(row.stored.users[:2]) + (" …" if len(row.stored.users) > 2 else "") or _("Nothing")  # noqa: PLR2004

    @display(description=gettext_lazy("Last used"), ordering="last_used_at")
    def last_used(self, row: Any) -> Any:
        return html.ago(row.stored.last_used)

    def detail(self, row: Any) -> Detail:
        row.stored = prune.stored([row])[0]
        owners = row.stored.users
        wanted = OnlineDeployment.objects.select_related("endpoint").exclude(serving=None)
        by_key = {each.owner_key: each for each in wanted}
        return Detail(
            title=row.pk[:12],
            state=self.state_word(row),
            problem=row.error,
            log=row.log,
            facts=(
                (_("Kind"), row.get_kind_display()),
                (_("Compute"), row.driver),
                (_("Python"), row.python),
                (_("Size"), html.size(row.stored.size)),
                (_("Built"), html.ago(row.finished_at)),
                (_("Last used"), html.ago(row.stored.last_used)),
                *([(_("Folder"), html.mono(row.path))] if row.path else []),
                *([(_("Image"), html.mono(row.image)), (_("Image id"), html.mono(row.image_id))] if row.image else []),
                (_("Took"), html.took(row.started_at, row.finished_at)),
            ),
            tables=(
                Table(
                    _("Used by"),
                    (_("Deployment"),),
                    [(html.link(by_key[each]) if each in by_key else html.mono(each),) for each in owners],
                    empty=_("Nothing uses it."),
                ),
                Table(
                    _("Installed"),
                    (_("Package"),),
                    [(html.mono(line),) for line in row.lock.splitlines() if line.strip()],
                    empty=_("No packages."),
                ),
            ),
        )


site.register(ModelVersion, Models)
site.register(Build, Environments)

"""What every page shares: signing in, finding the workspace, checking the permission, showing problems."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.views import redirect_to_login
from django.db.models import QuerySet
from django.forms import Form
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.translation import gettext_lazy as _
from django.views import View

from apps.accounts.models import Membership, Workspace
from apps.accounts.policy import Permission, granted, visible_workspaces
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.states import Conflict
from apps.studio.ascode import AsCode

STATUS_TITLES = {403: _("Not allowed"), 404: _("Not found"), 409: _("Conflict"), 503: _("Not available")}


class SignedIn(View):
    """A page for anyone who has signed in. Problems that a view does not handle itself become an error page."""

    section: ClassVar[str] = ""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _sign_in(request)
        try:
            self.prepare(request, **kwargs)
            return super().dispatch(request, *args, **kwargs)
        except Problem as problem:
            return show_problem(request, problem)
        except Conflict as conflict:
            return show_problem(request, Problem("conflict", reason=str(conflict)))

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        """Load what the page is about, before its method runs."""

    def context(self) -> dict[str, Any]:
        return {"section": self.section, "workspaces": list(visible_workspaces(self.request.user))}

    def go(self, to: str, *arguments: Any) -> HttpResponse:
        """Lead on to another page, also when htmx sent the form."""
        if self.request.headers.get("HX-Request"):
            return HttpResponse(status=204, headers={"HX-Redirect": resolve_url(to, *arguments)})
        return redirect(to, *arguments)

    def page(self, template: str, *, status: int = 200, problem: Problem | None = None, **context: Any) -> HttpResponse:
        if problem is not None:
            status = problem.entry.status
        values = {**self.context(), "problem": problem.as_json() if problem else None, **context}
        return render(self.request, f"studio/pages/{template}.html", values, status=status)


class Page(SignedIn):
    """A page below a workspace. `permissions` names, for each method it has, what the role must allow."""

    permissions: ClassVar[dict[str, Permission]]
    workspace: Workspace
    granted: frozenset[Permission]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        missing = {each.upper() for each in ("get", "post") if hasattr(cls, each)} - set(
            getattr(cls, "permissions", ()),
        )
        if missing:
            raise TypeError(f"{cls.__name__} names no permission for {', '.join(sorted(missing))}")

    def prepare(self, request: HttpRequest, **kwargs: Any) -> None:
        name = kwargs["workspace"]
        found = visible_workspaces(request.user).filter(name=name).first()
        if found is None:
            raise Problem("not-found", kind="workspace", name=name)
        self.workspace = found
        self.granted = granted(request.user, found)
        method = "GET" if request.method == "HEAD" else request.method or "GET"
        needed = self.permissions.get(method)
        if needed is not None and needed not in self.granted:
            raise Problem("forbidden", workspace=found.name, permission=str(needed))

    def context(self) -> dict[str, Any]:
        may = {each.name.lower(): each in self.granted for each in Permission}
        role = None
        if Permission.WRITE not in self.granted:
            row = Membership.objects.filter(user_id=self.request.user.pk or 0, workspace=self.workspace).first()
            role = row.get_role_display() if row else None
        return {**super().context(), "workspace": self.workspace, "may": may, "role": role}

    def to_operation(self, operation: Operation) -> HttpResponse:
        """Where every change that takes time leads: its timeline."""
        return self.go("studio:operation", self.workspace.name, operation.pk)


class FormPage(Page):
    """A form with the same change as code next to it. Problems are shown at their field, and what was typed is kept.

    Subclasses say how the form is made, what it does, and how it reads as code.
    """

    permissions: ClassVar = {"GET": Permission.WRITE, "POST": Permission.WRITE}
    template: ClassVar[str]
    field_of: ClassVar[dict[str, str]] = {}  # a problem's target to the form's field, where the names differ

    def form(self, data: Any = None, files: Any = None) -> Form:
        raise NotImplementedError

    def save(self, form: Form) -> HttpResponse:
        """Carry it out and lead on. Problems it raises are shown at the form."""
        raise NotImplementedError

    def field_named(self, target: str) -> str:
        """The form's field that a problem is about."""
        return self.field_of.get(target, target.rpartition(".")[2])

    def as_code(self, data: dict[str, Any]) -> AsCode | None:  # noqa: ARG002
        """The change as code, of the fields that can be understood so far."""
        return None

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:  # noqa: ARG002
        return self.show(self.form())

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        form = self.form(request.POST, request.FILES)
        if wants_code(request):
            code = self._code(form)
            return texts(code.tabs if code else [])
        if not form.is_valid():
            return self.show(form, status=400)
        try:
            return self.save(form)
        except Problem as problem:
            name = self.field_named(problem.target)
            if name not in form.fields:
                return self.show(form, problem=problem)
            form.add_error(name, f"{problem.message} {problem.next_step}".strip())
            return self.show(form, status=problem.entry.status)

    def show(self, form: Form, **context: Any) -> HttpResponse:
        return self.page(self.template, form=form, code=self._code(form), **context)

    def _code(self, form: Form) -> AsCode | None:
        """Of a new form its initial values; of a sent one whatever is valid."""
        if not form.is_bound:
            return self.as_code({name: form.get_initial_for_field(each, name) for name, each in form.fields.items()})
        form.is_valid()
        return self.as_code(form.cleaned_data)


def number(text: str, default: int = 0) -> int:
    """A whole number as forms and addresses write it; `default` for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else default  # noqa: PLR2004 -- fits any key


def wants_code(request: HttpRequest) -> bool:
    """The page only asks how what is typed reads as code; nothing may be changed.

    No name of ours alone: the gateway takes off what begins with x-portway-, and the question would be an order.
    """
    return "X-As-Code" in request.headers


def texts(tabs: list[tuple[str, str, str]]) -> JsonResponse:
    """The answer to that: the text of each tab by its id."""
    return JsonResponse({tab: text for tab, _name, text in tabs}, headers={"Cache-Control": "no-store"})


def one(rows: QuerySet[Any], kind: str, name: str) -> Any:
    """The single row, or Problem "not-found"."""
    found = rows.first()
    if found is None:
        raise Problem("not-found", kind=kind, name=name)
    return found


def show_problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    status = problem.entry.status
    if request.headers.get("accept") == "application/json":
        return JsonResponse(problem.as_json(), status=status)
    if request.headers.get("HX-Request"):
        response = render(request, "studio/parts/problem.html", {"problem": problem.as_json()}, status=status)
        # above what is there, which stays
        for name, value in (("HX-Retarget", "#problems"), ("HX-Reswap", "innerHTML"), ("HX-Reselect", "unset")):
            response[name] = value
        return response
    title = STATUS_TITLES.get(status, _("This did not work"))
    return render(
        request,
        "studio/error.html",
        {"problem": problem.as_json(), "title": title, "status": status},
        status=status,
    )


def _sign_in(request: HttpRequest) -> HttpResponseBase:
    if request.headers.get("HX-Request"):
        return HttpResponse(status=401, headers={"HX-Refresh": "true"})
    return redirect_to_login(request.get_full_path())

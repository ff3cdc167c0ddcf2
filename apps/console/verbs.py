"""What an administrator can do: a page that says what will happen, asks what it must know, and calls the domain.

A GET never changes anything. Everything that state depends on is asked of the domain again when the form is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from apps.accounts.models import User
from apps.console import html
from apps.core.errors import Problem
from apps.core.models import Operation
from apps.core.states import Conflict

Text = str | Promise


class ConsoleForm(forms.Form):
    """A form whose controls carry the classes of our style sheet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            kind = "select" if isinstance(field.widget, forms.Select) else "input"
            if isinstance(field.widget, forms.Textarea):
                kind = "textarea"
            field.widget.attrs.setdefault("class", kind)
            if field.help_text and isinstance(self.auto_id, str):
                field.widget.attrs["aria-describedby"] = f"{self.auto_id % name}-help"


class Verb:
    """One thing that can be done, to `self.row` or to the installation."""

    name: ClassVar[str]
    label: ClassVar[Text]
    icon: ClassVar[str] = "settings"
    danger: ClassVar[bool] = False
    form_class: ClassVar[type[ConsoleForm]] = ConsoleForm
    sentence: ClassVar[Text] = ""

    def __init__(self, request: Any, row: Any = None) -> None:
        self.request = request
        self.row = row

    @property
    def actor(self) -> User:
        assert isinstance(self.request.user, User)  # noqa: S101 -- the site lets nobody else in
        return self.request.user

    def fits(self) -> bool:
        """Whether it makes sense for this row at all; its button is not drawn otherwise."""
        return True

    def listed(self) -> bool:
        """Whether a list offers it beside the row: asks neither the database nor who is looking."""
        return self.fits()

    def refused(self) -> str:
        """Why it cannot be done now; the button is disabled and says so."""
        return ""

    def title(self) -> str:
        return f"{self.label}: {self.row}" if self.row is not None else str(self.label)

    def goes(self) -> Sequence[Any]:
        """Exactly what will be lost."""
        return ()

    def stays(self) -> Sequence[Any]:
        """What will be left, and why."""
        return ()

    def type_to_confirm(self) -> str:
        return ""

    def initial(self) -> dict[str, Any]:
        return {}

    def form(self, data: Any = None) -> ConsoleForm:
        form = self.form_class(data, initial=self.initial())
        wanted = self.type_to_confirm()
        if wanted:
            field = Confirmed(wanted)
            field.widget.attrs["class"] = "input mono"
            form.fields["confirm"] = field
        return form

    def run(self, data: dict[str, Any]) -> Any:
        """Do it. An Operation leads to its timeline, a response is shown, a sentence is told on the next page."""
        raise NotImplementedError

    def back(self) -> str:
        """Where to go when it is done or dropped."""
        raise NotImplementedError


class RowVerb(Verb):
    """A verb on one row; afterwards its page is shown again."""

    def back(self) -> str:
        return html.address(self.row)


class LastVerb(RowVerb):
    """A verb after which the row is not there any more; the list is shown."""

    def back(self) -> str:
        return html.listing(type(self.row))


class Confirmed(forms.CharField):
    """The exact name must be typed."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        attributes = {"autocomplete": "off", "spellcheck": "false"}
        label = _("Type %(name)s to confirm") % {"name": wanted}
        super().__init__(label=label, widget=forms.TextInput(attrs=attributes))

    def clean(self, value: Any) -> Any:
        if super().clean(value) != self.wanted:
            raise forms.ValidationError(_("This is not %(name)s.") % {"name": self.wanted})
        return value


def page_of(
    verb_class: type[Verb], context: Callable[[HttpRequest], dict[str, Any]], find: Callable[[HttpRequest, str], Any]
) -> Callable[..., HttpResponseBase]:
    """The view of a verb: GET asks, POST does."""

    @require_http_methods(["GET", "HEAD", "POST"])
    def view(request: HttpRequest, object_id: str = "") -> HttpResponseBase:
        verb = verb_class(request, find(request, object_id))
        form = verb.form(request.POST if request.method == "POST" else None)
        problem, status = None, 200
        if request.method == "POST":
            status = 400
            if form.is_valid():
                outcome = attempt(verb, form.cleaned_data)
                if not isinstance(outcome, Problem):
                    return _after(verb, outcome)
                problem, status = outcome, outcome.entry.status
                if problem.target in form.fields:
                    form.add_error(problem.target, f"{problem.message} {problem.next_step}".strip())
                    problem = None
        values = {
            **context(request),
            "verb": verb,
            "title": verb.title(),
            "form": form,
            "problem": problem.as_json() if problem else None,
            "refused": verb.refused() if verb.fits() else _("There is nothing to do."),
        }
        return render(request, "console/verb.html", values, status=status)

    return view


def attempt(verb: Verb, data: dict[str, Any]) -> Any:
    """What the verb returned, or the Problem it met."""
    try:
        return verb.run(data)
    except Problem as problem:
        return problem
    except Conflict as conflict:
        return Problem("conflict", reason=str(conflict))


def _after(verb: Verb, outcome: Any) -> HttpResponseBase:
    if isinstance(outcome, HttpResponse):
        return outcome
    if isinstance(outcome, Operation):
        messages.success(verb.request, _("Begun. This page shows how it goes on."))
        return redirect(html.address(outcome))
    messages.success(verb.request, outcome or _("Done."))
    return redirect(verb.back())

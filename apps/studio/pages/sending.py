"""Pages that take files by drop or by choice."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from apps.core.errors import Problem
from apps.registry import uploads
from apps.registry.models import Upload
from apps.studio.views import FormPage


class SendingPage(FormPage):
    """A form with files: a plain one, or sent by the upload element, which wants JSON.

    Subclasses say what is registered of it, and where to go then.
    """

    def register(self, data: dict[str, Any]) -> str:
        """Carry it out; the address of what was made."""
        raise NotImplementedError

    def post(self, request: HttpRequest, **more: Any) -> HttpResponse:
        """The upload element is told where to go, or what is wrong."""
        if request.headers.get("accept") != "application/json":
            return super().post(request, **more)
        form = self.form(request.POST)
        if not form.is_valid():
            field, errors = next(iter(form.errors.items()))
            raise Problem("bad-field", field=field, reason=str(errors[0]))
        return JsonResponse({"location": self.register(form.cleaned_data)})

    def save(self, form: Any) -> HttpResponse:
        return self.go(self.register(form.cleaned_data))

    def received(self) -> Upload:
        """What was sent: a zip archive, or files with their relative paths."""
        files = self.request.FILES.getlist("files")
        archive = files[0] if len(files) == 1 and (files[0].name or "").lower().endswith(".zip") else None
        return uploads.receive(
            workspace=self.workspace,
            archive=archive,
            files=[] if archive else files,
            paths=_paths(self.request.POST.get("paths", "")),
            actor=self.request.user,
        )


def _paths(text: str) -> list[str]:
    """The relative paths of the files, as one JSON list: Django bounds the number of form fields."""
    if not text:
        return []
    try:
        paths = json.loads(text)
    except ValueError as error:
        raise Problem("bad-json", reason=str(error)) from None
    if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
        raise Problem("bad-field", field="paths", reason="must be a list of paths")
    return paths

"""The test console: a request to the live endpoint through the gateway, to one deployment or to two side by side."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse

from apps.accounts.policy import Permission
from apps.core.errors import Problem
from apps.studio import ascode_calls, invoke
from apps.studio.models import Call
from apps.studio.pages.endpoints import EndpointPage
from apps.studio.pretty import pretty
from apps.studio.queries import deployments_of
from apps.studio.views import number, one, texts, wants_code

KEPT = 30
BODY_KEPT = 64 * 1024
ANSWER_KEPT = 16 * 1024
FILE_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Shown:
    """One column of the answer: who was asked, and what came."""

    asked: str
    answer: invoke.Answer | None
    problem: dict[str, Any] | None


class Test(EndpointPage):
    tab = "test"
    permissions: ClassVar = {"GET": Permission.READ, "POST": Permission.SCORE}

    def get(self, request: HttpRequest, **_: Any) -> HttpResponse:
        """An empty console with a sample, or one of the calls of before: `?call=<id>`."""
        deployments = list(deployments_of(self.endpoint))
        call = self._history().filter(pk=number(request.GET.get("call", ""))).first()
        wanted = call.asked if call else request.GET.get("deployment", "")
        chosen = next((each for each in deployments if each.name == wanted), None)
        busiest = max(deployments, key=lambda each: self.endpoint.traffic.get(each.name, 0), default=None)
        body = call.body if call and call.body else pretty(invoke.sample(chosen or busiest))
        return self._page(
            deployments,
            body=body,
            chosen=chosen.name if chosen else "",
            path=call.path if call else self.endpoint.scoring_path,
            answers=[_of(call)] if call else [],
        )

    def post(self, request: HttpRequest, **_: Any) -> HttpResponse:
        values = {
            name: request.POST.get(name, "").replace("\x00", "") for name in ("deployment", "against", "body", "path")
        }
        values["path"] = values["path"] or self.endpoint.scoring_path
        if wants_code(request):
            return texts(self._code(**values)["tabs"])
        for name in filter(None, (values["deployment"], values["against"])):
            one(self.endpoint.deployments.filter(name=name), "deployment", name)
        problem, answers = None, []
        try:
            answers = self._send(values)
        except Problem as error:
            problem = error
        status = 200 if any(each.answer for each in answers) or problem else 503
        if request.headers.get("HX-Request"):
            shown = problem.as_json() if problem else None
            return self.page(
                "endpoint_answer",
                answers=answers,
                answer_problem=shown,
                history=self._history()[:KEPT],
                status=problem.entry.status if problem else status,
            )
        return self._page(
            list(deployments_of(self.endpoint)),
            body=values["body"],
            chosen=values["deployment"],
            against=values["against"],
            path=values["path"],
            answers=answers,
            problem=problem,
            status=status,
        )

    def _page(self, deployments: list[Any], *, body: str, chosen: str, path: str, **more: Any) -> HttpResponse:
        return self.page(
            "endpoint_test",
            deployments=deployments,
            chosen=chosen,
            body=body,
            path=path,
            history=self._history()[:KEPT],
            **self._code(deployment=chosen, body=body, path=path),
            **more,
        )

    def _code(self, *, deployment: str, body: str, path: str, **_: str) -> dict[str, Any]:
        return {
            "tabs": ascode_calls.request(self.endpoint.name, path=path, body=body, deployment=deployment),
            "group": "request",
        }

    def _send(self, values: dict[str, str]) -> list[Shown]:
        file = self.request.FILES.get("file")
        if file and (file.size or 0) > invoke.REQUEST_LIMIT:
            raise Problem("bad-field", field="file", reason="at most 10 MB can be sent from this page", target="file")
        content = file.read() if file else values["body"].encode()
        content_type = (file.content_type or FILE_TYPE) if file else "application/json"
        asked = [values["deployment"], *([values["against"]] if values["against"] else [])]
        requests = [invoke.Request(content, content_type, name, values["path"]) for name in asked]
        found = invoke.score(endpoint=self.endpoint, requests=requests, actor=self.request.user)
        for sent, answer in zip(requests, found, strict=True):
            if isinstance(answer, invoke.Answer):
                self._keep(sent, answer, kept="" if file else values["body"])
        return [
            Shown(name, None, each.as_json()) if isinstance(each, Problem) else Shown(name, each, None)
            for name, each in zip(asked, found, strict=True)
        ]

    def _history(self) -> Any:
        return Call.objects.filter(user=self.request.user.pk or 0, endpoint=self.endpoint)

    def _keep(self, sent: invoke.Request, answer: invoke.Answer, *, kept: str) -> None:
        """Remember the call; the oldest make room. An endpoint that is gone by now remembers nothing."""
        with suppress(IntegrityError), transaction.atomic():
            Call.objects.create(
                user_id=self.request.user.pk or 0,
                endpoint=self.endpoint,
                asked=sent.deployment,
                path=sent.path,
                content_type=sent.content_type[:100],
                body=_clean(kept) if len(kept) <= BODY_KEPT else "",
                status=answer.status,
                seconds=answer.seconds,
                answered_by=answer.deployment[:64],
                answer=_clean(answer.body[:ANSWER_KEPT]),
                request_id=answer.request_id[:100],
            )
            old = self._history().values_list("pk", flat=True)[KEPT:]
            Call.objects.filter(pk__in=list(old)).delete()


def _of(call: Call) -> Shown:
    """A call of before, as it was answered then."""
    answer = invoke.Answer(
        call.status,
        "",
        call.seconds,
        [],
        call.answer,
        len(call.answer) >= ANSWER_KEPT,
        call.answered_by,
        call.request_id,
    )
    return Shown(call.asked, answer, None)


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd")  # PostgreSQL keeps no NUL

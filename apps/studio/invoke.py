"""Calling a live endpoint on behalf of the person at the test page, through the gateway like every other client."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from apps.core.errors import Problem
from apps.endpoints.enums import AuthMode
from apps.endpoints.models import OnlineDeployment, OnlineEndpoint
from apps.gateway import domain as gateway
from apps.registry.enums import ModelType
from apps.registry.models import ModelVersion
from apps.studio.pretty import pretty

ANSWER_LIMIT = 2**20
REQUEST_LIMIT = 10 * 2**20
DEPLOYMENT_HEADER = "azureml-model-deployment"
GRACE_S = 5.0
PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,299}")
SAMPLE_OF_TYPE = {
    "string": "text",
    "boolean": True,
    "integer": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "datetime": "2026-01-01T00:00:00",
}


@dataclass(frozen=True)
class Request:
    """What is sent. `path` is below /e/<endpoint>; no `deployment` means by traffic."""

    body: bytes
    content_type: str = "application/json"
    deployment: str = ""
    path: str = "/score"


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str
    seconds: float
    headers: list[tuple[str, str]]
    body: str
    truncated: bool
    deployment: str
    request_id: str = ""

    @property
    def tone(self) -> str:
        return "ok" if self.status < 400 else "degraded" if self.status < 500 else "failed"  # noqa: PLR2004

    @property
    def shown(self) -> str:
        """The body for people: JSON indented, anything else as it came."""
        try:
            return pretty(json.loads(self.body))
        except (ValueError, RecursionError):
            return self.body


def score(*, endpoint: OnlineEndpoint, requests: Sequence[Request], actor: Any) -> list[Answer | Problem]:
    """Send each request to the endpoint, at the same time; its answer, whatever the status, or why there is none.

    Raises:
        Problem: "bad-field" for a body that is too large or a path that is none.
    """
    for each in requests:
        if len(each.body) > REQUEST_LIMIT:
            raise Problem("bad-field", field="body", reason="at most 10 MB can be sent from this page", target="body")
        if not PATH.fullmatch(each.path):
            reason = "must begin with / and hold only characters of a URL"
            raise Problem("bad-field", field="path", reason=reason, target="path")
    bearer = f"Bearer {_credential(endpoint, actor)}"
    timeouts = endpoint.deployments.values_list("request_timeout_ms", flat=True)
    timeout_s = max(timeouts, default=5000) / 1000 + GRACE_S

    def send(each: Request) -> Answer | Problem:
        headers = {"Host": settings.HOST, "Content-Type": each.content_type, "Authorization": bearer}
        if each.deployment:
            headers[DEPLOYMENT_HEADER] = each.deployment
        try:
            return _send(f"/e/{endpoint.name}{each.path}", each.body, headers, timeout_s=timeout_s)
        except Problem as problem:
            return problem

    with ThreadPoolExecutor(max_workers=max(1, len(requests))) as pool:
        return list(pool.map(send, requests))


def _credential(endpoint: OnlineEndpoint, actor: Any) -> str:
    if endpoint.auth_mode == AuthMode.KEY:
        return gateway.keys_of(endpoint.name).get("primary", "")
    return str(gateway.issue_token(endpoint.name, subject=actor.get_username())["accessToken"])


def _send(path: str, data: bytes, headers: dict[str, str], *, timeout_s: float) -> Answer:
    started = time.monotonic()
    connection: http.client.HTTPConnection | None = None
    try:
        trust = ssl.create_default_context(cafile=str(settings.HOME.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", settings.PORT, timeout=timeout_s, context=trust)
        connection.request("POST", path, body=data, headers=headers)
        response = connection.getresponse()
        raw = _read(response, started + timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise Problem("unavailable", what="The gateway", evidence=f"{type(error).__name__}: {error}") from None
    finally:
        if connection is not None:
            connection.close()
    return Answer(
        status=response.status,
        reason=response.reason,
        seconds=time.monotonic() - started,
        headers=response.getheaders(),
        body=raw[:ANSWER_LIMIT].decode("utf-8", "replace"),
        truncated=len(raw) > ANSWER_LIMIT,
        deployment=response.headers.get(DEPLOYMENT_HEADER, ""),
        request_id=response.headers.get("x-request-id", ""),
    )


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body up to the limit; a server that sends a byte now and then does not hold us."""
    chunks, size = [], 0
    while size <= ANSWER_LIMIT and (chunk := response.read1(65536)):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not end in time")
    return b"".join(chunks)


def sample(deployment: OnlineDeployment | None) -> Any:
    """A request body the deployment's model could understand."""
    model = deployment.served_model if deployment else None
    if model is None or model.type != ModelType.MLFLOW:
        return {"data": []}
    return {"input_data": _example(model) if model.input_example is not None else _of_signature(model.signature or {})}


def _example(model: ModelVersion) -> Any:
    example = model.input_example
    if isinstance(example, dict):
        if "columns" in example and "data" in example:
            return {"columns": example["columns"], "index": list(range(len(example["data"]))), "data": example["data"]}
        return example.get("inputs", example)
    return example


def _of_signature(signature: dict[str, Any]) -> Any:
    columns = [each for each in signature.get("inputs") or [] if isinstance(each, dict)]
    if not columns:
        return []
    if any(each.get("type") == "tensor" for each in columns):
        spec = columns[0].get("tensor-spec") or {}
        value: Any = 0.0
        for size in reversed(spec.get("shape") or [1]):
            value = [value] * (min(abs(int(size)), 32))
        return value
    names = [str(each.get("name", index)) for index, each in enumerate(columns)]
    return {
        "columns": names,
        "index": [0],
        "data": [[SAMPLE_OF_TYPE.get(str(each.get("type")), "") for each in columns]],
    }

"""The OpenAPI documents of the service, versions 2, 3 and 3.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, NamedTuple

from .log import log
from .settings import Settings
from .web import BadInputError

VERSIONS = ("2", "3", "3.1")
_ALIASES = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
_ANYTHING: dict[str, Any] = {"type": "object", "example": {}}


class Schemas(NamedTuple):
    """What the model takes and gives, as JSON Schema; `versions` are the documents that can express it."""

    service_input: dict[str, Any] = _ANYTHING
    service_output: dict[str, Any] = _ANYTHING
    versions: tuple[str, ...] = VERSIONS


class Swagger:
    """Documents by version: the user's own file wins over the generated one. Made at the first request for one."""

    def __init__(self, settings: Settings, schemas: Callable[[], Schemas]) -> None:
        self._settings = settings
        self._schemas = schemas
        self._documents: dict[str, bytes] | None = None

    def document(self, version: str) -> bytes:
        """The document as JSON; BadInputError (404) for a version there is not."""
        if self._documents is None:
            self._documents = self._build()
        ready = ", ".join(sorted(self._documents))
        if version not in _ALIASES:
            raise BadInputError(f"Swagger version [{version}] is not valid. Supported versions: [{ready}].", 404)
        found = self._documents.get(_ALIASES[version])
        if found is None:
            raise BadInputError(
                f"Swagger version [{version}] is not supported for the scoring script. "
                f"Supported swagger versions: [{ready}].",
                404,
            )
        return found

    def _build(self) -> dict[str, bytes]:
        schemas = self._schemas()
        documents = {}
        for version in VERSIONS:
            own = self._own(version)
            if own is not None:
                documents[version] = own
            elif version in schemas.versions:
                documents[version] = json.dumps(render(self._settings, schemas, version)).encode()
        return documents

    def _own(self, version: str) -> bytes | None:
        names = ("swagger.json", "swagger2.json") if version == "2" else (f"swagger{version}.json",)
        for name in names:
            path: Path = self._settings.app_root / name
            try:
                text = path.read_text(encoding="utf-8")
                json.loads(text)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as exc:
                log.warning("%s is not used as the service's document: %s", path, exc)
                continue
            return text.encode()
        return None


def render(settings: Settings, schemas: Schemas, version: str) -> dict[str, Any]:
    """One document; pure."""
    old = version == "2"
    place = "#/definitions" if old else "#/components/schemas"
    definitions = {
        "ServiceInput": schemas.service_input,
        "ServiceOutput": schemas.service_output,
        "ErrorResponse": {"type": "object", "properties": {"message": {"type": "string"}}},
    }
    bearer = {"type": "apiKey", "name": "Authorization", "in": "header", "description": "For example: Bearer abc123"}
    info = {
        "title": settings.service_name,
        "description": f"API specification for the service {settings.service_name}",
        "version": settings.service_version,
    }
    paths = _paths(settings.path_prefix, place, old)
    if old:
        return {
            "swagger": "2.0",
            "info": info,
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": {"Bearer": bearer},
            "paths": paths,
            "definitions": definitions,
        }
    return {
        "openapi": "3.1.0" if version == "3.1" else "3.0.3",
        "info": info,
        "security": [{"Bearer": []}],
        "paths": paths,
        "components": {"schemas": definitions, "securitySchemes": {"Bearer": bearer}},
    }


def _paths(prefix: str, place: str, old: bool) -> dict[str, Any]:
    def answer(text: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
        body = {"schema": schema} if old else {"content": {kind: {"schema": schema}}}
        return {"description": text, **body}

    def responses(text: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
        failed = answer("The service failed to execute due to an error.", "application/json", _ref("ErrorResponse"))
        return {"200": answer(text, kind, schema), "default": failed}

    def _ref(name: str) -> dict[str, Any]:
        return {"$ref": f"{place}/{name}"}

    score: dict[str, Any] = {
        "operationId": "RunMLService",
        "description": "Run web service's model and get the prediction output",
        "security": [{"Bearer": []}],
        "responses": responses("The prediction.", "application/json", _ref("ServiceOutput")),
    }
    version: dict[str, Any] = {"name": "version", "in": "query", "required": False}
    if old:
        body = {"name": "serviceInputPayload", "in": "body", "schema": _ref("ServiceInput")}
        score["parameters"] = [body]
        version.update(type="string", enum=list(VERSIONS))
    else:
        score["requestBody"] = {"content": {"application/json": {"schema": _ref("ServiceInput")}}}
        version["schema"] = {"type": "string", "enum": list(VERSIONS)}
    health = {
        "operationId": "ServiceHealthCheck",
        "description": "Answers 'Healthy' when the service is up.",
        "responses": responses("The service is up.", "text/plain", {"type": "string"}),
    }
    document = {
        "operationId": "GetSwaggerSpec",
        "description": "Get this document.",
        "parameters": [version],
        "responses": responses("The document.", "application/json", {"type": "object"}),
    }
    return {
        f"{prefix}/": {"get": health},
        f"{prefix}/score": {"post": score},
        f"{prefix}/swagger.json": {"get": document},
    }


def of_script(run: Callable[..., Any]) -> Schemas:
    """From inference-schema's decorators when run() has them; anything goes otherwise."""
    import sys

    util = sys.modules.get("inference_schema.schema_util")
    if util is None:
        return Schemas()
    supported = set(util.get_supported_versions(run))
    versions = tuple(v for v in VERSIONS if any(a in supported for a, real in _ALIASES.items() if real == v))
    if not util.is_schema_decorated(run):
        return Schemas(versions=versions)
    return Schemas(util.get_input_schema(run), util.get_output_schema(run), versions)

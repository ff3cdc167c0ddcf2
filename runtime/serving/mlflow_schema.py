"""JSON Schema of an MLflow model's signature, for the service's document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import jsonio
from .swagger import Schemas

_KINDS: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
}


def schemas(metadata: Any, folder: Path) -> Schemas:
    """What the model takes under `input_data`, and the list it answers with."""
    schema = metadata.get_input_schema()
    body: dict[str, Any] = {
        "type": "object",
        "required": ["input_data"],
        "properties": {"input_data": {"type": "object"} if schema is None else _input(schema)},
    }
    get_params = getattr(metadata, "get_params_schema", None)
    params = get_params() if get_params else None
    if params:
        properties = {p.name: {**_type(p.type), "default": jsonio._clean(p.default)} for p in params.params}  # noqa: SLF001
        body["properties"]["params"] = {"type": "object", "properties": properties}
    example = _example(metadata, folder)
    if example is not None:
        body["example"] = example
    output = metadata.get_output_schema()
    item = _record(output) if output is not None else {}
    return Schemas(body, {"type": "array", "items": item})


def _input(schema: Any) -> dict[str, Any]:
    if schema.is_tensor_spec():
        if schema.has_input_names():
            return {"type": "object", "properties": {spec.name: _tensor(spec) for spec in schema.inputs}}
        return _tensor(schema.inputs[0])
    columns = {
        "type": "array",
        "items": {"type": "string"},
        "example": [str(name) for name in schema.input_names()] if schema.has_input_names() else [],
    }
    rows = {"type": "array", "items": {"type": "array", "items": _one_of(schema)}}
    index = {"type": "array", "items": {"type": "integer"}}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"columns": columns, "index": index, "data": rows},
        "x-columns": _record(schema),
    }


def _one_of(schema: Any) -> dict[str, Any]:
    kinds = {json.dumps(_type(spec.type)) for spec in schema.inputs}
    return dict(json.loads(kinds.pop())) if len(kinds) == 1 else {}


def _record(schema: Any) -> dict[str, Any]:
    """A row as an object of named columns, or the one value an unnamed output has."""
    if not schema.has_input_names():
        spec = schema.inputs[0]
        if schema.is_tensor_spec():
            found = _tensor(spec)
            return dict(found["items"]) if found.get("type") == "array" else found
        return _type(spec.type)
    properties = {
        str(spec.name): _tensor(spec) if schema.is_tensor_spec() else _type(spec.type) for spec in schema.inputs
    }
    required = [str(spec.name) for spec in schema.inputs if getattr(spec, "required", True)]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _type(kind: Any) -> dict[str, Any]:
    name = getattr(kind, "name", "")
    if name in _KINDS:
        return dict(_KINDS[name])
    properties = getattr(kind, "properties", None)
    if isinstance(properties, list):
        return {"type": "object", "properties": {p.name: _type(p.dtype) for p in properties}}
    inner = getattr(kind, "dtype", None)
    return {"type": "array", "items": _type(inner)} if inner is not None else {}


def _tensor(spec: Any) -> dict[str, Any]:
    kind = getattr(spec.type, "kind", "")
    found: dict[str, Any] = {"f": {"type": "number"}, "i": {"type": "integer"}, "u": {"type": "integer"}}.get(kind, {})
    if kind in {"U", "S", "O"}:
        found = {"type": "string"}
    elif kind == "b":
        found = {"type": "boolean"}
    for _ in spec.shape:
        found = {"type": "array", "items": found}
    return found


def _example(metadata: Any, folder: Path) -> dict[str, Any] | None:
    """The example saved with the model as a body that can be sent as it is."""
    try:
        saved = metadata.load_input_example(str(folder))
        saved = saved[0] if isinstance(saved, tuple) else saved
        if saved is None:
            return None
        if hasattr(saved, "columns"):
            value: Any = {
                "columns": list(saved.columns),
                "index": list(range(len(saved))),
                "data": saved.to_numpy().tolist(),
            }
        else:
            value = saved
        return {"input_data": json.loads(jsonio.dumps(value))}
    except Exception:  # noqa: BLE001 -- a document without an example is better than none
        return None

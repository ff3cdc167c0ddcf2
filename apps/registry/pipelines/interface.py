"""What a component takes and gives: declarations of inputs and outputs, and the values bound to them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from apps.registry.pipelines.fields import RESERVED, bad, below, flag, mapping, named, only, text, unsupported

LITERALS = ("number", "integer", "boolean", "string")
DATA = ("uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model")
INPUT_MODES = {"ro_mount": "ReadOnlyMount", "download": "Download", "direct": "Direct"}
OUTPUT_MODES = {"rw_mount": "ReadWriteMount", "upload": "Upload"}
INTEGER = re.compile(r"[+-]?[0-9]{1,100}")
LARGEST = 1e100
LONGEST_URI = 2000
MOST_CHOICES = 1000

Value = bool | int | float | str


@dataclass(frozen=True)
class Data:
    """Files: where they are (a URI or the reference of an asset), and what they are."""

    uri: str
    type: str
    mode: str = ""


@dataclass(frozen=True)
class Declared:
    """One input or output. `default`, `min`, `max` and `enum` are of literals alone."""

    type: str
    optional: bool = False
    default: Value | None = None
    min: int | float | None = None
    max: int | float | None = None
    enum: tuple[Value, ...] = ()
    mode: str = ""
    description: str = ""

    @property
    def is_data(self) -> bool:
        return self.type in DATA

    @property
    def is_required(self) -> bool:
        return self.default is None and not self.optional

    def as_dict(self) -> dict[str, Any]:
        """As a YAML file has it: nothing that says no more than its absence."""
        given = {key: value for key, value in asdict(self).items() if value not in (None, "", (), False)}
        if self.default is not None:
            given["default"] = self.default  # false is a default too
        for key in ("min", "max"):
            if getattr(self, key) is not None:
                given[key] = getattr(self, key)  # as is 0
        if self.enum:
            given["enum"] = list(self.enum)
        return given


def read_inputs(value: Any, field: str = "inputs") -> dict[str, Declared]:
    """The declared inputs. Raises Problem "bad-field", "unknown-field" or "unsupported"."""
    given = named(value, field, reserved=RESERVED)
    return {name: _input(raw, below(field, name)) for name, raw in given.items()}


def read_outputs(value: Any, field: str = "outputs") -> dict[str, Declared]:
    """The declared outputs; one that only has its name is a folder. Raises what `read_inputs` does."""
    made = {}
    for name, raw in named(value, field, reserved=RESERVED).items():
        at = below(field, name)
        given = mapping(raw, at)
        only(given, ("type", "mode", "description"), at)
        kind = kind_of(given.get("type") or "uri_folder", below(at, "type"))
        if kind not in DATA:
            raise bad(below(at, "type"), f"must be one of {', '.join(DATA)}")
        mode = mode_of(given.get("mode"), OUTPUT_MODES, below(at, "mode"))
        made[name] = Declared(kind, mode=mode, description=text(given.get("description"), below(at, "description")))
    return made


def _input(raw: Any, field: str) -> Declared:
    given = mapping(raw, field)
    only(given, ("type", "default", "optional", "min", "max", "enum", "mode", "description"), field)
    kind = kind_of(given.get("type"), below(field, "type"))
    described = text(given.get("description"), below(field, "description"))
    optional = flag(given.get("optional"), below(field, "optional"), default=False)
    if kind in DATA:
        for key in ("default", "min", "max", "enum"):
            if given.get(key) is not None:
                raise unsupported(below(field, key), f"an input of type {kind} has none")
        mode = mode_of(given.get("mode"), INPUT_MODES, below(field, "mode"))
        return Declared(kind, optional=optional, mode=mode, description=described)
    bare = Declared(kind)
    if kind not in ("number", "integer") and (given.get("min") is not None or given.get("max") is not None):
        raise bad(field, "min and max are of numbers alone")
    limits: list[Any] = [
        None if given.get(key) is None else literal(bare, given[key], below(field, key)) for key in ("min", "max")
    ]
    least, most = limits
    if least is not None and most is not None and least > most:
        raise bad(below(field, "min"), f"is more than max, {most}")
    limited = Declared(kind, min=least, max=most, enum=_choices(bare, given.get("enum"), field))
    default = given.get("default")
    default = None if default is None else literal(limited, default, below(field, "default"))
    return Declared(kind, optional, default, limited.min, limited.max, limited.enum, description=described)


def _choices(bare: Declared, value: Any, field: str) -> tuple[Value, ...]:
    if value is None:
        return ()
    at = below(field, "enum")
    if not isinstance(value, list) or not 0 < len(value) <= MOST_CHOICES:
        raise bad(at, f"must be a list of 1 to {MOST_CHOICES} values")
    return tuple(literal(bare, each, at) for each in value)


def kind_of(value: Any, field: str) -> str:
    """A type in our spelling: `UriFolder` and `uri_folder` are one. Raises Problem "bad-field"."""
    plain = value.replace("_", "").lower() if isinstance(value, str) else ""
    for each in (*LITERALS, *DATA):
        if each.replace("_", "") == plain:
            return each
    raise bad(field, f"must be one of {', '.join((*LITERALS, *DATA))}")


def mode_of(value: Any, modes: Mapping[str, str], field: str) -> str:
    """A mode as YAML spells it, from there or from the wire; empty for none. Raises Problem "bad-field"."""
    if value is None:
        return ""
    plain = value.lower() if isinstance(value, str) else ""
    for ours, wire in modes.items():
        if plain in (ours, wire.lower()):
            return ours
    raise bad(field, f"must be one of {', '.join(modes)}")


def value_of(raw: Any, field: str) -> Value | Data | None:
    """A value as a YAML file or the wire gives it: a literal (still of any type), or data; None for none at all.

    Raises:
        Problem: "bad-field" or "unknown-field". Data without a type has the empty one.
    """
    if raw is None or isinstance(raw, bool | int | float):
        return raw
    if isinstance(raw, str):
        return text(raw, field)
    given = {key.replace("_", "").lower(): value for key, value in mapping(raw, field).items()}
    only(given, ("type", "jobinputtype", "path", "uri", "value", "default", "mode", "description"), field)
    kind = given.get("jobinputtype") or given.get("type")
    places = [given[key] for key in ("path", "uri", "value", "default") if given.get(key) is not None]
    if len(places) != 1:
        raise bad(field, "needs just one of path, uri and value")
    word = kind.lower() if isinstance(kind, str) else ""
    if word == "literal" or word in LITERALS or (kind is None and given.get("value") is not None):
        if isinstance(places[0], dict | list):
            raise bad(field, "must be a text, a number, true or false")
        return value_of(places[0], field)
    uri = text(places[0], field, longest=LONGEST_URI)
    if not uri or not uri.isprintable():
        raise bad(field, "must name files")
    kind = "" if kind in (None, "") else kind_of(kind, below(field, "type"))
    return Data(uri, kind, mode_of(given.get("mode"), INPUT_MODES, below(field, "mode")))


def bind(declared: Mapping[str, Declared], given: Mapping[str, Any], field: str = "inputs") -> dict[str, Any]:
    """Each declared input with its value: a literal of its type, `Data`, or None for an optional one without value.

    Raises:
        Problem: "bad-field" for an unknown or missing input, and for a value that its declaration does not allow.
    """
    unknown = given.keys() - declared.keys()
    if unknown:
        there = ", ".join(declared) or "none"
        raise bad(below(field, min(unknown)[:60]), f"there is no such input; there are: {there[:500]}")
    bound: dict[str, Any] = {}
    for name, each in declared.items():
        at = below(field, name)
        value = given.get(name)
        value = value if isinstance(value, Data) else value_of(value, at)
        if value is None:
            if each.is_required:
                raise bad(at, "is required")
            bound[name] = each.default
        else:
            bound[name] = fitting(each, value, at)
    return bound


def fitting(declared: Declared, value: Value | Data, field: str) -> Value | Data:
    """The value as the declaration has it. Raises Problem "bad-field"."""
    if not declared.is_data:
        if isinstance(value, Data):
            raise bad(field, f"takes a {declared.type}, not data")
        return literal(declared, value, field)
    if not isinstance(value, Data):
        raise bad(field, f"takes data of type {declared.type}: give its type and path")
    kind = value.type or declared.type
    if not fits(kind, declared.type):
        raise bad(field, f"takes data of type {declared.type}, not {kind}")
    return Data(value.uri, kind, value.mode or declared.mode)


def fits(given: str, wanted: str) -> bool:
    """Whether what has one type can be bound where another is due."""
    if given == wanted:
        return True
    if wanted in LITERALS:
        return given in LITERALS and (wanted == "string" or (given, wanted) == ("integer", "number"))
    if given == "custom_model":  # a file or a folder
        return wanted in ("uri_file", "uri_folder")
    return wanted == "uri_folder" and given in ("mltable", "mlflow_model", "triton_model")


def literal(declared: Declared, value: Any, field: str) -> Value:
    """The literal, converted to the declared type and checked. Raises Problem "bad-field"."""
    made: Any = _converted(declared.type, value)
    if made is None:
        raise bad(field, f"{str(value)[:60]!r} is no {declared.type}")
    if declared.min is not None and made < declared.min:
        raise bad(field, f"{str(made)[:60]} is less than {declared.min}")
    if declared.max is not None and made > declared.max:
        raise bad(field, f"{str(made)[:60]} is more than {declared.max}")
    if declared.enum and made not in declared.enum:
        raise bad(field, f"must be one of {', '.join(map(str, declared.enum))[:300]}")
    checked: Value = made
    return checked


def _converted(kind: str, value: Any) -> Value | None:  # noqa: PLR0911 -- one return per rule
    """The value in the type, None where it has no meaning."""
    if not isinstance(value, str | bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if kind == "string":
        return text_of(value)
    if kind == "boolean":
        words = {"true": True, "false": False}
        return value if isinstance(value, bool) else words.get(value.lower()) if isinstance(value, str) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if INTEGER.fullmatch(value.strip()):
            value = int(value)
        elif (value := _float(value)) is None:
            return None
    number: int | float = value
    if abs(number) > LARGEST:
        return None
    if kind == "number":
        return number
    return int(number) if number == int(number) else None


def _float(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def text_of(value: Value) -> str:
    """A literal as a command sees it. Python's scripts expect Python's words for a boolean."""
    return str(value)


def declared_by(values: Mapping[str, Any], field: str = "inputs") -> dict[str, Declared]:
    """The declarations that a job's own values amount to. Raises Problem "bad-field"."""
    made = {}
    for name, raw in named(values, field, reserved=RESERVED).items():
        value = value_of(raw, below(field, name))
        if isinstance(value, Data):
            made[name] = Declared(value.type or "uri_folder", mode=value.mode)
        elif value is None:
            raise bad(below(field, name), "needs a value")
        else:
            kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
            made[name] = Declared(kinds[type(value)], default=value)
    return made

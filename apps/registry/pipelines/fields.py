"""Reading what strangers sent, field by field; each refusal names the path of the field."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from apps.core.errors import Problem

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# the command's parameters become variables beside these of the shell
RESERVED = frozenset("path ld_library_path user logname home pwd shell".split())
LONGEST = 32_000  # characters of a text


def bad(field: str, reason: str) -> Problem:
    return Problem("bad-field", field=field, reason=reason, target=field)


def unsupported(field: str, reason: str) -> Problem:
    return Problem("unsupported", what=field, reason=reason, target=field)


def below(field: str, name: str) -> str:
    """The path of a field inside another; the whole document has the empty path."""
    return f"{field}.{name}" if field else name


def mapping(value: Any, field: str) -> dict[str, Any]:
    """A map of texts to anything; None is an empty one. Raises Problem "bad-field"."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise bad(field or "componentSpec", "must be an object")
    return dict(value)


def only(given: Mapping[str, Any], known: Collection[str], field: str) -> None:
    """Raises Problem "unknown-field" for what nothing would heed."""
    unknown = given.keys() - set(known)
    if unknown:
        path = below(field, min(unknown))[:300]
        raise Problem("unknown-field", field=path, target=path)


def named(value: Any, field: str, *, reserved: Collection[str] = ()) -> dict[str, Any]:
    """A map whose keys are names of inputs, outputs or steps. Raises Problem "bad-field"."""
    given = mapping(value, field)
    for name in given:
        if not NAME.fullmatch(name):
            reason = f"{name[:60]!r} is no name: a letter or _ first, then letters, digits and _; at most 255"
            raise bad(field, reason)
        if name.lower() in reserved:
            raise bad(below(field, name), f"the name is reserved, as are {', '.join(sorted(reserved))}")
    return given


def text(value: Any, field: str, *, longest: int = LONGEST) -> str:
    """A text; None is the empty one. Raises Problem "bad-field"."""
    if value is None:
        return ""
    if not isinstance(value, str) or "\x00" in value:
        raise bad(field, "must be a text")
    if len(value) > longest:
        raise bad(field, f"has {len(value)} characters, more than {longest}")
    return value


def flag(value: Any, field: str, *, default: bool) -> bool:
    """True or false, also as the words. Raises Problem "bad-field"."""
    if value is None:
        return default
    word = value.lower() if isinstance(value, str) else value
    if word in ("true", "false"):
        return bool(word == "true")
    if not isinstance(value, bool):
        raise bad(field, "must be true or false")
    return value


def texts(value: Any, field: str) -> dict[str, str]:
    """A map of texts to texts; numbers and booleans become text. Raises Problem "bad-field"."""
    made = {}
    for key, each in mapping(value, field).items():
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise bad(below(field, key[:60]), "must be a text")
        made[text(key, field, longest=255)] = text(str(each), below(field, key[:60]))
    return made

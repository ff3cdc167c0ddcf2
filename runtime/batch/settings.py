"""What the environment variables ask of a node's workers, checked once at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..serving import settings as serving
from ..serving.failures import StartError

_OUTPUTS = ("append_row", "summary_only")
_LEVELS = ("warning", "info", "debug")
_DIGITS = 4


@dataclass(frozen=True)
class Settings:
    model: serving.Settings
    """Where the code or the model is and where to listen, as for online deployments."""
    append_row: bool
    level: str
    """DEBUG, INFO or WARNING."""
    warm_s: float
    """How long the packages of a model may take to be imported for all workers; 0: each worker imports its own."""


def read(env: Mapping[str, str]) -> Settings:
    """Read the settings; raise StartError(BadArgument) for a value that cannot be meant."""
    output = _one_of(env, "PORTWAY_BATCH_OUTPUT", _OUTPUTS, "append_row")
    level = _one_of(env, "PORTWAY_BATCH_LOGGING_LEVEL", _LEVELS, "info")
    warm_s = _seconds(env, "WORKER_PRELOAD_TIMEOUT", 60.0)
    return Settings(serving.read(env), append_row=output == "append_row", level=level.upper(), warm_s=warm_s)


def _one_of(env: Mapping[str, str], name: str, known: tuple[str, ...], default: str) -> str:
    value = env.get(name, "").strip().lower() or default
    if value not in known:
        raise StartError("BadArgument", f"{name} is {value!r}; set it to one of {', '.join(known)}.")
    return value


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise StartError("BadArgument", f"{name} is {text!r}; set it to a whole number of seconds, 0 for never.")
    return float(text)

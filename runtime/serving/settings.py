"""What the environment variables ask for, checked once at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .failures import StartError

SOCKET_NAME = "m.sock"


@dataclass(frozen=True)
class Settings:
    app_root: Path
    entry_script: str
    model_dir: str
    mlflow_model: Path | None
    overlay: str
    socket_dir: Path
    bind: tuple[str, int] | None
    max_concurrency: int
    workers: int
    timeout_ms: int
    max_batch: int
    cors_origins: tuple[str, ...]
    log_level: str
    service_name: str
    service_version: str
    path_prefix: str
    session: str

    @property
    def socket(self) -> Path:
        return self.socket_dir / SOCKET_NAME


def read(env: Mapping[str, str]) -> Settings:
    """Read the settings; raise StartError(BadArgument) for a value that cannot be meant."""
    mlflow_model = env.get("PORTWAY_MLFLOW_MODEL", "")
    max_concurrency = _positive(env, "PORTWAY_MAX_CONCURRENCY", 1)
    prefix = env.get("SERVICE_PATH_PREFIX", "").strip("/")
    return Settings(
        app_root=Path(env.get("AML_APP_ROOT") or "/var/azureml-app"),
        entry_script=env.get("AZUREML_ENTRY_SCRIPT", ""),
        model_dir=env.get("AZUREML_MODEL_DIR", ""),
        mlflow_model=Path(mlflow_model) if mlflow_model else None,
        overlay=env.get("PORTWAY_OVERLAY", ""),
        socket_dir=Path(env.get("PORTWAY_SOCKET_DIR") or "/run/s"),
        bind=_address(env.get("PORTWAY_BIND", "")),
        max_concurrency=max_concurrency,
        # A worker without a slot could answer nothing, and one slot each would break the promise of the limit.
        workers=min(_positive(env, "WORKER_COUNT", 1), max_concurrency),
        timeout_ms=_positive(env, "SCORING_TIMEOUT_MS", 3_600_000),
        max_batch=_positive(env, "PORTWAY_MAX_BATCH", 256),
        cors_origins=tuple(o.strip() for o in env.get("AML_CORS_ORIGINS", "").split(",") if o.strip()),
        log_level=env.get("AZUREML_LOG_LEVEL", "INFO").upper() or "INFO",
        service_name=env.get("SERVICE_NAME") or "ML service",
        service_version=env.get("SERVICE_VERSION") or "1.0",
        path_prefix=f"/{prefix}" if prefix else "",
        session=_header_value(env.get("PORTWAY_SESSION", "")),
    )


def from_process() -> Settings:
    return read(os.environ)


def _positive(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise StartError("BadArgument", f"{name} is {text!r}; set it to a whole number of at least 1.")
    return int(text)


def _address(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:  # noqa: PLR2004 -- the largest port there is
        raise StartError("BadArgument", f"PORTWAY_BIND is {text!r}; write it as host:port, for example 0.0.0.0:5001.")
    return host.strip("[]"), int(port)


def _header_value(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise StartError("BadArgument", "PORTWAY_SESSION cannot be sent as a header; use printable ASCII characters.")
    return text

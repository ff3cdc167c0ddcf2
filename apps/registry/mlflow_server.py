"""How the MLflow server is started: one granian worker on a unix socket, everything that calls out switched off.

Standard library and settings only; `mlflow_app.py` is what the started process imports.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from urllib.parse import quote, urlencode

from django.conf import settings

from cli.home import Home

PREFIX = "/mlflow"
APP = "apps.registry.mlflow_app:app"


def argv(home: Home) -> list[str]:
    """The command line of the server."""
    return [
        str(Path(sysconfig.get_path("scripts")) / "granian"),
        "--interface", "wsgi",
        "--uds", str(home.mlflow_socket),
        "--uds-permissions", "0600",
        "--workers", "1",
        "--runtime-threads", "1",
        "--blocking-threads", "4",
        "--blocking-threads-idle-timeout", "30",
        "--backpressure", "64",
        "--no-access-log",
        "--no-ws",
        "--log-level", "warning",
        "--respawn-failed-workers",
        "--workers-kill-timeout", "5",
        "--working-dir", str(settings.BASE_DIR),
        APP,
    ]  # fmt: skip


def environment(home: Home) -> dict[str, str]:
    """What the server's process gets. MLflow settings in the operator's shell are meant for clients: none gets in."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("MLFLOW_", "_MLFLOW_", "OTEL_"))
    }
    destination = artifact_root(home)
    destination.mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "_MLFLOW_SERVER_FILE_STORE": store_uri(home),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": destination.as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_STATIC_PREFIX": PREFIX,
        "MLFLOW_ENABLE_WORKSPACES": "true",
        "MLFLOW_WORKSPACE_STORE_URI": "portway://",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(_hosts()),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(settings.CSRF_TRUSTED_ORIGINS),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def artifact_root(home: Home) -> Path:
    """The folder behind `mlflow-artifacts:/`."""
    return home.artifacts / "mlflow"


def store_uri(home: Home) -> str:
    """SQLAlchemy's address of the database. The host goes into the query: there it may be a socket's folder too."""
    if not settings.DATABASE_URL:
        return f"sqlite:///{home.root / 'mlflow.sqlite3'}"
    database = settings.DATABASES["default"]
    user = ":".join(quote(database[each], safe="") for each in ("USER", "PASSWORD") if database[each])
    where = {"host": database["HOST"], "port": str(database["PORT"] or "")}
    query = urlencode({name: value for name, value in where.items() if value})
    return f"postgresql+psycopg://{user}@/{quote(database['NAME'], safe='')}" + (f"?{query}" if query else "")


def _hosts() -> list[str]:
    """Host headers as clients send them: with the port, and without for the standard one."""
    names = [each for each in settings.ALLOWED_HOSTS if each]
    return [*names, *(f"{name}:*" for name in names)]

"""gunicorn's settings for Microsoft's inference server, which run in the model's environment.

Its own command line always listens on every address of the machine, so it is not used (components.md 3.1).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_FOLDER = Path(os.environ.get("PORTWAY_SOCKET_DIR") or "/run/s")
_DEATHS_BEFORE_READY = 3

bind = os.environ.get("PORTWAY_BIND") or f"unix:{_FOLDER / 'm.sock'}"
umask = 0  # who may connect is decided by the socket's folder
workers = int(os.environ.get("WORKER_COUNT") or 1)
timeout = int(os.environ.get("WORKER_TIMEOUT") or 300)
preload_app = (os.environ.get("WORKER_PRELOAD") or "").lower() == "true"
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 -- heartbeats, on memory
pythonpath = str(Path(__file__).parent)
accesslog = None
loglevel = "warning"

_served = False
_deaths = 0


def post_worker_init(_worker: Any) -> None:
    """The script's init() is done. Said in a file, because only this worker's process knows."""
    if os.access(_FOLDER, os.W_OK):
        (_FOLDER / ".served").touch()


def child_exit(_server: Any, _worker: Any) -> None:
    """End instead of starting workers for ever that die in init(): gunicorn itself would never give up."""
    global _deaths, _served  # noqa: PLW0603 -- one arbiter per process
    from gunicorn.errors import HaltServer  # type: ignore[import-not-found, unused-ignore]

    _served = _served or (_FOLDER / ".served").exists()
    if _served:
        return
    _deaths += 1
    if _deaths >= _DEATHS_BEFORE_READY:
        record = _FOLDER / "failure.json"
        if not record.exists() and os.access(_FOLDER, os.W_OK):
            text = "The process ended during init() without a Python exception: os._exit, or a crash in native code."
            record.write_text(json.dumps({"code": "UserScriptInitFailed", "message": text, "evidence": ""}))
        raise HaltServer("The worker ended before it was ready, time and again", 3)


def on_starting(_server: Any) -> None:
    """What an earlier life of this replica left behind says nothing about this one."""
    for name in (".served", "failure.json"):
        (_FOLDER / name).unlink(missing_ok=True)

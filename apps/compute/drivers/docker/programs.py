"""Looking for the program in a container before it is started: the engine's own init would take it for a crash."""

from __future__ import annotations

import base64
import json
from typing import Any

from docker.errors import APIError, NotFound

from apps.compute.drivers.base import ImageError, ReplicaSpec
from apps.compute.drivers.docker.engine import Engine, unwilling

LINKS = 8
FOLDER, LINK = 1 << 31, 1 << 27  # of Go's file modes
EXECUTABLE = 0o111


def program_of(spec: ReplicaSpec, image: dict[str, Any]) -> str:
    """What will be run; "" when nobody can tell before (a name to be looked for in PATH)."""
    config = image.get("Config") or {}
    words = list(spec.argv) or [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    if not words:
        raise ImageError(f"The image {spec.image} has no command of its own: the deployment must name one.")
    return str(words[0]) if str(words[0]).startswith("/") else ""


def check(engine: Engine, container: str, program: str) -> None:
    """Raise ImageError when the program is not in the container, or may not be run."""
    path = program
    for _ in range(LINKS):
        found = stat(engine, container, path)
        if found is None:
            where = "" if path == program else f" (it is a link to {path})"
            raise ImageError(f"The program {program} is not in the image or the mounts{where}.")
        if found["mode"] & LINK and found.get("linkTarget"):
            path = found["linkTarget"]
            continue
        if found["mode"] & FOLDER or not found["mode"] & EXECUTABLE:
            raise ImageError(f"The program {program} may not be run: it is a folder, or not marked as executable.")
        return
    raise ImageError(f"The program {program} is a link to a link, {LINKS} times and more.")


def stat(engine: Engine, container: str, path: str) -> dict[str, Any] | None:
    try:
        with engine.asked() as client:
            address = f"{client.base_url}/v{client.api_version}/containers/{container}/archive"
            answer = client.head(address, params={"path": path})
            client._raise_for_status(answer)  # noqa: SLF001 -- it makes the SDK's own errors
    except NotFound:
        return None
    except APIError as error:
        raise unwilling(error) from error
    told: dict[str, Any] = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    return told

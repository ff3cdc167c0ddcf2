"""Environments of local deployments: built by the same functions as on the server, found again by files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.builds import benches, engine, images, packages, uv
from apps.builds.benches import Bench, Container
from apps.builds.domain import MARK, EnvironmentSpec, Runnable, overlay_for, overlays
from apps.builds.spec import Log, digest, lock_of
from apps.core.errors import Problem
from runtime.overlay import OverlayError, ensure_overlay


def never() -> None:
    """Ctrl-C is what cancels here."""


def prepare(spec: EnvironmentSpec, *, docker: bool, log: Log) -> Runnable:
    """The environment, built now or found. Raises what `apps.builds.domain.ensure` raises."""
    if not docker:
        return _for_processes(spec, log)
    return _for_containers(spec, log)


def _for_processes(spec: EnvironmentSpec, log: Log) -> Runnable:
    if spec.needs_container:
        reason = "it needs a container, and no engine answers or --no-docker was given"
        raise Problem("unsupported", what="This environment", reason=reason)
    asked = packages.read(spec)
    bench, remark = benches.on_host(asked.python)
    path = _packages(asked, bench, remark, log)
    try:
        overlay = ensure_overlay(bench.interpreter.path, overlays(), uv.binary())
    except OverlayError as error:
        raise Problem("build-unavailable", reason=str(error)) from None
    return Runnable(path.name, path, path / "bin" / "python", overlay)


def _for_containers(spec: EnvironmentSpec, log: Log) -> Runnable:
    with engine.connected() as api:
        name = _built(spec, log) if spec.context else spec.image or settings.BASE_IMAGE
        image = images.identify(api, name)
        if not image:
            images.pull(name, log, never)
            image = images.identify(api, name)
        facts = _facts(api, image)
    python = Path(facts["python"]) if facts["python"] else None
    if not spec.has_packages:
        return Runnable(digest(image), None, python, overlay_for(facts["abi"]) if python else None, image)
    if python is None:
        raise Problem("environment-failed", reason=f"image {name} has no Python 3.10 or newer.", hint="Take another.")
    bench = Container(uv.Interpreter(python, facts["version"]), image, trusted=True)
    path = _packages(packages.read(spec), bench, "", log)
    return Runnable(path.name, path, path / "bin" / "python", overlay_for(facts["abi"]), image)


def _packages(asked: packages.Asked, bench: Bench, remark: str, log: Log) -> Path:
    """The folder of an environment. The file of its request names it; the mark in it is made last."""
    wanted = packages.request(asked, bench, remark)
    for note in (*(f"{each['line']}: {each['action']}, {each['reason']}" for each in wanted.report), *wanted.remarks):
        log(note)
    folder = Path(settings.HOME.environments)
    known = folder / f"{wanted.key[:20]}.path"
    with lock_of(wanted.key, never):
        if known.exists() and (Path(known.read_text()) / MARK).exists():
            return Path(known.read_text())
        try:
            lock = packages.resolve(wanted, bench, log, never)
            path = folder / digest(lock, *packages.ground(wanted.interpreter, wanted.image))[:20]
            if not (path / MARK).exists():
                packages.install(path, lock, bench, log, never)
        except uv.UvError as error:
            raise packages.problem_of(error) from None
        known.write_text(str(path))
    return path


def _facts(api: engine.Api, image: str) -> dict[str, Any]:
    """Its Python, looked for once."""
    kept = Path(settings.HOME.environments) / f"{image.removeprefix('sha256:')[:20]}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    found = images.look(api, image, never)
    kept.write_text(json.dumps(found))
    return found


def _built(spec: EnvironmentSpec, log: Log) -> str:
    """The name of the image that a build context of the user's own becomes."""
    tag = f"portway-local/{settings.HOME.installation}:{digest(spec.context, spec.dockerfile)[:12]}"
    what: dict[str, Any] = {"path": spec.context, "dockerfile": spec.dockerfile, "tag": tag}
    with engine.connected(settings.BUILD_TIMEOUT_S) as api:
        for event in api.build(**what, rm=True, forcerm=True, decode=True):
            if "error" in event:
                why = str(event["error"])
                raise Problem("environment-failed", reason="the Dockerfile failed.", hint="Mend it.", evidence=why)
            if line := str(event.get("stream", "")).strip():
                log(line)
    return tag

"""Environments made runnable: content-addressed, built once, shared by every deployment that asks for the same."""

from __future__ import annotations

import errno
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from apps.builds import benches, bytecode, engine, history, imagebuild, images, packages, uv
from apps.builds.benches import Bench
from apps.builds.history import Told
from apps.builds.models import Build, ImageFacts
from apps.builds.packages import Request
from apps.builds.spec import (
    DOCKER,
    MARK,
    Check,
    EnvironmentSpec,
    Log,
    Runnable,
    digest,
    lock_of,
)
from apps.core.errors import Problem
from apps.core.models import Operation
from runtime.overlay import OverlayError, ensure_overlay, ensure_overlay_for

__all__ = ["DOCKER", "MARK", "EnvironmentSpec", "Request", "Runnable", "check_driver", "ensure", "lock_of", "translate"]


def check_driver(spec: EnvironmentSpec, driver: str) -> None:
    """Raises Problem "unsupported" when this kind of compute can never run such an environment."""
    if driver == DOCKER or not spec.needs_container:
        return
    what = "A Dockerfile" if spec.context else "An environment of only an image"
    reason = "process compute runs Python environments alone. Use Docker compute, or give a conda file or requirements."
    raise Problem("unsupported", what=what, reason=reason)


def translate(spec: EnvironmentSpec) -> Request:
    """What processes of this machine would be given.

    Raises Problem "environment-failed" for a conda file that cannot be translated, or a line uv must not see.
    """
    asked = packages.read(spec)
    return packages.request(asked, *benches.on_host(asked.python))


def ensure(
    spec: EnvironmentSpec,
    *,
    driver: str = "process",
    log: Log,
    check: Check,
    operation: Operation | None = None,
) -> Runnable:
    """The environment, built now or found. `log` gets each line as it comes; `check` raises to cancel.

    Args:
        driver: the kind of compute that will run it; containers need other builds than processes.
        operation: on whose behalf, for the history of `spec.version`.

    Raises:
        Problem: "unsupported" for this driver, "environment-failed" (which package or step, and why), "image-missing";
            "build-unavailable" (no index), "image-unavailable" (no registry), "driver-unavailable" (no engine),
            "disk-full".
    """
    check_driver(spec, driver)
    try:
        with history.attempt(spec, driver=driver, operation=operation) as told:
            if driver != DOCKER:
                return _for_processes(spec, told, log, check)
            return _for_containers(spec, told, log, check)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Problem("disk-full", evidence=str(error)) from None
        raise


def _for_processes(spec: EnvironmentSpec, told: Told, log: Log, check: Check) -> Runnable:
    asked = packages.read(spec)
    bench, remark = benches.on_host(asked.python)
    build = _packages(packages.request(asked, bench, remark), bench, told, log, check)
    path = Path(build.path)
    bytecode.compile_later(path, bench.interpreter)
    # Asked of the base interpreter: the environment's own would run what its packages brought with our rights.
    try:
        overlay = ensure_overlay(bench.interpreter.path, overlays(), uv.binary())
    except OverlayError as error:
        raise Problem("build-unavailable", reason=str(error)) from None
    return Runnable(build.key, path, path / "bin" / "python", overlay)


def _for_containers(spec: EnvironmentSpec, told: Told, log: Log, check: Check) -> Runnable:
    name, key = _image(spec, told, log, check)
    _touch_image(told.image_id)
    log(f"image {name}, {told.image_id[:19]}")
    if not spec.has_packages:
        with engine.connected() as api:
            facts = images.facts(api, told.image_id, check=check)
        return _as_it_is(key, facts, log)
    asked = packages.read(spec)
    bench, remark, abi = benches.in_image(name, told.image_id, asked.python, check=check)
    build = _packages(packages.request(asked, bench, remark), bench, told, log, check, name=name)
    path = Path(build.path)
    return Runnable(build.key, path, path / "bin" / "python", overlay_for(abi), bench.image)


def _image(spec: EnvironmentSpec, told: Told, log: Log, check: Check) -> tuple[str, str]:
    """The image's name, and what its environment is called when it has no packages of ours."""
    if spec.context:
        told.build, told.made = imagebuild.ensure(spec, log=log, check=check)
        told.image_id = told.build.image_id
        return told.build.image, told.build.key
    name = spec.image or settings.BASE_IMAGE
    with engine.connected() as api:
        told.image_id = images.have(api, name, log=log, check=check)
    return name, digest("image", told.image_id)


def _packages(wanted: Request, bench: Bench, told: Told, log: Log, check: Check, *, name: str = "") -> Build:
    for note in wanted.report:
        log(f"{note['line']}: {note['action']}, {note['reason']}")
    for remark in wanted.remarks:
        log(remark)
    try:
        with lock_of(wanted.key, check):
            build = packages.found(wanted)
            told.made = told.made or build is None
            build = build or packages.build(wanted, bench, name=name, log=log, check=check)
            told.build = build
            # before the lock is given back: who prunes sees that it is wanted, see apps.builds.prune
            Build.objects.filter(pk=build.pk).update(last_used_at=timezone.now())
    except uv.UvError as error:
        raise packages.problem_of(error) from None
    log(f"environment {build.key[:12]}, Python {build.python}")
    return build


def _as_it_is(key: str, facts: ImageFacts, log: Log) -> Runnable:
    if not facts.python or not facts.abi:
        why = facts.seen or "no Python was found in it"
        log(f"{why}: it runs what it brings, no scoring script and no model without a server of its own")
        return Runnable(key, None, None, None, facts.image_id)
    log(f"Python {facts.version} at {facts.python}")
    return Runnable(key, None, Path(facts.python), overlay_for(facts.abi), facts.image_id)


def _touch_image(image_id: str) -> None:
    """Pruning keeps what was asked for a moment ago."""
    Build.objects.filter(image_id=image_id, path="").update(last_used_at=timezone.now())


def overlays() -> Path:
    return Path(settings.HOME.environments) / "overlays"


def overlay_for(abi: list[object]) -> Path:
    try:
        return ensure_overlay_for(abi, overlays(), uv.binary())
    except OverlayError as error:
        raise Problem("build-unavailable", reason=str(error)) from None

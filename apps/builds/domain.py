"""Environments made runnable: content-addressed, built once, shared by every deployment that asks for the same."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from apps.builds import bytecode, conda, uv
from apps.builds.enums import BuildState
from apps.builds.explain import explain, hints
from apps.builds.models import Build, Resolution
from apps.builds.requirements import RequirementError, clean
from apps.core import disk
from apps.core.errors import Problem
from runtime.overlay import OverlayError, ensure_overlay

MARK = ".complete"
LOG_LIMIT = 200_000

Log = Callable[[str], None]
Check = Callable[[], None]


@dataclass(frozen=True)
class EnvironmentSpec:
    """What is asked for: a conda file's text or a requirements file's text, and the Python it names (or "").

    `image`: what containers run in, "" for the installation's base image. `context`: the tree of a Docker build
    instead, with `dockerfile` as the path in it. `extra`: requirements that Portway adds to the user's.
    """

    conda_file: str = ""
    requirements: str = ""
    python: str = ""
    image: str = ""
    context: str = ""
    dockerfile: str = ""
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runnable:
    """A built environment: `path` is its folder (never moved), `overlay` the serving packages behind it.

    `image`: what its containers run in; "" for processes. An image without packages of ours has no `path`; one in
    which no Python was found has neither `python` nor `overlay`.
    """

    key: str
    path: Path | None
    python: Path | None
    overlay: Path | None
    image: str = ""


@dataclass(frozen=True)
class Request:
    """A spec after translation: pip requirements for one interpreter of this machine."""

    requirements: tuple[str, ...]
    interpreter: uv.Interpreter
    report: tuple[dict[str, str], ...]
    remarks: tuple[str, ...]

    @property
    def key(self) -> str:
        return _digest("request", *self.requirements, self.interpreter.version, platform.machine())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def translate(spec: EnvironmentSpec) -> Request:
    """Raises Problem "environment-failed" for a conda file that cannot be translated, or a line uv must not see."""
    if spec.conda_file:
        try:
            translation = conda.translate(spec.conda_file)
        except conda.CondaError as error:
            hint = "Mend the conda file."
            raise Problem("environment-failed", reason=f"the conda file cannot be used: {error}.", hint=hint) from None
        requirements, wanted = translation.requirements, translation.python
        report = tuple(asdict(note) for note in translation.notes)
    else:
        lines = (line.strip() for line in spec.requirements.splitlines())
        requirements = [line for line in lines if line and not line.startswith("#")]
        wanted, report = spec.python, ()
    try:
        requirements = clean([*requirements, *spec.extra], addresses=settings.ALLOW_SOURCE_BUILDS)
    except RequirementError as error:
        raise Problem("environment-failed", reason=f"{error}.", hint="List packages only.") from None
    interpreter, remark = uv.choose(wanted)
    remarks = ([remark] if remark else []) + hints(requirements)
    return Request(tuple(sorted(requirements, key=str.lower)), interpreter, report, tuple(remarks))


def ensure(spec: EnvironmentSpec, *, log: Log, check: Check) -> Runnable:
    """The environment, built now or found. `log` gets each line as it comes; `check` raises to cancel.

    Raises:
        Problem: "environment-failed" (which package, and why), "build-unavailable" (no index), "disk-full".
    """
    request = translate(spec)
    for note in request.report:
        log(f"{note['line']}: {note['action']}, {note['reason']}")
    for remark in request.remarks:
        log(remark)
    try:
        with lock_of(request.key, check):
            build = _found(request) or _build(request, log, check)
            # before the lock is given back: who prunes sees that it is wanted, see apps.builds.prune
            Build.objects.filter(pk=build.pk).update(last_used_at=timezone.now())
    except uv.UvError as error:
        raise _problem(error) from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Problem("disk-full", evidence=str(error)) from None
        raise
    bytecode.compile_later(Path(build.path), request.interpreter)
    log(f"environment {build.key[:12]}, Python {build.python}")
    # Asked of the base interpreter: the environment's own would run what its packages brought with our rights.
    try:
        overlay = ensure_overlay(request.interpreter.path, Path(settings.HOME.environments) / "overlays", uv.binary())
    except OverlayError as error:
        raise Problem("build-unavailable", reason=str(error)) from None
    return Runnable(build.key, Path(build.path), Path(build.path) / "bin" / "python", overlay)


def _found(request: Request) -> Build | None:
    resolution = Resolution.objects.select_related("build").filter(request_key=request.key).first()
    if resolution is not None and resolution.build.path and (Path(resolution.build.path) / MARK).exists():
        return resolution.build
    return None


def _build(request: Request, log: Log, check: Check) -> Build:
    lock = _resolve(request, log, check)
    key = _digest(lock, request.interpreter.version, platform.machine())
    path = Path(settings.HOME.environments) / key[:20]
    build, _ = Build.objects.update_or_create(
        key=key,
        defaults={
            "state": BuildState.BUILDING,
            "path": str(path),
            "python": request.interpreter.version,
            "requirements": "\n".join(request.requirements),
            "lock": lock,
            "report": list(request.report),
            "error": None,
        },
    )
    lines: list[str] = []

    def tee(line: str) -> None:
        lines.append(line)
        log(line)

    try:
        with lock_of(key, check):
            if not (path / MARK).exists():
                _install(path, lock, request.interpreter, tee, check)
    except BaseException as error:
        _ended(build, BuildState.FAILED, lines, _problem(error).as_json() if isinstance(error, uv.UvError) else None)
        raise
    _ended(build, BuildState.SUCCEEDED, lines, None)
    Resolution.objects.update_or_create(request_key=request.key, defaults={"build": build})
    return build


def _ended(build: Build, state: BuildState, lines: list[str], error: dict[str, Any] | None) -> None:
    build.state, build.error, build.finished_at = state, error, timezone.now()
    room = disk.measure(Path(build.path))
    build.size_bytes = room.total if room.whole else None  # the controller looks again
    build.log = "\n".join(lines)[-LOG_LIMIT:]
    build.save()


def _resolve(request: Request, log: Log, check: Check) -> str:
    log(f"resolving {len(request.requirements)} requirements for Python {request.interpreter.version}")
    scratch = Path(settings.HOME.environments) / f"{request.key[:20]}.in"
    scratch.write_text("\n".join(request.requirements) + "\n")
    try:
        return uv.run(
            [
                "pip",
                "compile",
                "--no-header",
                "--no-annotate",
                *_wheels_only(),
                "-p",
                str(request.interpreter.path),
                str(scratch),
            ],
            cache=settings.UV_CACHE_DIR,
            timeout_s=uv.RESOLVE_S,
            log=lambda _line: None,
            check=check,
        )
    finally:
        scratch.unlink(missing_ok=True)


def _wheels_only() -> list[str]:
    """Building a source distribution runs its code with our rights, so it is off unless the operator allows it."""
    return [] if settings.ALLOW_SOURCE_BUILDS else ["--no-build"]


def _install(path: Path, lock: str, interpreter: uv.Interpreter, log: Log, check: Check) -> None:
    """Build at the final path, for environments cannot be moved; the mark is last, so a killed build is redone."""
    if path.exists():
        shutil.rmtree(path)
    began = time.monotonic()
    uv.run(
        ["venv", "-q", "-p", str(interpreter.path), str(path)],
        cache=settings.UV_CACHE_DIR,
        timeout_s=60,
        log=log,
        check=check,
    )
    (path / "requirements.lock").write_text(lock)
    if lock.strip():
        uv.run(
            [
                "pip",
                "install",
                "--python",
                str(path / "bin" / "python"),
                "--no-deps",
                *_wheels_only(),
                "-r",
                str(path / "requirements.lock"),
            ],
            cache=settings.UV_CACHE_DIR,
            timeout_s=uv.INSTALL_S,
            log=log,
            check=check,
        )
    seconds = round(time.monotonic() - began, 2)
    (path / MARK).write_text(json.dumps({"python": interpreter.version, "seconds": seconds}))


def _problem(error: BaseException) -> Problem:
    if isinstance(error, uv.UvError) and error.timed_out:
        return Problem("build-unavailable", reason="uv took too long.", evidence=error.output[-400:])
    told = explain(str(getattr(error, "output", error)))
    if told.reason == "the disk is full":
        return Problem("disk-full", evidence=told.evidence)
    if told.fault == "system":
        return Problem("build-unavailable", reason=f"{told.reason}.", evidence=told.evidence)
    return Problem("environment-failed", reason=f"{told.reason}.", hint=told.hint, evidence=told.evidence)


@contextmanager
def lock_of(name: str, check: Check) -> Iterator[None]:
    """One build of a key at a time on this machine; the lock ends with its process."""
    folder = Path(settings.HOME.environments) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name[:20]).open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(0.1)
        yield

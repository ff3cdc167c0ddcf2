"""Python packages as a folder: resolved and installed once, shared by whoever asks for the same on the same ground."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from apps.builds import conda, uv
from apps.builds.benches import Bench
from apps.builds.enums import BuildKind, BuildState
from apps.builds.explain import explain, hints
from apps.builds.models import Build, Resolution
from apps.builds.requirements import RequirementError, clean
from apps.builds.spec import (
    DOCKER,
    LINES_KEPT,
    LINES_TOLD,
    LOG_LIMIT,
    LONGEST_LINE,
    MARK,
    Check,
    EnvironmentSpec,
    Log,
    digest,
    lock_of,
)
from apps.core import disk
from apps.core.errors import Problem


@dataclass(frozen=True)
class Asked:
    """A spec after translation: pip requirements, the Python it names, what was changed, and advice."""

    requirements: tuple[str, ...]
    python: str
    report: tuple[dict[str, str], ...]
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What is asked, for one interpreter of this machine or of an image."""

    requirements: tuple[str, ...]
    interpreter: uv.Interpreter
    report: tuple[dict[str, str], ...]
    remarks: tuple[str, ...]
    image: str = ""

    @property
    def key(self) -> str:
        return digest("request", *self.requirements, *ground(self.interpreter, self.image))


def ground(interpreter: uv.Interpreter, image: str) -> list[str]:
    """What installed packages depend on, besides their names."""
    return [interpreter.version, platform.machine(), *([image] if image else [])]


def read(spec: EnvironmentSpec) -> Asked:
    """Raises Problem "environment-failed" for a conda file that cannot be translated, or a line uv must not see."""
    if spec.conda_file:
        try:
            translation = conda.translate(spec.conda_file)
        except conda.CondaError as error:
            raise Problem(
                "environment-failed",
                reason=f"the conda file cannot be used: {error}.",
                hint="Mend the conda file.",
                evidence=error.line,
            ) from None
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
    return Asked(tuple(sorted(requirements, key=str.lower)), wanted, report, tuple(hints(requirements)))


def request(asked: Asked, bench: Bench, remark: str) -> Request:
    remarks = (*([remark] if remark else ()), *asked.advice)
    return Request(asked.requirements, bench.interpreter, asked.report, remarks, bench.image)


def found(wanted: Request) -> Build | None:
    """The build that an equal request came to, while its folder is there."""
    resolution = Resolution.objects.select_related("build").filter(request_key=wanted.key).first()
    if resolution is not None and resolution.build.path and (Path(resolution.build.path) / MARK).exists():
        return resolution.build
    return None


def build(wanted: Request, bench: Bench, *, name: str, log: Log, check: Check) -> Build:
    """Resolve and install. `name`: of the image, as it was asked for. Raises UvError."""
    lock = resolve(wanted, bench, log, check)
    key = digest(lock, *ground(wanted.interpreter, wanted.image))
    path = Path(settings.HOME.environments) / key[:20]
    made, _ = Build.objects.update_or_create(
        key=key,
        defaults={
            "kind": BuildKind.PACKAGES,
            "driver": DOCKER if wanted.image else "process",
            "state": BuildState.BUILDING,
            "path": str(path),
            "image": name,
            "image_id": wanted.image,
            "python": wanted.interpreter.version,
            "requirements": "\n".join(wanted.requirements),
            "lock": lock,
            "report": list(wanted.report),
            "error": None,
        },
    )
    tee = Tee(log)
    try:
        with lock_of(key, check):
            if not (path / MARK).exists():
                install(path, lock, bench, tee, check)
    except BaseException as error:
        ended(made, BuildState.FAILED, tee.lines, error_json(error))
        raise
    ended(made, BuildState.SUCCEEDED, tee.lines, None)
    Resolution.objects.update_or_create(request_key=wanted.key, defaults={"build": made})
    return made


class Tee:
    """Passes lines on and keeps the last of them. An image's own programs may print for ever."""

    def __init__(self, log: Log) -> None:
        self.log, self.lines, self.told = log, list[str](), 0

    def __call__(self, line: str) -> None:
        self.lines.append(line[:LONGEST_LINE])
        if len(self.lines) > LINES_KEPT:
            del self.lines[: LINES_KEPT // 4]
        self.told += 1
        if self.told <= LINES_TOLD:
            self.log(self.lines[-1])
        elif self.told == LINES_TOLD + 1:
            self.log("… it prints too much to be shown any further")


def ended(build: Build, state: BuildState | str, lines: list[str], error: dict[str, Any] | None) -> None:
    """Write down how a build ended."""
    build.state, build.error, build.finished_at = state, error, timezone.now()
    if build.path:
        room = disk.measure(Path(build.path))
        build.size_bytes = room.total if room.whole else None  # the controller looks again
    build.log = "\n".join(lines)[-LOG_LIMIT:]
    build.save()


def error_json(error: BaseException) -> dict[str, Any] | None:
    if isinstance(error, uv.UvError):
        return problem_of(error).as_json()
    return error.as_json() if isinstance(error, Problem) else None


def resolve(wanted: Request, bench: Bench, log: Log, check: Check) -> str:
    log(f"resolving {len(wanted.requirements)} requirements for Python {wanted.interpreter.version}")
    scratch = Path(settings.HOME.environments) / f"{wanted.key[:20]}.in"
    scratch.write_text("\n".join(wanted.requirements) + "\n")
    arguments = ["pip", "compile", "--no-header", "--no-annotate", *_wheels_only()]
    try:
        return bench.run(
            [*arguments, "-p", str(bench.interpreter.path), str(scratch)],
            reads=scratch,
            writes=None,
            timeout_s=uv.RESOLVE_S,
            log=lambda _line: None,
            check=check,
        )
    finally:
        scratch.unlink(missing_ok=True)


def _wheels_only() -> list[str]:
    """Building a source distribution runs its code with our rights, so it is off unless the operator allows it."""
    return [] if settings.ALLOW_SOURCE_BUILDS else ["--no-build"]


def install(path: Path, lock: str, bench: Bench, log: Log, check: Check) -> None:
    """Build at the final path, for environments cannot be moved; the mark is last, so a killed build is redone."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    began = time.monotonic()
    scratch = path.with_name(f"{path.name}.lock")
    scratch.write_text(lock)
    try:
        bench.run(
            ["venv", "-q", "-p", str(bench.interpreter.path), str(path)],
            reads=None,
            writes=path,
            timeout_s=uv.VENV_S,
            log=log,
            check=check,
        )
        if lock.strip():
            python = ["--python", str(path / "bin" / "python")]
            # processes compile after the first start, with their own interpreter, see apps.builds.bytecode
            more = ["--compile-bytecode"] if bench.image else []
            bench.run(
                ["pip", "install", *python, "--no-deps", *_wheels_only(), *more, "-r", str(scratch)],
                reads=scratch,
                writes=path,
                timeout_s=uv.INSTALL_S,
                log=log,
                check=check,
            )
    finally:
        scratch.unlink(missing_ok=True)
    seconds = round(time.monotonic() - began, 2)
    _put(path / "requirements.lock", lock)
    _put(path / MARK, json.dumps({"python": bench.interpreter.version, "seconds": seconds}))


def _put(file: Path, text: str) -> None:
    """Write a new file where an image's programs have been: what they left there is no path for us to follow."""
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)


def problem_of(error: BaseException) -> Problem:
    """What uv's end means to who asked."""
    if isinstance(error, uv.UvError) and error.timed_out:
        return Problem("build-unavailable", reason="uv took too long.", evidence=error.output[-400:])
    told = explain(str(getattr(error, "output", error)))
    if told.reason == "the disk is full":
        return Problem("disk-full", evidence=told.evidence)
    if told.fault == "system":
        return Problem("build-unavailable", reason=f"{told.reason}.", evidence=told.evidence)
    return Problem("environment-failed", reason=f"{told.reason}.", hint=told.hint, evidence=told.evidence)

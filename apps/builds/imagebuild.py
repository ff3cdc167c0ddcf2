"""Building an image from a Dockerfile, on the engine's classic builder."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone
from docker.errors import APIError

from apps.builds import dockerfile, engine, images, packages
from apps.builds.dockerfile import ContextError
from apps.builds.engine import TookTooLong
from apps.builds.enums import BuildKind, BuildState
from apps.builds.models import Build
from apps.builds.spec import (
    DOCKER,
    LINES_KEPT,
    LINES_TOLD,
    LONGEST_LINE,
    Check,
    EnvironmentSpec,
    Log,
    digest,
    lock_of,
)
from apps.core.errors import Problem
from apps.registry import storage

ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
STEP = re.compile(r"Step (?P<number>\d+)/(?P<of>\d+) : (?P<what>.*)")
LAYER = re.compile(r" ---> ([0-9a-f]{12})$")
TELLS = re.compile(r"\berror\b|not found|no such|fatal|denied|cannot|failed|no matching|unable", re.IGNORECASE)
SAYS_NOTHING = re.compile(r"^\s*$|^\[notice\]|^WARNING: |returned a non-zero code|^ ---> |^Removing intermediate")
NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|Could not resolve"
    r"|Failed to establish a new connection"
    r"|Network is unreachable|No route to host|Connection timed out|Connection refused|dns error|Read timed out",
    re.IGNORECASE,
)
# what an engine says of a step that asks for what is not there; all else is its own fault
ASKED_WRONG = re.compile(
    r"(?:COPY|ADD) failed|forbidden path|no such file|not found|invalid|unknown|parse|must |requires"
    r"|unable to find user|exec format|cannot be",
    re.IGNORECASE,
)
KILLED = 137
DROP_S = 5.0


def ensure(spec: EnvironmentSpec, *, log: Log, check: Check, given: tuple[str, ...] = ()) -> tuple[Build, bool]:
    """The image of this context, built now or found on the engine; and whether it was built.

    `given`: images that its Dockerfile may name although they were built here: the caller has made them.

    Raises:
        Problem: "environment-failed" with the step that failed, "build-unavailable" when it had no network,
            "image-missing" or "image-unavailable" for what it is based on, "disk-full", "driver-unavailable".
    """
    key = key_of(spec)
    with lock_of(key, check):
        known = Build.objects.filter(pk=key, state=BuildState.SUCCEEDED).first()
        if known is not None and _is_there(known.image_id):
            log(f"image {known.image} was built before")
            build, made = known, False
        else:
            build, made = _build(spec, key, log, check, given), True
        # before the lock is given back: who prunes sees that it is wanted, see apps.builds.prune
        Build.objects.filter(pk=key).update(last_used_at=timezone.now())
    return build, made


def key_of(spec: EnvironmentSpec) -> str:
    """What an image depends on, as far as it is known before."""
    given = [f"{name}={value}" for name, value in sorted(arguments().items())]
    return digest(
        "dockerfile", spec.context, path_of(spec), hashlib.sha256(bundle()).hexdigest(), *given, platform.machine()
    )


def path_of(spec: EnvironmentSpec) -> str:
    return spec.dockerfile.removeprefix("./") or "Dockerfile"


def arguments() -> dict[str, str]:
    """The operator's build arguments; those of the package index under the names that pip and uv read."""
    index = settings.BUILD_INDEX_URL
    return {**({"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index} if index else {}), **settings.BUILD_ARGS}


def bundle() -> bytes:
    return Path(settings.BUILD_CA).read_bytes() if settings.BUILD_CA else b""


def tag_of(spec: EnvironmentSpec, key: str) -> str:
    """`portway/<installation>/<environment>:<key>`; what a name of an image cannot hold becomes a dash."""
    name = re.sub(r"[^a-z0-9]+", "-", spec.name.lower()).strip("-")[:100] or "environment"
    return f"portway/{settings.HOME.installation}/{name}:{key[:12]}"


def _is_there(image_id: str) -> bool:
    with engine.connected() as api:
        return bool(image_id) and bool(images.identify(api, image_id))


def _build(spec: EnvironmentSpec, key: str, log: Log, check: Check, given: tuple[str, ...]) -> Build:
    tag = tag_of(spec, key)
    build, _ = Build.objects.update_or_create(
        key=key,
        defaults={
            "kind": BuildKind.IMAGE,
            "driver": DOCKER,
            "state": BuildState.BUILDING,
            "image": tag,
            "image_id": "",
            "started_at": timezone.now(),
            "finished_at": None,
            "error": None,
        },
    )
    teller = Teller(log)
    try:
        build.image_id = _carried_out(spec, build, teller, check, given)
    except BaseException as error:
        _not_built(build, teller, error)
        raise
    with engine.connected() as api:
        build.size_bytes = images.size_of(api, build.image_id)
    packages.ended(build, BuildState.SUCCEEDED, teller.lines, None)
    log(f"image {tag}, {build.image_id[:19]}")
    return build


def _not_built(build: Build, teller: Teller, error: BaseException) -> None:
    """What the steps before had made speeds up the next try, so pruning takes it, not we; but not after a cancel."""
    build.image_id = teller.layer
    if isinstance(error, Problem) and error.code == "canceled":
        build.image_id = ""
        with contextlib.suppress(Problem), engine.connected() as api:
            deadline = time.monotonic() + DROP_S
            while not images.drop(api, teller.layer) and time.monotonic() < deadline:
                time.sleep(0.2)  # the engine is still taking the step's container away
    packages.ended(build, BuildState.FAILED, teller.lines, packages.error_json(error))


def _carried_out(spec: EnvironmentSpec, build: Build, teller: Teller, check: Check, given: tuple[str, ...]) -> str:
    root = storage.tree_path(spec.context)
    try:
        text = dockerfile.read(root, path_of(spec))
        wanted = dockerfile.images(text, arguments())
        with engine.connected() as api:
            for name in (each for each in wanted if each not in given):
                found = images.inspect(api, images.have(api, name, log=teller.tell, check=check))
                dockerfile.check_triggers(name, (found.get("Config") or {}).get("OnBuild") or [])
        with tempfile.TemporaryFile(dir=settings.HOME.uploads) as context:
            ca = bundle()
            ours = dockerfile.prepared(text, ca=bool(ca), arguments=arguments())
            most = settings.BUILD_CONTEXT_BYTES
            size = dockerfile.pack(root, path_of(spec), ours, context, ca=ca, most=most)
            teller.tell(f"build context: {size} bytes")
            context.seek(0)
            return _run(spec, build, context, teller, check)
    except ContextError as error:
        hint = "Mend the Dockerfile or its build context, then register a new version."
        raise Problem("environment-failed", reason=f"{error}.", hint=hint) from None


def _run(spec: EnvironmentSpec, build: Build, context: IO[bytes], teller: Teller, check: Check) -> str:
    limit = settings.BUILD_TIMEOUT_S
    with engine.connected(limit + engine.SLACK_S) as api:
        try:
            answer = api.build(
                fileobj=context,
                custom_context=True,
                decode=True,
                rm=True,
                forcerm=True,
                dockerfile=path_of(spec),
                tag=build.image,
                buildargs=arguments(),
                labels={images.BUILT_BY: settings.HOME.installation},  # each costs a step
                container_limits={
                    "memory": settings.BUILD_MEMORY,
                    "memswap": settings.BUILD_MEMORY,
                    "cpushares": engine.SHARES,
                },
                network_mode=settings.BUILD_NETWORK,
                timeout=limit + int(engine.SLACK_S),
            )
            image = ""
            for event in engine.follow(answer, close=api.hang_up, check=check, timeout_s=limit):
                image = teller.take(event) or image
        except APIError as error:
            raise teller.refused(error) from None
        except TookTooLong:
            hint = "Build less, or let the operator raise PORTWAY_BUILD_TIMEOUT_S."
            reason = f"it took longer than {limit} s, in {teller.step or 'its first step'}."
            raise Problem("environment-failed", reason=reason, hint=hint) from None
    if not image:
        raise Problem("driver-unavailable", reason="the container engine ended the build without a word.")
    return image


def secrets() -> list[str]:
    """What must not be read in a log: passwords in addresses, and all values of the operator's arguments."""
    found = [*settings.BUILD_ARGS.values()]
    for value in arguments().values():
        with contextlib.suppress(ValueError):
            parts = urlsplit(value)
            found += [value, parts.password or "", parts.username or ""] if parts.password or parts.username else []
    return sorted({each for each in found if len(each) >= 4}, key=len, reverse=True)  # noqa: PLR2004 -- "1" is no secret


@dataclass
class Teller:
    """Passes on what a build prints, line by line, and keeps what explains its end."""

    log: Log
    lines: list[str] = field(default_factory=list)
    step: str = ""
    layer: str = ""
    hidden: list[str] = field(default_factory=secrets)
    _rest: str = ""
    _since: int = 0
    _told: int = 0
    _cached: bool = False

    def tell(self, line: str) -> None:
        for secret in self.hidden:
            line = line.replace(secret, "***")
        self.lines.append(line[:LONGEST_LINE])
        if len(self.lines) > LINES_KEPT:
            del self.lines[: LINES_KEPT // 4]
            self._since = max(0, self._since - LINES_KEPT // 4)
        self._told += 1
        if self._told <= LINES_TOLD:
            self.log(self.lines[-1])
        elif self._told == LINES_TOLD + 1:
            self.log("… it prints too much to be shown any further")

    def take(self, event: dict[str, Any]) -> str:
        """One event of the engine; the image's id when it tells that. Raises Problem for a failed step."""
        text = self._rest + str(event.get("stream", ""))
        *lines, self._rest = text.split("\n")
        for line in lines:
            self._line(line)
        self._rest = self._rest[-LONGEST_LINE:]
        if "error" in event or "errorDetail" in event:
            if self._rest:
                self._line(self._rest)
            detail = event.get("errorDetail") or {}
            raise self._failed(str(event.get("error") or detail.get("message", "")), detail.get("code"))
        return str((event.get("aux") or {}).get("ID", ""))

    def _line(self, raw: str) -> None:
        line = ANSI.sub("", raw).rstrip().rpartition("\r")[2].replace("\x00", "")
        if not line:
            return
        begun, made = STEP.fullmatch(line), LAYER.fullmatch(line)
        if begun:
            self.step = f"step {begun['number']} of {begun['of']}: {begun['what'][:200]}"
            self._since = len(self.lines) + 1
        elif made and ": FROM" not in self.step and not self._cached:
            self.layer = made[1]
        self._cached = line == " ---> Using cache"
        self.tell(line)

    def _failed(self, message: str, code: int | None) -> Problem:
        message = self._hide(ANSI.sub("", message))
        printed = [line for line in self.lines[self._since :] if not SAYS_NOTHING.search(line)]
        evidence = next((line for line in reversed(printed) if TELLS.search(line)), "") or (printed or [message])[-1]
        if "no space left on device" in "\n".join([message, *printed[-20:]]).lower():
            return Problem("disk-full", evidence=message[:400])
        if code is None:
            return self._not_run(message)
        unreachable = next((line for line in reversed(printed) if NETWORK.search(line)), "")
        if unreachable:
            reason = f"{self._hide(self.step)} had no network."
            return Problem("build-unavailable", reason=reason, evidence=unreachable[:400])
        hint = "Mend that line of the Dockerfile; the build log shows what it printed."
        if code == KILLED:
            limit = settings.BUILD_MEMORY // 2**20
            hint = f"It was killed, most likely for using more than {limit} MiB of memory (PORTWAY_BUILD_MEMORY)."
        reason = f"{self._hide(self.step)} failed with exit code {code}."
        return Problem("environment-failed", reason=reason, hint=hint, evidence=evidence[:400])

    def _not_run(self, message: str) -> Problem:
        """No command ended with an error, but the engine could not carry out the step."""
        if images.UNREACHABLE.search(message):
            reason = f"{self._hide(self.step)} had no network."
            return Problem("build-unavailable", reason=reason, evidence=message[:400])
        if not ASKED_WRONG.search(message):
            return Problem("driver-unavailable", reason="the container engine failed.", evidence=message[:400])
        reason = f"{self._hide(self.step) or 'the Dockerfile'} cannot be carried out."
        return Problem("environment-failed", reason=reason, hint="Mend the Dockerfile.", evidence=message[:400])

    def refused(self, error: APIError) -> Problem:
        """The engine did not begin: a Dockerfile it cannot read, or something of its own."""
        message = self._hide(engine.told(error))
        if error.status_code == 400 or re.search(r"dockerfile|parse|instruction", message, re.IGNORECASE):  # noqa: PLR2004
            reason = "the engine cannot read the Dockerfile."
            return Problem("environment-failed", reason=reason, hint="Mend the Dockerfile.", evidence=message)
        return Problem("driver-unavailable", reason="the container engine failed.", evidence=message)

    def _hide(self, text: str) -> str:
        for secret in self.hidden:
            text = text.replace(secret, "***")
        return text

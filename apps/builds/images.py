"""Images that environments name: found on the engine or pulled, and looked into once."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import requests
from django.conf import settings
from django.utils import timezone
from docker.errors import APIError, ImageNotFound

from apps.builds import engine
from apps.builds.engine import Api, Job, NotStarted, TookTooLong
from apps.builds.enums import BuildKind, BuildState
from apps.builds.models import Build, ImageFacts
from apps.builds.spec import DOCKER, Check, Log, digest, lock_of
from apps.core.errors import Problem
from apps.registry.names import check_image
from runtime.overlay import ABI_PROBE, OLDEST

BUILT_BY = "portway.built-by"  # the label of images that are made here
PROBE_S = 20.0
TELL_EVERY_S = 2.0
KILLED = 137
CANDIDATES = (
    "python3",
    "python",
    "/opt/conda/bin/python",
    "/opt/miniconda/bin/python",
    "/opt/venv/bin/python",
    "/usr/local/bin/python3",
    "/usr/bin/python3",
)
# what an image says of itself is checked before any of it becomes part of a path or an argument
PATH = re.compile(r"(?:/[A-Za-z0-9_.+-]+)+", re.ASCII)
WORD = re.compile(r"[A-Za-z0-9_.-]{0,80}", re.ASCII)
UNREACHABLE = re.compile(
    r"no such host|dial tcp|i/o timeout|connection refused|TLS handshake|network is unreachable|deadline exceeded"
    r"|x509|server misbehaving|request canceled|EOF$",
    re.IGNORECASE,
)


NO_PROGRAM = re.compile(
    r"no such file|not found|exec format|permission denied|not a directory|is a directory", re.IGNORECASE
)
NO_ROOM = re.compile(r"no space left", re.IGNORECASE)
BUSY = re.compile(r"toomanyrequests|too many requests|rate limit|\b(?:429|5\d\d)\b", re.IGNORECASE)
MISSING = re.compile(
    r"not found|manifest unknown|name unknown|no matching manifest|does not exist|denied|unauthorized"
    r"|authentication required|no basic auth|\b40[134]\b",
    re.IGNORECASE,
)


def inspect(api: Any, reference: str) -> dict[str, Any]:
    """What the engine knows of it; its client has no types here. Raises ImageNotFound."""
    found: dict[str, Any] = api.inspect_image(reference)
    return found


def identify(api: Api, reference: str) -> str:
    """The id ("sha256:…") of an image that is on the engine, else ""."""
    try:
        return str(inspect(api, reference)["Id"])
    except ImageNotFound:
        return ""


def have(api: Api, reference: str, *, log: Log, check: Check) -> str:
    """The id of the image, pulled now when it is not there.

    Raises:
        Problem: "bad-field" for what is no name, "image-missing" (whose name it is, or whose rights), or
            "image-unavailable" when its registry does not answer or nothing may be pulled.
    """
    name = check_image(reference)
    found = identify(api, name)
    if found:
        return found
    if not settings.PULL_IMAGES:
        reason = "it is not on this machine, and pulling is switched off (PORTWAY_PULL_IMAGES)"
        raise Problem("image-unavailable", image=name, reason=reason)
    pull(name, log, check)
    found = identify(api, name)
    if not found:
        raise Problem("image-unavailable", image=name, reason="it is gone again after it was pulled")
    Build.objects.update_or_create(
        key=digest("pulled", found),
        defaults={
            "kind": BuildKind.PULLED,
            "driver": DOCKER,
            "state": BuildState.SUCCEEDED,
            "image": name,
            "image_id": found,
            "size_bytes": size_of(api, found),
            "finished_at": timezone.now(),
        },
    )
    return found


def size_of(api: Api, image: str) -> int | None:
    try:
        return int(inspect(api, image)["Size"])
    except ImageNotFound:
        return None


def drop(api: Api, image: str) -> bool:
    """Take an image away, with what only it is made of. False while a container or another image needs it."""
    try:
        if image:
            api.remove_image(image, force=False, noprune=False)
    except ImageNotFound:
        return True
    except APIError as error:
        if error.status_code != requests.codes.conflict:
            raise
        return False
    return True


def pull(name: str, log: Log, check: Check) -> None:
    """Fetch it, telling how far it is. Raises Problem "image-missing" or "image-unavailable"."""
    log(f"pulling {name}")
    with engine.connected(settings.PULL_TIMEOUT_S + engine.SLACK_S) as api:
        try:
            answer = api.pull(name, stream=True, decode=True)
            progress = Progress(log)
            events = engine.follow(answer, close=api.hang_up, check=check, timeout_s=settings.PULL_TIMEOUT_S)
            for event in events:
                if "error" in event:
                    raise _not_pulled(name, str(event["error"]))
                progress.take(event)
        except APIError as error:
            raise _not_pulled(name, engine.told(error)) from None
        except TookTooLong:
            reason = f"pulling it took longer than {settings.PULL_TIMEOUT_S} s"
            raise Problem("image-unavailable", image=name, reason=reason) from None


def _not_pulled(name: str, evidence: str) -> Problem:
    if UNREACHABLE.search(evidence):
        return Problem("image-unavailable", image=name, reason="its registry cannot be reached", evidence=evidence)
    if NO_ROOM.search(evidence):
        return Problem("disk-full", evidence=evidence)
    said = evidence.replace(name, "")  # a name may hold any number
    if BUSY.search(said):
        reason = "its registry is busy, failing or limits how much is pulled"
        return Problem("image-unavailable", image=name, reason=reason, evidence=evidence)
    if MISSING.search(said):
        return Problem("image-missing", image=name, evidence=evidence)
    return Problem("image-unavailable", image=name, reason="pulling it failed", evidence=evidence)


class Progress:
    """What a pull tells, in few lines: the end of each layer, and now and then how much is here."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.layers: dict[str, tuple[int, int]] = {}
        self.told = time.monotonic()

    def take(self, event: dict[str, Any]) -> None:
        status, layer, detail = str(event.get("status", "")), str(event.get("id", "")), event.get("progressDetail")
        if detail and status == "Downloading":
            self.layers[layer] = (int(detail.get("current", 0)), int(detail.get("total", 0)))
            if time.monotonic() - self.told >= TELL_EVERY_S:
                self.told = time.monotonic()
                here, whole = (sum(column) // 2**20 for column in zip(*self.layers.values(), strict=True))
                self.log(f"{here} of at least {whole} MiB")
        elif status and not detail:
            self.log(f"{layer}: {status}" if layer else status)


# ---- what is in it


def facts(api: Api, image_id: str, *, check: Check) -> ImageFacts:
    """Its Python, looked for once. Raises Problem "driver-unavailable" when the engine fails; then nothing is kept."""
    known = ImageFacts.objects.filter(pk=image_id).first()
    if known is not None:
        return known
    found = look(api, image_id, check)
    made, _ = ImageFacts.objects.update_or_create(image_id=image_id, defaults=found)
    return made


def look(api: Api, image_id: str, check: Check) -> dict[str, Any]:
    """Start the Pythons that may be in it, until one answers."""
    seen = ""
    for candidate in CANDIDATES:
        answer = _ask(api, image_id, candidate, check)
        if answer is None:
            continue
        if tuple(answer["abi"][0]) >= OLDEST:
            return {**answer, "seen": ""}
        seen = seen or f"Python {answer['version']} is too old for the scoring server"
    return {"python": "", "version": "", "abi": None, "seen": seen}


def _ask(api: Api, image_id: str, python: str, check: Check) -> dict[str, Any] | None:
    job = Job(
        name=f"portway-probe-{settings.HOME.installation}-{digest(image_id, python)[:12]}",
        image=image_id,
        argv=(python, "-I", "-c", ABI_PROBE),
        timeout_s=PROBE_S,
    )
    try:
        with lock_of(digest(job.name), check):
            ended = engine.run(api, job, log=lambda _line: None, check=check)
    except TookTooLong:
        raise _not_looked(f"{python} in the image did not answer within {PROBE_S:.0f} s") from None
    except NotStarted as error:
        if engine.ENGINE_TROUBLE.search(str(error)) or not NO_PROGRAM.search(str(error)):
            raise _not_looked(str(error)) from None
        return None
    if ended.code == KILLED or ended.out_of_memory:
        raise _not_looked(f"{python} in the image was killed before it answered")
    return understood(ended.out) if ended.code == 0 else None


def _not_looked(evidence: str) -> Problem:
    """What says nothing of the image, so it is asked again the next time."""
    reason = "the container engine could not look into the image."
    return Problem("driver-unavailable", reason=reason, evidence=evidence[:400])


def understood(text: str) -> dict[str, Any] | None:
    """What the probe printed, or None when that is not what it prints: the program in the image may be anything."""
    try:
        abi, python, version = json.loads(text)
        minor, *words = abi
        plain = (
            len(words) == 4  # noqa: PLR2004 -- see ABI_PROBE
            and all(isinstance(each, str) and WORD.fullmatch(each) for each in words)
            and [type(each) for each in minor] == [int, int]
            and re.fullmatch(rf"{minor[0]}\.{minor[1]}\.\d{{1,3}}", version)
            and PATH.fullmatch(python)
        )
    except (ValueError, TypeError):
        return None
    return {"abi": abi, "python": python, "version": version} if plain else None

"""Where uv works: on this machine, or in a throw-away container of an image with that image's own Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from django.conf import settings

from apps.builds import cache, engine, images, uv
from apps.builds.engine import ENGINE_TROUBLE, Job, NotStarted, TookTooLong
from apps.builds.spec import Check, Log, digest
from apps.core.errors import Problem

UV = "/opt/portway/uv"
CA = "/opt/portway/ca.pem"


class Bench(Protocol):
    """A Python and a way to run uv for it."""

    @property
    def interpreter(self) -> uv.Interpreter: ...

    @property
    def image(self) -> str:
        """The id of the image, or "" for this machine."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        reads: Path | None,
        writes: Path | None,
        timeout_s: float,
        log: Log,
        check: Check,
    ) -> str:
        """uv's output. `reads`, `writes`: the file and the folder it needs. Raises UvError."""


@dataclass(frozen=True)
class Host:
    interpreter: uv.Interpreter
    image: str = ""

    def run(
        self,
        arguments: Sequence[str],
        *,
        reads: Path | None,  # noqa: ARG002 -- a process sees every file
        writes: Path | None,  # noqa: ARG002
        timeout_s: float,
        log: Log,
        check: Check,
    ) -> str:
        return uv.run(
            arguments, cache=settings.UV_CACHE_DIR, timeout_s=timeout_s, log=log, check=check, env=index_settings()
        )


@dataclass(frozen=True)
class Container:
    """Folders of ours keep their paths in it, so that what is made there is right in every other container too."""

    interpreter: uv.Interpreter
    image: str
    trusted: bool
    """The operator chose this image, so it shares the cache of packages; any other has one of its own."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        reads: Path | None,
        writes: Path | None,
        timeout_s: float,
        log: Log,
        check: Check,
    ) -> str:
        kept = cache.cache_folder() if self.trusted else cache.apart() / self.image.removeprefix("sha256:")[:20]
        kept.mkdir(parents=True, exist_ok=True)
        os.utime(kept)  # who prunes sees that it is in use
        binds = [(str(settings.HANDOUT.uv), UV, False), (str(kept), str(kept), True)]
        binds += [(str(reads), str(reads), False)] if reads else []
        binds += [(str(writes), str(writes), True)] if writes else []
        env = {**passed_on(), **index_settings(), "UV_CACHE_DIR": str(kept), "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108
        if settings.BUILD_CA:
            binds.append((str(settings.BUILD_CA), CA, False))
            env["SSL_CERT_FILE"] = CA
        job = Job(
            name=f"portway-build-{settings.HOME.installation}-{digest(str(reads), str(writes))[:12]}",
            image=self.image,
            argv=(UV, *arguments),
            env={**env, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1", "UV_LINK_MODE": "copy"},
            binds=tuple(binds),
            network=settings.BUILD_NETWORK,
            user=f"{os.getuid()}:{os.getgid()}",
            memory=settings.BUILD_MEMORY,
            timeout_s=timeout_s,
        )
        return self._ended(job, log, check)

    def _ended(self, job: Job, log: Log, check: Check) -> str:
        try:
            with engine.connected(job.timeout_s + engine.SLACK_S) as api:
                ended = engine.run(api, job, log=log, check=check)
        except TookTooLong:
            raise uv.UvError("no end in time", timed_out=True) from None
        except NotStarted as error:
            if ENGINE_TROUBLE.search(str(error)):
                raise Problem("driver-unavailable", reason=str(error)) from None
            hint = "Take an image with glibc, such as one that is based on Debian, Ubuntu or Fedora."
            reason = "packages cannot be installed into this image: it cannot run uv."
            raise Problem("environment-failed", reason=reason, hint=hint, evidence=str(error)) from None
        if ended.out_of_memory:
            limit = f"{job.memory // 2**20} MiB"
            hint = "Ask for fewer packages, or let the operator raise PORTWAY_BUILD_MEMORY."
            raise Problem("environment-failed", reason=f"the build used more than its {limit} of memory.", hint=hint)
        if ended.code != 0:
            raise uv.UvError("\n".join(ended.err[-uv.LAST_LINES :]))
        return ended.out


def passed_on() -> dict[str, str]:
    """What of our environment a container needs to reach the index; paths of this machine mean nothing there."""
    names = {name for name in uv.KEEP if name.lower().endswith("_proxy")}
    names |= {name for name in os.environ if name.startswith(("UV_", "PIP_INDEX"))} - {"UV_CACHE_DIR", "UV_PYTHON"}
    return {name: os.environ[name] for name in sorted(names) if name in os.environ}


def index_settings() -> dict[str, str]:
    return {"UV_DEFAULT_INDEX": settings.BUILD_INDEX_URL} if settings.BUILD_INDEX_URL else {}


def on_host(wanted: str) -> tuple[Host, str]:
    """The bench of processes, and a sentence when its Python is not quite the one that is wanted."""
    interpreter, remark = uv.choose(wanted)
    return Host(interpreter), remark


def in_image(name: str, image_id: str, wanted: str, *, check: Check) -> tuple[Container, str, list[object]]:
    """The bench in an image that is on the engine, the sentence, and its Python's ABI.

    Raises:
        Problem: "environment-failed" when no Python that we can use is in it.
    """
    with engine.connected() as api:
        facts = images.facts(api, image_id, check=check)
        trusted = image_id == images.identify(api, settings.BASE_IMAGE)
    if not facts.python or not facts.abi:
        least = ".".join(map(str, uv.OLDEST))
        reason = f"image {name} has no Python {least} or newer{': ' + facts.seen if facts.seen else ''}."
        hint = "Take an image with Python, or leave the image out: then the installation's own is used."
        raise Problem("environment-failed", reason=reason, hint=hint)
    interpreter = uv.Interpreter(Path(facts.python), facts.version)
    remark = ""
    if uv.minor_of(wanted) not in {"", interpreter.minor}:
        remark = f"Python {wanted} is asked for but image {name} has Python {facts.version}, which is used."
    return Container(interpreter, image_id, trusted), remark, facts.abi

"""The container engine as builds use it: throw-away containers and long answers, every one bounded and cancelable."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker
import requests
import structlog
import urllib3
from django.conf import settings
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream, LogConfig, Mount
from docker.utils import kwargs_from_env

from apps.builds.spec import Check, Log
from apps.core.errors import Problem

log = structlog.get_logger(__name__)

QUICK_S = 30.0
SLACK_S = 60.0  # our own deadlines pass before the engine's client gives up
POLL_S = 0.3
LONGEST_OUTPUT, LONGEST_LINE = 20 * 2**20, 10_000
LABEL = "portway.build"  # containers of builds; the compute driver looks for other labels
UNTIL = "portway.build.until"
NOBODY = "65534:65534"
SHARES = 512  # of the processors, when they are scarce: half of what a replica gets
# what an engine says when it fails itself, whatever the image is
ENGINE_TROUBLE = re.compile(r"create endpoint|networking|no space left|cgroup|overlay|daemon", re.IGNORECASE)
_END = object()


class TookTooLong(Exception):  # noqa: N818 -- a condition
    """The deadline passed before the engine had ended."""


class NotStarted(Exception):  # noqa: N818 -- a condition
    """The engine made the container and could not start its program; the text is the engine's."""


class Api(docker.APIClient):
    """Remembers the answer it reads from, so that a long one can be hung up on: that is how a build is ended."""

    answer: requests.Response | None = None

    def _post(self, url: str, **more: Any) -> Any:
        self.answer = super()._post(url, **more)  # type: ignore[misc]  # not in its stubs
        return self.answer

    def hang_up(self) -> None:
        if self.answer is not None:
            with contextlib.suppress(Exception):  # closed already, in one of the many ways a socket can be
                CancellableStream(iter(()), self.answer).close()


@contextlib.contextmanager
def connected(timeout_s: float = QUICK_S) -> Iterator[Api]:
    """The engine. `timeout_s`: how long it may be silent.

    Raises:
        Problem: "driver-unavailable" when there is none, it does not answer, or it fails in a way nobody expects.
    """
    if not settings.DOCKER_URL:
        raise Problem("driver-unavailable", reason="no container engine is set, see PORTWAY_DOCKER.")
    tls = kwargs_from_env().get("tls") if os.environ.get("DOCKER_HOST") == settings.DOCKER_URL else None
    try:
        api = Api(base_url=settings.DOCKER_URL, version="auto", timeout=int(timeout_s), tls=tls or False)
    except (DockerException, requests.RequestException, OSError) as error:
        raise _away(error) from None
    try:
        yield api
    except APIError as error:
        raise Problem("driver-unavailable", reason="the container engine failed.", evidence=told(error)) from None
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _away(error) from None
    finally:
        api.close()


def _away(error: Exception) -> Problem:
    return Problem("driver-unavailable", reason="the container engine does not answer.", evidence=str(error)[:400])


def told(error: APIError) -> str:
    """What the engine says, as one line."""
    return " ".join(str(error.explanation or error).split())[:400]


def follow(items: Iterable[Any], *, close: Callable[[], None], check: Check, timeout_s: float) -> Iterator[Any]:
    """The items as they come, while asking `check` all the time.

    Raises:
        TookTooLong: after `timeout_s` seconds; `close` has been called then, as after whatever `check` raises.
    """
    reader = Reader(items)
    reader.start()
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            check()
            if time.monotonic() > deadline:
                raise TookTooLong
            try:
                item = reader.inbox.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if item is _END:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        reader.over.set()
        close()
        reader.join(timeout=5)


class Reader(threading.Thread):
    """Waits for the engine, so that who consumes can do other things meanwhile. It ends when its source is closed."""

    def __init__(self, items: Iterable[Any]) -> None:
        super().__init__(name="engine-reader", daemon=True)
        self.items = items
        self.inbox: queue.Queue[Any] = queue.Queue(maxsize=1000)
        self.over = threading.Event()

    def run(self) -> None:
        try:
            for item in self.items:
                self._offer(item)
        except Exception as error:  # noqa: BLE001 -- raised again where it can be handled
            self._offer(error)
        self._offer(_END)

    def _offer(self, item: Any) -> None:
        while not self.over.is_set():
            with contextlib.suppress(queue.Full):
                self.inbox.put(item, timeout=POLL_S)
                return


# ---- throw-away containers


@dataclass(frozen=True)
class Job:
    """A program to run once in an image. Without network and rights unless asked for; `binds` are
    (source, target, writable).
    """

    name: str
    image: str
    argv: tuple[str, ...]
    timeout_s: float
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[tuple[str, str, bool], ...] = ()
    network: str = "none"
    user: str = NOBODY
    memory: int = 512 * 2**20


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: tuple[str, ...]
    out_of_memory: bool


def run(api: Api, job: Job, *, log: Log, check: Check) -> Ended:
    """Run it to its end, passing on each line of its errors; nothing of it is left then.

    Raises:
        NotStarted, TookTooLong, whatever `check` raises.
    """
    remove(api, job.name)  # of a builder that was killed: it would write into the same folder
    made = _create(api, job)
    try:
        output = api.attach(made, stdout=True, stderr=True, stream=True, logs=True, demux=True)
        try:
            api.start(made)
        except APIError as error:
            raise NotStarted(told(error)) from None
        out, err = _collect(output, job.timeout_s, log, check)
        code = int(api.wait(made, timeout=int(QUICK_S))["StatusCode"])
        return Ended(code, out, err, bool(api.inspect_container(made)["State"].get("OOMKilled")))
    finally:
        remove(api, made)


def _create(api: Api, job: Job) -> str:
    host = api.create_host_config(
        mounts=[Mount(target, source, type="bind", read_only=not write) for source, target, write in job.binds],
        network_mode=job.network,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        tmpfs={"/tmp": "rw,nosuid,nodev,exec"},  # noqa: S108 -- a path in the container
        mem_limit=job.memory,
        memswap_limit=job.memory,
        pids_limit=512,
        cpu_shares=SHARES,
        init=True,
        log_config=LogConfig(type="json-file", config={"max-size": "20m", "max-file": "1"}),
    )
    made = api.create_container(
        job.image,
        entrypoint=[job.argv[0]],
        command=list(job.argv[1:]),
        name=job.name,
        user=job.user,
        working_dir="/",
        environment=dict(job.env),
        labels={LABEL: settings.HOME.installation, UNTIL: str(int(time.time() + job.timeout_s + 60))},
        healthcheck={"test": ["NONE"]},
        host_config=host,
    )
    return str(made["Id"])


def _collect(output: Any, timeout_s: float, log: Log, check: Check) -> tuple[str, tuple[str, ...]]:
    out, rest, err = bytearray(), b"", []
    for chunk_out, chunk_err in follow(output, close=lambda: _close(output), check=check, timeout_s=timeout_s):
        if chunk_out and len(out) < LONGEST_OUTPUT:
            out += chunk_out[: LONGEST_OUTPUT - len(out)]
        *lines, rest = (rest + (chunk_err or b"")).split(b"\n")
        for line in lines:
            err.append(line[:LONGEST_LINE].decode("utf-8", "replace"))
            log(err[-1])
        del err[:-500]
        rest = rest[-LONGEST_LINE:]
    if rest:
        err.append(rest.decode("utf-8", "replace"))
        log(err[-1])
    return out.decode("utf-8", "replace"), tuple(err)


def _close(output: Any) -> None:
    with contextlib.suppress(Exception):  # closed already, in one of the many ways a socket can be
        output.close()


def remove(api: Api, container: str) -> None:
    """Take the container away, whatever it does; fine when it is gone."""
    with contextlib.suppress(NotFound):
        try:
            api.remove_container(container, v=True, force=True)
        except APIError as error:
            if error.status_code != requests.codes.conflict:  # being removed already
                raise


def _is_job(container: Mapping[str, Any]) -> bool:
    """Replicas take over the labels of their images, whatever these say; our names they never have."""
    here = settings.HOME.installation
    ours = tuple(f"/portway-{kind}-{here}-" for kind in ("build", "probe"))
    return any(name.startswith(ours) for name in container.get("Names") or [])


def _until(labels: Mapping[str, str]) -> int:
    text = labels.get(UNTIL, "")
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else 0


def sweep() -> int:
    """Remove containers of builders that were killed, once their time is over; how many."""
    if not settings.DOCKER_URL:
        return 0
    removed = 0
    try:
        with connected() as api:
            for each in api.containers(all=True, filters={"label": f"{LABEL}={settings.HOME.installation}"}):
                if _is_job(each) and _until(each["Labels"]) < time.time():
                    remove(api, each["Id"])
                    removed += 1
    except Problem as problem:
        log.warning("builds.not_swept", reason=problem.message, evidence=problem.evidence)
    if removed:
        log.info("builds.swept", containers=removed)
    return removed

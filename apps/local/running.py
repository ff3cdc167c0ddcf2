"""One local deployment: started with a driver, asked, looked at, and taken away. Its record is a file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.builds.domain import Runnable
from apps.compute import probe
from apps.compute.domain import Recipe, causes
from apps.compute.domain.recipes import OWNER, driver
from apps.compute.domain.sizes import machine
from apps.compute.drivers.base import Driver, Handle, Mount, Network, Observation, ReplicaSpec, Resources, State
from apps.compute.quantities import Size
from apps.core.errors import Problem
from apps.endpoints.contents import contents_of
from apps.endpoints.models import OnlineDeployment
from apps.endpoints.recipes import assemble
from apps.endpoints.servers import Server

DEBUG_S = 600.0
POLL_S = 0.1
LINES = 200


@dataclass(frozen=True)
class Record:
    """What is known of a deployment between two commands."""

    name: str
    endpoint: str
    file: str
    driver: str
    replica: str
    revision: int
    recipe: dict[str, Any]
    ready: bool = False

    @property
    def handle(self) -> Handle:
        return Handle(self.driver, self.replica)

    @property
    def back_end(self) -> Driver:
        return driver(self.driver)

    @property
    def spec(self) -> Recipe:
        return Recipe.from_json(self.recipe)


def folder_of(name: str) -> Path:
    return Path(settings.HOME.root) / "local" / name


def save(record: Record) -> Record:
    folder_of(record.name).mkdir(parents=True, exist_ok=True)
    settings.HOME.write_private(folder_of(record.name) / "record.json", json.dumps(asdict(record)))
    return record


def every() -> list[Record]:
    return [Record(**json.loads(each.read_text())) for each in sorted(folder_of("").glob("*/record.json"))]


def find(name: str) -> Record:
    """The deployment of that name, or the only one. Raises Problem "not-found" or "bad-field"."""
    found = every()
    if not name and len(found) == 1:
        return found[0]
    if not name:
        names = ", ".join(each.name for each in found) or "none"
        raise Problem("bad-field", field="name", reason=f"say which deployment; there are: {names}")
    for each in found:
        if each.name == name:
            return each
    raise Problem("not-found", kind="local deployment", name=name)


def recipe_of(deployment: OnlineDeployment, runnable: Runnable, server: Server) -> Recipe:
    """What the server would run, as large as this machine is."""
    cores, memory = machine()
    recipe = assemble(deployment, runnable, server, Size(cores, memory // 2, 0), contents_of(deployment))
    if deployment.model is not None and deployment.model.source:
        recipe = replace(recipe, mounts=tuple(_alone(each, deployment.model.source) for each in recipe.mounts))
    return recipe


def _alone(mount: tuple[str, str], folder: str) -> tuple[str, str]:
    """Of a model's folder only itself is mounted, not what lies beside it."""
    source, target = mount
    return (folder, f"{target}/{Path(folder).name}") if source == str(Path(folder).parent) else mount


def debugged(recipe: Recipe, port: int) -> Recipe:
    """Waiting for a debugger before anything of the user's runs. It needs the machine's loopback, so no own network."""
    python, *rest = recipe.argv
    argv = (python, "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client", *rest)
    return replace(recipe, argv=argv, egress=True, start_deadline_s=DEBUG_S, env=recipe.env | {"WORKER_COUNT": "1"})


def start(record: Record, *, log: Callable[[str], None]) -> Record:
    """Start it in place of what runs under its name, and wait until it answers. Raises Problem why it does not."""
    recipe = record.spec
    spec = ReplicaSpec(
        name=record.replica,
        owner=OWNER,
        argv=recipe.argv,
        env=recipe.env,
        resources=Resources(recipe.cpu_milli, recipe.mem_bytes),
        mounts=tuple(Mount(source, target) for source, target in recipe.mounts),
        labels=recipe.labels,
        network=Network.EGRESS if recipe.egress else Network.NONE,
        grace_s=recipe.grace_s,
        image=recipe.image,
        port=recipe.port,
        image_user=recipe.image_user,
    )
    record.back_end.forget(record.handle)
    save(record)
    record.back_end.start(spec)
    shown = ""
    deadline = time.monotonic() + recipe.start_deadline_s
    answer = probe.Answer(False)
    while time.monotonic() < deadline:
        seen = record.back_end.observe(record.handle)
        if seen.state in {State.EXITED, State.GONE}:
            raise why(record, seen)
        if seen.address:
            ready = probe.at(seen.address, recipe.ready_port)
            answer = probe.ask(ready, recipe.ready_path, timeout_s=recipe.probe_s)
            if answer.ok:
                return save(replace(record, ready=True))
            if answer.said != shown:
                shown = answer.said
                log(f"not ready yet: {shown}")
        time.sleep(POLL_S)
    raise Problem("not-ready", deployment=record.name, seconds=int(recipe.start_deadline_s), evidence=answer.said)


def why(record: Record, seen: Observation) -> Problem:
    """In the words of the server's own pages."""
    return causes.told(seen, record.name, lines(record), recipe=record.spec, ready=record.ready)


def lines(record: Record, count: int = LINES) -> list[str]:
    return [line.text for line in record.back_end.logs(record.handle, tail=count)]


def state(record: Record) -> tuple[str, Observation]:
    """Its state in a word, and what the driver sees."""
    seen = record.back_end.observe(record.handle)
    if seen.state is State.RUNNING and seen.address:
        ready = probe.at(seen.address, record.spec.ready_port)
        return ("ready" if probe.ask(ready, record.spec.ready_path).ok else "not ready"), seen
    return str(seen.state), seen


def invoke(record: Record, body: bytes, *, timeout_s: float) -> tuple[int, bytes]:
    """(status, body) of one request. Raises Problem when nobody answers."""
    seen = record.back_end.observe(record.handle)
    if seen.state is State.EXITED:
        raise why(record, seen)
    if seen.state is not State.RUNNING or not seen.address:
        raise Problem("conflict", reason=f"{record.name} does not run or does not listen yet; see portway local show.")
    link = probe.connection(seen.address, timeout_s=timeout_s)
    try:
        link.request("POST", record.spec.score_path, body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        return answer.status, answer.read()
    except OSError as error:
        raise Problem("conflict", reason=f"{record.name} does not answer within {timeout_s:g} s: {error}") from None
    finally:
        link.close()


def follow(record: Record) -> Iterator[str]:
    """Its log as it grows, until it has ended or Ctrl-C."""
    mark = ""
    while True:
        living = record.back_end.observe(record.handle).state in {State.STARTING, State.RUNNING}
        while (chunk := record.back_end.read(record.handle, after=mark)).lines:
            yield from (line.text for line in chunk.lines)
            mark = chunk.mark
        if not living:
            return
        time.sleep(POLL_S * 3)


def remove(record: Record) -> None:
    """Nothing of it is left then, but the environment, which others may share."""
    record.back_end.stop(record.handle, grace_s=2.0)
    record.back_end.forget(record.handle)
    shutil.rmtree(folder_of(record.name), ignore_errors=True)
    leave = getattr(record.back_end, "leave", None)
    if leave is not None and not any(each.driver == record.driver for each in every()):
        leave()


@contextmanager
def cleaned(record: Record) -> Iterator[None]:
    """What Ctrl-C interrupts is stopped; what failed by itself stays, for its log to be read."""
    try:
        yield
    except KeyboardInterrupt:
        remove(record)
        raise

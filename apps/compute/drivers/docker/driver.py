"""Start, find again, observe and end replicas as containers of one engine."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

from apps.compute.drivers import files, specs
from apps.compute.drivers.base import (
    SOCKET_NAME,
    DriverUnavailable,
    Handle,
    ImageError,
    LogChunk,
    LogLine,
    Observation,
    ReplicaSpec,
    SpecError,
    State,
    Usage,
)
from apps.compute.drivers.docker import containers, logs, networks, options, programs, usage, validation, views
from apps.compute.drivers.docker.engine import Engine, said, unwilling
from apps.compute.drivers.docker.options import Place
from apps.compute.drivers.docker.sockets import SocketFolder
from apps.compute.drivers.docker.views import Container

BEFORE = ".before"
"""Ending of the name of the container that ran under this name with another spec: its log is the log's beginning."""
ATTEMPTS = 5
LOCKS = 64


class DockerDriver:
    """One container per replica, on the engine at `url`, which need not answer yet.

    `installation`: on every container's label; no other container is ever touched. `base_image`: what Python
    environments without an image of their own run in. `run_dir`: a short folder for sockets that the gateway can
    enter, and that the engine sees under the same path. Images are never fetched: what is missing is an error.
    """

    name = "docker"

    def __init__(self, url: str, installation: str, base_image: str, run_dir: Path, *, timeout_s: float = 10.0) -> None:
        self.engine = Engine(url, timeout_s=timeout_s)
        self.installation = installation
        self.base_image = base_image
        self.run_dir = run_dir.absolute()
        (self.run_dir / ".locks").mkdir(mode=0o755, parents=True, exist_ok=True)

    # -- what this engine gives

    def describe(self) -> dict[str, Any]:
        """For the console: what the engine keeps, in the shape of the process driver's."""
        info = self.engine.info()
        level = " ".join(["docker", *views.extras(info)])
        missing = "" if views.security(info)["apart"] else " (net.bridge.bridge-nf-call-iptables is 0)"
        return {
            "level": level + missing,
            "levels": [{"level": level + missing, "reason": ""}],
            "guarantees": views.guarantees(info),
            "required": None,
            "user": self._place().user,
            "engine": info.get("ServerVersion", ""),
            "storage": info.get("Driver", ""),
            "cgroup_version": int(info.get("CgroupVersion") or 1),
        }

    def _place(self) -> Place:
        rootless = views.security(self.engine.info())["rootless"]
        user = options.user_for(euid=os.geteuid(), egid=os.getegid(), rootless=rootless)
        return Place(self.installation, self.base_image, user)

    # -- start

    def validate(self, spec: ReplicaSpec) -> None:
        socket = str(self.run_dir / spec.name / SOCKET_NAME)
        validation.check(spec, self.engine.info(), socket=socket, root=os.geteuid() == 0)

    def start(self, spec: ReplicaSpec) -> Handle:
        self.validate(spec)
        image = self._image(spec)
        place = self._place()
        with self._lock(spec.name):
            for _ in range(ATTEMPTS):
                if self._brought_up(spec, place, image):
                    return Handle(self.name, spec.name)
        raise DriverUnavailable(f"The container of {spec.name} is removed again and again by somebody else.")

    def _image(self, spec: ReplicaSpec) -> dict[str, Any]:
        name = spec.image or self.base_image
        try:
            with self.engine.asked() as client:
                found: dict[str, Any] = client.inspect_image(name)
        except (ImageNotFound, NotFound):
            raise ImageError(
                f"The image {name} is not on the machine of the container engine, and Portway fetches none by itself. "
                f"Pull it there (docker pull {name}), or build it."
            ) from None
        except APIError as error:
            raise ImageError(f"The image {name} cannot be used: {said(error)}") from error
        return found

    def _brought_up(self, spec: ReplicaSpec, place: Place, image: dict[str, Any]) -> bool:
        """One attempt; False: the container was not what it seemed, look again."""
        found = self._look(options.container_name(self.installation, spec.name))
        if found is None:
            return self._make(spec, place, image)
        if not found.belongs_to(self.installation):
            raise SpecError(f"The container {found.name} was not made by Portway: remove it, its name is needed.")
        same = found.digest == options.digest(spec, place)
        if same and found.living:
            return True
        if same and found.image == image["Id"] and found.status in {"created", "exited"}:
            self._prepare(spec, place)
            return self._launched(spec, found.id)
        self._set_aside(spec.name, found, grace_s=spec.grace_s)
        return False

    def _make(self, spec: ReplicaSpec, place: Place, image: dict[str, Any]) -> bool:
        program = programs.program_of(spec, image)
        kind = networks.kind_of(spec)
        lock = self._locked(f"network-{kind}")
        # "none" is a name that the engine itself knows
        network = kind if kind == "none" else networks.ensure(self.engine, self.installation, kind, lock=lock)
        container = self._created(spec, place, network, sockets=self._prepare(spec, place))
        if container is None:
            return False
        if program:
            try:
                programs.check(self.engine, container, program)
            except ImageError:
                self._remove(container)
                raise
        return self._launched(spec, container)

    def _prepare(self, spec: ReplicaSpec, place: Place) -> str:
        """The empty socket folder, for one that listens there; "" for others."""
        folder = self._folder(spec.name)
        if spec.port is not None:
            folder.remove()
            return ""
        anybody = spec.image_user or views.security(self.engine.info())["userns"]
        folder.prepare(place.user, anybody=anybody)
        return str(folder.inside)

    def _created(self, spec: ReplicaSpec, place: Place, network: str, *, sockets: str) -> str | None:
        """The new container's id; None when there is one of that name by now, or the network has just gone."""
        name = options.container_name(self.installation, spec.name)
        try:
            with self.engine.asked(slow=True) as client:
                host = client.create_host_config(**options.host(spec, place, network=network, sockets=sockets))
                made = client.create_container(**options.creation(spec, place), host_config=host, name=name)
        except APIError as error:
            if error.status_code == HTTPStatus.CONFLICT:
                return None
            if isinstance(error, ImageNotFound):
                raise ImageError(f"The image {spec.image or self.base_image} was removed: {said(error)}") from error
            if error.is_client_error():
                raise SpecError(f"The container engine refuses this: {said(error)}") from error
            raise unwilling(error) from error
        return str(made["Id"])

    def _launched(self, spec: ReplicaSpec, container: str) -> bool:
        """Start what was made; False when its network has gone since, so that it must be made anew."""
        try:
            with self.engine.asked(slow=True) as client:
                client.start(container)
        except APIError as error:
            seen = self._look(container)
            if networks.lost(said(error)):
                networks.find(self.engine, self.installation, networks.kind_of(spec))
                if seen is not None:
                    self._set_aside(spec.name, seen, grace_s=0.0)
                return False
            if seen is not None and seen.started is None:
                self._remove(container)  # it never ran: nothing of it is worth keeping
            elif seen is None:
                return False
            raise self._refusal(spec, error) from error
        return True

    def _refusal(self, spec: ReplicaSpec, error: APIError) -> Exception:
        words = said(error)
        if "could not select device driver" in words:
            return SpecError(f"The machine has no graphics card that its container engine can give away: {words}")
        if error.status_code == HTTPStatus.BAD_REQUEST or "exec:" in words:
            return ImageError(f"The image {spec.image or self.base_image} cannot be started: {words}")
        return unwilling(error)

    def _set_aside(self, name: str, found: Container, *, grace_s: float) -> None:
        """Free the name, and keep the log: a replica of another spec goes on in it."""
        if found.living:
            containers.end(self.engine, found, grace_s=grace_s)
        if found.started is None or found.status not in {"exited", "running", "paused"}:
            self._remove(found.id)
            return
        if before := self._before(name):
            self._remove(before.id)
        containers.rename(self.engine, found, found.name + BEFORE)

    # -- observe

    def observe(self, handle: Handle) -> Observation:
        found = self._ours(handle)
        if found is None:
            return Observation(handle.name, State.GONE)
        about = views.isolation(found, self.engine.info())
        seen = Observation(handle.name, State.STARTING, started_at=found.started, isolation=about)
        if full := self._folder(handle.name).overfull():
            if found.living:
                containers.end(self.engine, found, grace_s=0.0)
            ended = datetime.fromtimestamp(time.time(), UTC) if found.living else found.ended
            return dataclasses.replace(seen, state=State.EXITED, exit_code=views.KILLED, ended_at=ended, failure=full)
        if found.living:
            seen = dataclasses.replace(seen, oom=self._ran_out_of_memory(found))
            address = self._address(handle, found)
            return dataclasses.replace(seen, state=State.RUNNING, address=address) if address else seen
        if found.status == "created":
            return views.unstarted(seen, found, now=datetime.fromtimestamp(time.time(), UTC))
        return views.ended(seen, found, self._folder(handle.name).failure())

    def _address(self, handle: Handle, found: Container) -> str | None:
        if found.port:
            return f"{found.address}:{found.port}" if found.address else None
        return self._folder(handle.name).address()

    def _ran_out_of_memory(self, found: Container) -> bool:
        """Whether the kernel has killed something in it since it was started, be it not its first process."""
        kills = usage.oom_kills(usage.groups(found.id, found.pid))
        if kills is not None or found.started is None:
            return bool(kills)
        wanted = {"container": found.id, "event": "oom"}
        since, until = f"{found.started.timestamp():.6f}", f"{time.time():.6f}"
        with self.engine.obeyed() as client:
            return any(True for _ in client.events(since=since, until=until, filters=wanted, decode=True))

    # -- end

    def stop(self, handle: Handle, *, grace_s: float) -> None:
        found = self._ours(handle)
        if found is not None and found.living:
            containers.end(self.engine, found, grace_s=grace_s)
        if found is None or not self._is_odd(handle):
            with self._lock(handle.name):  # or it would take away what a start that runs just now has opened
                again = self._ours(handle)
                if again is None or not again.living:
                    self._folder(handle.name).close()

    def forget(self, handle: Handle) -> None:
        found = self._ours(handle)
        with self._lock(handle.name):
            if found is not None:
                self._remove(found.id)
            if not self._is_odd(handle):
                if before := self._before(handle.name):
                    self._remove(before.id)
                self._folder(handle.name).remove()

    # -- look inside

    def leave(self) -> None:
        """Remove this installation's networks, once none of its containers is left; the next start makes them anew."""
        for kind in networks.KINDS:
            if found := networks.find(self.engine, self.installation, kind):
                networks.remove(self.engine, found)

    def _log(self, handle: Handle) -> logs.Source:
        """All records of this name: of the container before, then of this one."""
        found = self._ours(handle)
        ids = [found.id] if found is not None else []
        if not self._is_odd(handle) and (before := self._before(handle.name)):
            ids.insert(0, before.id)
        return logs.source([functools.partial(self.engine.output, each) for each in ids])

    def logs(self, handle: Handle, *, tail: int = 200) -> list[LogLine]:
        return logs.tail(self._log(handle), tail)

    def mark(self, handle: Handle, *, back: int = 0) -> str:
        return logs.mark(self._log(handle), back)

    def read(self, handle: Handle, *, after: str = "", most_bytes: int = 2**18) -> LogChunk:
        return logs.read(self._log(handle), after, most_bytes)

    def follow(self, handle: Handle, *, timeout_s: float) -> Iterator[LogLine]:
        def alive() -> bool:
            found = self._ours(handle)
            return found is not None and found.living

        return logs.follow(self._log(handle), timeout_s=timeout_s, alive=alive)

    def usage(self, handle: Handle) -> Usage | None:
        found = self._ours(handle)
        if found is None or not found.living:
            return None
        if counted := usage.from_groups(usage.groups(found.id, found.pid)):
            return counted
        try:
            with self.engine.asked() as client:
                return usage.from_stats(client.stats(found.id, stream=False, one_shot=True))
        except NotFound:
            return None
        except APIError as error:
            raise unwilling(error) from error

    def list(self, *, owner: str) -> list[Handle]:
        labels = [f"{options.INSTALLATION}={self.installation}", f"{options.OWNER}={owner}"]
        with self.engine.obeyed() as client:
            told = client.containers(all=True, filters={"label": labels})
        # Labels are inherited from images, names are not: a build of such an image is no replica.
        prefix = options.container_name(self.installation, "")
        ours = [each for each in told if any(name.startswith(f"/{prefix}") for name in each["Names"] or ())]
        found = {(handle.name, str(handle.data)): handle for handle in map(self._handle, ours)}
        return [handle for _, handle in sorted(found.items())]

    # -- finding containers

    def _handle(self, told: dict[str, Any]) -> Handle:
        """How to find it again: by its replica's name, or by its id when it does not bear the name it should."""
        name = next((each.lstrip("/") for each in told["Names"] if each.count("/") == 1), told["Id"])
        replica = (told.get("Labels") or {}).get(options.REPLICA, "")
        expected = options.container_name(self.installation, replica)
        if specs.NAME.fullmatch(replica) and name in {expected, expected + BEFORE}:
            return Handle(self.name, replica)
        return Handle(self.name, replica or name, {"id": told["Id"]})

    @staticmethod
    def _is_odd(handle: Handle) -> bool:
        """It is none that this driver makes: it has no folder and no container before it."""
        return "id" in handle.data or not specs.NAME.fullmatch(handle.name)

    def _ours(self, handle: Handle) -> Container | None:
        return self._own(str(handle.data.get("id") or options.container_name(self.installation, handle.name)))

    def _before(self, name: str) -> Container | None:
        return self._own(options.container_name(self.installation, name) + BEFORE)

    def _own(self, reference: str) -> Container | None:
        found = self._look(reference)
        return found if found is not None and found.belongs_to(self.installation) else None

    def _look(self, reference: str) -> Container | None:
        return containers.look(self.engine, reference)

    def _remove(self, reference: str) -> None:
        containers.remove(self.engine, reference)

    def _folder(self, name: str) -> SocketFolder:
        # a name that is none may come from a stranger's label: no folder is ever called so
        return SocketFolder(self.run_dir / (name if specs.NAME.fullmatch(name) else ".none"))

    def _lock(self, name: str) -> AbstractContextManager[None]:
        """One starter at a time per name, over all processes. Names share a few lock files, so none is ever left."""
        return self._locked(str(zlib.crc32(name.encode()) % LOCKS))

    def _locked(self, name: str) -> AbstractContextManager[None]:
        return files.locked(self.run_dir / ".locks" / name)

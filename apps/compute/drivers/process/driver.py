"""Start, find again, observe and end replicas on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from apps.compute.drivers import cgroups, isolation, sandbox
from apps.compute.drivers.base import (
    GRPC_SOCKET_NAME,
    SOCKET_NAME,
    DriverUnavailable,
    Failure,
    Handle,
    ImageError,
    LogChunk,
    LogLine,
    Observation,
    ReplicaSpec,
    State,
    Usage,
)
from apps.compute.drivers.files import is_socket
from apps.compute.drivers.isolation import Isolation, Level
from apps.compute.drivers.process import logs, validation
from apps.compute.drivers.process.state import Folder, Process, Store, boot_id, read_json, write_json

LAUNCH_SECONDS = 45.0
END_SECONDS = 15.0
START_RECORD_SECONDS = 30.0
KILLED = -int(signal.SIGKILL)


class ProcessDriver:
    """One model server per replica. `root`: state; `run_dir`: a short folder for sockets that the gateway can enter.

    `require`: refuse to start below this level of isolation. `level`: keep to a weaker level than the machine allows.
    `gateway_gid`: group that may reach the sockets; without one every user of the machine may.
    """

    name = "process"

    def __init__(
        self,
        root: Path,
        run_dir: Path,
        *,
        require: Level | str | None = None,
        level: Level | str | None = None,
        gateway_gid: int | None = None,
    ) -> None:
        self.store = Store(root.absolute(), run_dir.absolute())
        self.require = Level(require) if require else None
        self.level = Level(level) if level else None
        self.gateway_gid = gateway_gid
        self.store.prepare()

    # -- what this machine gives

    @property
    def isolation(self) -> Isolation:
        found = isolation.probe()
        return found.at(self.level) if self.level else found

    def describe(self) -> dict[str, Any]:
        """For the console: the level reached, what it keeps, and why a stronger one cannot be had."""
        return self.isolation.describe() | {"required": str(self.require) if self.require else None}

    # -- start

    def validate(self, spec: ReplicaSpec) -> None:
        validation.check(spec, self._socket(spec.name))

    def start(self, spec: ReplicaSpec) -> Handle:
        self.validate(spec)
        found = self.isolation
        if self.require:
            found.demand(self.require)
        if self.level and self.level not in found.available:
            found.demand(Level.BWRAP_CGROUP)
        handle = Handle(self.name, spec.name)
        folder = self.store.folder(spec.name)
        with self.store.lock(spec.name):
            if self._living(folder):
                return handle
            self._check_program(spec, found)
            self._end_remains(folder)
            self._write_orders(spec, found, folder)
            self._launch(folder)
        return handle

    def _check_program(self, spec: ReplicaSpec, found: Isolation) -> None:
        program = sandbox.to_source(spec.argv[0], spec.mounts, "")
        if not os.access(program, os.X_OK) or Path(program).is_dir():
            raise ImageError(f"The program {spec.argv[0]} is missing or may not be run (looked for {program}).")
        if found.sandboxed and not sandbox.visible(spec):
            raise ImageError(f"The program {spec.argv[0]} lies in none of the replica's mounts.")
        if closed := isolation.unreachable_by_nobody(spec, found):
            raise ImageError(f"{closed}. Install bubblewrap, or move it to a folder that user can enter.")

    def _write_orders(self, spec: ReplicaSpec, found: Isolation, folder: Folder) -> None:
        previous = folder.spec() or {}
        folder.path.mkdir(mode=0o700, exist_ok=True)
        if previous.get("owner", spec.owner) != spec.owner:
            self.store.disown(previous["owner"], spec.name)
        self.store.own(spec.owner, spec.name)
        etc = self.store.root / ".etc"
        if not etc.exists():
            etc.mkdir(mode=0o755, exist_ok=True)
        for name, text in (("passwd", sandbox.USERS), ("group", sandbox.GROUPS)):
            if not (etc / name).exists():
                (etc / name).write_text(text)
                (etc / name).chmod(0o644)
        orders = isolation.plan(spec, found, root_dir=self.store.root, run=folder.run)
        orders |= {"name": spec.name, "owner": spec.owner, "labels": dict(spec.labels), "run_gid": self.gateway_gid}
        orders |= {"socket": self._socket(spec.name), "run_mode": 0o755 if self.gateway_gid is None else 0o750}
        folder.file("shim.json").unlink(missing_ok=True)
        folder.file("exit.json").unlink(missing_ok=True)
        write_json(folder.file("spec.json"), orders)

    def _launch(self, folder: Folder) -> None:
        """Run the shim; it detaches itself and its first process ends once the replica runs."""
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", shim_path(), str(folder.file("spec.json"))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={},
                cwd="/",
                timeout=LAUNCH_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DriverUnavailable(f"The replica's shim does not start: {error}") from error
        if done.returncode:
            refused(done.stderr.decode(errors="replace"), folder)

    def _socket(self, name: str) -> str:
        return str(self.store.run_dir / name / SOCKET_NAME)

    # -- observe

    def observe(self, handle: Handle) -> Observation:
        folder = self.store.folder(handle.name)
        shim = folder.shim()
        if shim is None:
            return self._unstarted(handle.name, folder)
        seen = Observation(
            handle.name,
            State.STARTING,
            started_at=datetime.fromtimestamp(shim["started"], UTC),
            isolation=shim["isolation"],
        )
        if shim["boot_id"] == boot_id() and Process(shim["pid"], shim["ticks"]).alive():
            if is_socket(shim["socket"]):
                return dataclasses.replace(seen, state=State.RUNNING, address=f"unix:{shim['socket']}")
            return seen
        return self._ended(seen, folder, shim)

    @staticmethod
    def _unstarted(name: str, folder: Folder) -> Observation:
        try:
            age = time.time() - folder.file("spec.json").stat().st_mtime
        except OSError:
            return Observation(name, State.GONE)
        if age < START_RECORD_SECONDS:
            return Observation(name, State.STARTING)
        failure = Failure("start_interrupted", "The start of this replica was interrupted before its process existed.")
        return Observation(name, State.EXITED, exit_code=KILLED, failure=failure)

    @staticmethod
    def _ended(seen: Observation, folder: Folder, shim: dict[str, Any]) -> Observation:
        record = folder.exit()
        seen = dataclasses.replace(seen, state=State.EXITED)
        if record:
            code, oom = int(record["exit_code"]), bool(record["oom"])
            ended = datetime.fromtimestamp(record["ended"], UTC)
            return dataclasses.replace(seen, exit_code=code, oom=oom, ended_at=ended, failure=folder.failure())
        if shim["boot_id"] != boot_id():
            failure = Failure("machine_restarted", "The machine was restarted while this replica ran.")
        else:
            failure = Failure(
                "shim_lost", "The process that watches this replica was killed, and the replica was ended with it."
            )
        return dataclasses.replace(seen, exit_code=KILLED, failure=failure)

    @staticmethod
    def _living(folder: Folder) -> Process | None:
        shim = folder.shim()
        if not shim or shim["boot_id"] != boot_id():
            return None
        process = Process(shim["pid"], shim["ticks"])
        return process if process.alive() else None

    # -- end

    def stop(self, handle: Handle, *, grace_s: float) -> None:
        folder = self.store.folder(handle.name)
        shim = self._living(folder)
        if shim:
            write_json(folder.file("stop.json"), {"grace_s": grace_s})
            shim.signal(signal.SIGTERM)
            if not shim.wait(grace_s + END_SECONDS):
                shim.signal(signal.SIGKILL)
                shim.wait(END_SECONDS)
        with self.store.lock(handle.name):  # or it would take a start that runs just now for remains
            if not self._living(folder):
                self._end_remains(folder)

    def _end_remains(self, folder: Folder) -> None:
        """After a shim that could not clean up: what it had started, its control groups, its socket."""
        shim = folder.shim()
        if not shim or folder.file("exit.json").exists() or shim["boot_id"] != boot_id():
            return
        processes = [Process(*shim[key]) for key in ("inner", "child")]
        for process in processes:
            process.signal(signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        for process in processes:
            process.wait(deadline - time.monotonic())
        for path in shim["cgroups"]:
            clear_cgroup(Path(path), deadline)
        with self.store.groups():
            for path in shim["cgroups"]:
                with contextlib.suppress(OSError):  # goes with the installation's last replica
                    Path(path).parent.rmdir()
        for socket in (Path(shim["socket"]), Path(shim["socket"]).with_name(GRPC_SOCKET_NAME)):
            socket.unlink(missing_ok=True)

    def forget(self, handle: Handle) -> None:
        self.stop(handle, grace_s=0.0)
        folder = self.store.folder(handle.name)
        with self.store.lock(handle.name):
            orders = folder.spec()
            shutil.rmtree(folder.run, ignore_errors=True)
            shutil.rmtree(folder.path, ignore_errors=True)
            if orders:
                self.store.disown(orders["owner"], handle.name)

    # -- look inside

    def logs(self, handle: Handle, *, tail: int = 200) -> list[LogLine]:
        return logs.tail(self.store.folder(handle.name).file("log"), tail)

    def mark(self, handle: Handle, *, back: int = 0) -> str:
        return logs.mark(self.store.folder(handle.name).file("log"), back)

    def read(self, handle: Handle, *, after: str = "", most_bytes: int = 2**18) -> LogChunk:
        return logs.read(self.store.folder(handle.name).file("log"), after, most_bytes)

    def follow(self, handle: Handle, *, timeout_s: float) -> Iterator[LogLine]:
        folder = self.store.folder(handle.name)
        return logs.follow(folder.file("log"), timeout_s=timeout_s, alive=lambda: self._living(folder) is not None)

    def usage(self, handle: Handle) -> Usage | None:
        folder = self.store.folder(handle.name)
        if not self._living(folder):
            return None
        orders, shim = folder.spec(), folder.shim()
        if orders and (counted := cgroups.usage(orders.get("usage_files", {}))):
            return counted
        return tree_usage(shim["child"][0]) if shim else None

    def list(self, *, owner: str) -> list[Handle]:
        return [Handle(self.name, name) for name in self.store.owned(owner)]


def shim_path() -> str:
    found = find_spec("runtime.shim")
    if found is None or found.origin is None:
        raise DriverUnavailable("runtime/shim.py is missing from this installation.")
    return found.origin


def refused(text: str, folder: Folder) -> None:
    """Turn the shim's last words into the driver's error; another shim that holds the replica is adopted."""
    try:
        said = json.loads(text.strip().splitlines()[-1])
        kind, message = said["kind"], said["message"]
    except (ValueError, IndexError, KeyError, TypeError):
        kind, message = "unavailable", f"The replica's shim failed: {text.strip()[-500:]}"
    if kind == "busy":
        deadline = time.monotonic() + LAUNCH_SECONDS
        while time.monotonic() < deadline:
            if read_json(folder.file("shim.json")):
                return
            time.sleep(0.02)
    if kind == "image":
        raise ImageError(message)
    raise DriverUnavailable(message)


def clear_cgroup(path: Path, deadline: float) -> None:
    while path.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            for pid in (path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            path.rmdir()
        time.sleep(0.005)


def tree_usage(pid: int) -> Usage | None:
    """Without control groups: the sum over the process tree. What has ended in between is not counted."""
    try:
        top = psutil.Process(pid)
        tree = [top, *top.children(recursive=True)]
    except psutil.Error:
        return None
    seconds, held = 0.0, 0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system
            held += process.memory_info().rss
    return Usage(seconds, held)

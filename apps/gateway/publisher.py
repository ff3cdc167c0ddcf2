"""Puts rendered resources where Envoy reads them, and finds out whether Envoy took them.

Envoy watches files, so a push is a rename; it says in its statistics whether it took the push, and only in its log
why not. The last accepted copy of every file is kept (a hard link below `.good`) and put back when a push is refused:
an Envoy that restarts must not come up with what a running one has just rejected.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.gateway.admin import Admin, AdminDown, ClusterStats
from apps.gateway.envoy.files import CLUSTERS_FILE, LISTENERS_FILE
from apps.gateway.reasons import LogMark, reason_since

GOOD = ".good"
LOCK = ".lock"
FIRST_PAUSE_S = 0.004
LONGEST_PAUSE_S = 0.1
RESTORE_S = 1.0
STATS = r"\.(version_text|update_success|update_rejected|update_failure|warming_clusters|total_listeners_warming)$"
NOT_RUNNING = "Envoy is not running, or still starting. The files are in place; it starts with them."


@dataclass(frozen=True, slots=True)
class Published:
    """`accepted` is None when there was no Envoy to ask. `reason` is a sentence for people whenever it is not True."""

    accepted: bool | None
    version: int
    changed: tuple[str, ...]
    reason: str | None
    seconds: float


class _Refused(Exception):  # noqa: N818
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Write:
    name: str
    version: str
    body: bytes


class Publisher:
    """One per gateway. Safe to use from several processes: a lock file lets one publish at a time."""

    def __init__(self, xds: Path, admin_socket: Path, log: Path | None = None) -> None:
        """`log` is the file that Envoy's standard error goes to; without it a refusal has no reason."""
        self._xds = xds
        self.admin = Admin(admin_socket)
        self._log = log

    def publish(
        self, resources: Mapping[str, Sequence[Mapping[str, Any]]], *, version: int, timeout_s: float = 2.0
    ) -> Published:
        """Write what changed, in the order that leaves no request without a cluster; each step gets `timeout_s`."""
        started = time.monotonic()
        bodies = {name: _body(content) for name, content in resources.items()}
        with self._locked(timeout_s * 5):
            writes = [
                _Write(name, str(version), body) for name, body in bodies.items() if body != self._on_disk(name)[1]
            ]
            try:
                # while it starts, not every file has a reader yet: there is nobody to ask
                before = self._snapshot() if self.running() else None
            except AdminDown:
                before = None
            if before is None:
                for write in writes:
                    self._put(write)
                self._drop_stale(bodies)
                return _published(None, version, writes, NOT_RUNNING, started)
            writes += self._unheard(before, bodies, {write.name for write in writes}, version)
            accepted, reason = self._push(writes, resources, timeout_s)
            if accepted:
                self._drop_stale(bodies)
            return _published(accepted, version, writes, reason, started)

    def stats(self) -> dict[str, ClusterStats]:
        """By cluster name; raises AdminDown when Envoy does not answer."""
        return self.admin.cluster_stats()

    def running(self) -> bool:
        return self.admin.ready()

    def _push(
        self, writes: list[_Write], resources: Mapping[str, Sequence[Mapping[str, Any]]], timeout_s: float
    ) -> tuple[bool | None, str | None]:
        mark = LogMark.now(self._log)
        touched: list[str] = []
        try:
            for step in self._steps(writes, resources):
                touched += [write.name for write in step]
                self._take_step(step, timeout_s, mark)
        except AdminDown:
            return None, "Envoy went away during the push. The files are in place; it starts with them."
        except _Refused as refused:
            restored = self._restore(touched)
            return False, f"{refused.name}: {refused.reason} {restored}"
        for name in resources:
            self._keep(name)
        return True, None

    def _steps(
        self, writes: list[_Write], resources: Mapping[str, Sequence[Mapping[str, Any]]]
    ) -> Iterator[list[_Write]]:
        """New clusters (with the old ones still there), then routes, then listeners, then without the old clusters."""
        by_name = {write.name: write for write in writes}
        last: list[_Write] = []
        clusters = by_name.pop(CLUSTERS_FILE, None)
        routes = [by_name.pop(name) for name in list(by_name) if name.startswith("rds/")]
        listeners = [by_name.pop(name) for name in list(by_name) if name == LISTENERS_FILE]
        first = list(by_name.values())
        if clusters is not None:
            leaving = self._leaving(resources[CLUSTERS_FILE]) if routes else []
            if leaving:
                last = [clusters]
                union = _body([*resources[CLUSTERS_FILE], *leaving])
                clusters = _Write(CLUSTERS_FILE, f"{clusters.version}+{len(leaving)}", union)
            first.append(clusters)
        yield from (step for step in (first, routes, listeners, last) if step)

    def _leaving(self, clusters: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        staying = {cluster["name"] for cluster in clusters}
        raw = self._on_disk(CLUSTERS_FILE)[1]
        try:
            old: list[Mapping[str, Any]] = json.loads(raw) if raw else []
        except ValueError:
            return []
        return [cluster for cluster in old if cluster["name"] not in staying]

    def _take_step(self, step: list[_Write], timeout_s: float, mark: LogMark) -> None:
        before = self._snapshot()
        for write in step:
            self._put(write)
        deadline = time.monotonic() + timeout_s
        pause = FIRST_PAUSE_S
        while True:
            now = self._snapshot()
            waiting = [write for write in step if not self._taken(write, before, now, mark)]
            listening = any(write.name == LISTENERS_FILE for write in step)
            warming = int(now.get("cluster_manager.warming_clusters", "0"))
            warming += int(now.get("listener_manager.total_listeners_warming", "0")) if listening else 0
            if not waiting and not warming:
                return
            if time.monotonic() > deadline:
                if not waiting:  # a replica that answers no check holds its own cluster back, nobody else's
                    return
                raise _Refused(waiting[0].name, f"Envoy did not take it up within {timeout_s:g} s.")
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _taken(self, write: _Write, before: Mapping[str, str], now: Mapping[str, str], mark: LogMark) -> bool:
        prefix = _prefix(write.name)
        if f"{prefix}.version_text" not in before:
            return True  # nobody reads this file yet: the listener that will is pushed after it
        for counter in ("update_rejected", "update_failure"):
            if _number(now, f"{prefix}.{counter}") > _number(before, f"{prefix}.{counter}"):
                raise _Refused(write.name, reason_since(mark, self._xds / write.name))
        again = _number(now, f"{prefix}.update_success") > _number(before, f"{prefix}.update_success")
        return again and now.get(f"{prefix}.version_text") == write.version

    def _unheard(
        self, running: Mapping[str, str], bodies: Mapping[str, bytes], writing: set[str], version: int
    ) -> list[_Write]:
        """Files that are as wanted but that the running Envoy has not got: written by hand, or refused at its start."""
        found = []
        for name, body in bodies.items():
            held = running.get(f"{_prefix(name)}.version_text")
            if name not in writing and held is not None and held != self._on_disk(name)[0]:
                found.append(_Write(name, str(version), body))
        return found

    def _restore(self, names: list[str]) -> str:
        """Routes before clusters, so that the old routes never wait for the old clusters longer than needed."""
        missing = []
        try:
            before = self._snapshot()
        except AdminDown:
            before = {}
        for name in dict.fromkeys(names):
            good = self._xds / GOOD / name
            if not good.is_file():
                missing.append(name)
                continue
            beside = _beside(self._xds / name)
            os.link(good, beside)
            beside.replace(self._xds / name)
        self._await_restored([name for name in dict.fromkeys(names) if name not in missing], before)
        if missing:
            return f"There was no earlier accepted version of {', '.join(missing)} to put back."
        return "The last accepted version is back in place and serving."

    def _await_restored(self, names: list[str], before: Mapping[str, str]) -> None:
        deadline = time.monotonic() + RESTORE_S
        while before and time.monotonic() < deadline:
            try:
                now = self._snapshot()
            except AdminDown:
                return
            counters = [f"{_prefix(name)}.update_success" for name in names]
            if all(_number(now, counter) > _number(before, counter) for counter in counters if counter in before):
                return
            time.sleep(FIRST_PAUSE_S * 2)

    def _put(self, write: _Write) -> None:
        target = self._xds / write.name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(target)
        with beside.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)  # salts and digests are nobody else's business
            file.write(b'{"version_info":"%b","resources":%b}' % (write.version.encode(), write.body))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)

    def _keep(self, name: str) -> None:
        """A link and not a copy: the accepted file is replaced later, never written to."""
        target, good = self._xds / name, self._xds / GOOD / name
        if good.exists() and good.samefile(target):
            return
        good.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(good)
        os.link(target, beside)
        beside.replace(good)

    def _on_disk(self, name: str) -> tuple[str, bytes]:
        """Version and resources as last written; empty when there is no file, or none of ours."""
        try:
            raw = (self._xds / name).read_bytes()
        except FileNotFoundError:
            return "", b""
        head, found, rest = raw.partition(b'","resources":')
        if not found or not rest.endswith(b"}"):
            return "", b""
        return head.removeprefix(b'{"version_info":"').decode(errors="replace"), rest[:-1]

    def _drop_stale(self, wanted: Mapping[str, bytes]) -> None:
        """A route table without a listener stays behind when the private door is closed."""
        for path in (self._xds / "rds").glob("*.json"):
            if f"rds/{path.name}" not in wanted:
                path.unlink(missing_ok=True)
                (self._xds / GOOD / "rds" / path.name).unlink(missing_ok=True)

    def _snapshot(self) -> dict[str, str]:
        return self.admin.values(STATS)

    @contextmanager
    def _locked(self, timeout_s: float) -> Iterator[None]:
        self._xds.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout_s
        with (self._xds / LOCK).open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError("Another publication to this gateway has not finished.") from None
                    time.sleep(0.02)
            yield


def _published(
    accepted: bool | None, version: int, writes: list[_Write], reason: str | None, started: float
) -> Published:
    changed = tuple(write.name for write in writes)
    return Published(accepted, version, changed, reason, round(time.monotonic() - started, 4))


def _body(resources: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps(resources, separators=(",", ":"), sort_keys=False).encode()


def _beside(target: Path) -> Path:
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    return beside


def _number(values: Mapping[str, str], name: str) -> int:
    return int(values.get(name, "0"))


def _prefix(name: str) -> str:
    """Where Envoy counts what happens to this file."""
    folder, _, file = name.partition("/")
    fixed = {"cds": "cluster_manager.cds", "lds": "listener_manager.lds", "rtds": "runtime", "sds": "sds.front-door"}
    return fixed.get(folder) or f"http.scoring.{folder}.{file.removesuffix('.json')}"

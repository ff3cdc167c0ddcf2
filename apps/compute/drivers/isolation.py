"""How far this machine lets a replica be shut in. Probed once per process, told to people in `describe()`."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from apps.compute.drivers import cgroups, sandbox
from apps.compute.drivers.base import SOCKET_DIR, DriverUnavailable, Network, ReplicaSpec, Resources

AS_FACTOR = 2
AS_EXTRA = 256 * 1024 * 1024
"""Without control groups, address space stands in for memory: AS_FACTOR times the limit + AS_EXTRA. Programs reserve
far more than they use, so this is coarse; a program over it gets an allocation error and is not killed."""
OPEN_FILES = 4096
PROBE_SECONDS = 10.0


class Level(StrEnum):
    """From the strongest to the weakest."""

    BWRAP_CGROUP = "bwrap+cgroup"
    BWRAP = "bwrap"
    SETPRIV = "setpriv+rlimits"
    RLIMITS = "rlimits"


LEVELS = tuple(Level)


@dataclass(frozen=True)
class Guarantees:
    """What a level keeps. `memory`: "cgroup" kills and tells, "address-space" refuses and does not tell."""

    filesystem: bool
    network: bool
    own_user: bool
    memory: str
    cpu: bool
    pids: bool
    oom_signal: bool


@dataclass(frozen=True)
class Isolation:
    """What the probe found. `reasons`: level → why it cannot be had here."""

    level: Level
    root: bool
    bwrap: str = ""
    setpriv: str = ""
    env_tool: str = ""
    hierarchy: cgroups.Hierarchy | None = None
    reasons: tuple[tuple[str, str], ...] = ()

    @property
    def sandboxed(self) -> bool:
        return self.level in {Level.BWRAP, Level.BWRAP_CGROUP}

    @property
    def limited(self) -> bool:
        return self.level is Level.BWRAP_CGROUP

    @property
    def drops_user(self) -> bool:
        return self.root and self.level is not Level.RLIMITS

    @property
    def available(self) -> tuple[Level, ...]:
        denied = {level for level, _ in self.reasons}
        return tuple(level for level in LEVELS if level not in denied)

    def guarantees(self) -> Guarantees:
        return Guarantees(
            filesystem=self.sandboxed,
            network=self.sandboxed,
            own_user=self.drops_user,
            memory="cgroup" if self.limited else "address-space",
            cpu=self.limited,
            pids=self.limited or self.drops_user or not self.root,  # the kernel does not bound root's processes
            oom_signal=self.limited,
        )

    def at(self, level: Level) -> Isolation:
        """The same machine, held to a weaker level; for tests and for operators who must."""
        return replace(self, level=level)

    def demand(self, least: Level) -> None:
        if LEVELS.index(self.level) > LEVELS.index(least):
            reason = dict(self.reasons).get(least, "the driver is set to a weaker level")
            raise DriverUnavailable(
                f"Isolation “{least}” is required and this machine gives “{self.level}”: {reason}", retry_after=60.0
            )

    def describe(self) -> dict[str, Any]:
        return {
            "level": str(self.level),
            "levels": [{"level": str(level), "reason": dict(self.reasons).get(level, "")} for level in LEVELS],
            "guarantees": asdict(self.guarantees()),
            "user": sandbox.NOBODY if self.drops_user else os.getuid(),
            "cgroup_version": self.hierarchy.version if self.hierarchy and self.limited else None,
            "bwrap": self.bwrap,
        }


@functools.cache
def probe() -> Isolation:
    """Try each level on this machine."""
    root = os.geteuid() == 0
    tools = {name: shutil.which(name) or "" for name in ("bwrap", "setpriv", "env")}
    found = Isolation(Level.BWRAP, root, tools["bwrap"], tools["setpriv"], tools["env"])
    reasons: dict[str, str] = {}
    refused = try_bwrap(found)
    hierarchy = None if refused else cgroups.find()
    if refused:
        reasons = dict.fromkeys((Level.BWRAP_CGROUP, Level.BWRAP), refused)
    elif hierarchy is None:
        reasons[Level.BWRAP_CGROUP] = (
            "No control group hierarchy with memory, cpu and pids limits is writable here. Run Portway as root, or "
            "have systemd delegate one to it (Delegate=yes)."
        )
    if not root:
        reasons[Level.SETPRIV] = "Only root can run replicas as another user."
    level = next(level for level in LEVELS if level not in reasons)
    return replace(found, level=level, hierarchy=hierarchy, reasons=tuple(reasons.items()))


def try_bwrap(found: Isolation) -> str:
    """Run the whole chain once around `true`; empty when it works, else what to do about it."""
    if not found.bwrap:
        return "bubblewrap is not installed. Install it: apt-get install bubblewrap (or dnf install bubblewrap)."
    if not found.env_tool or (found.root and not found.setpriv):
        return "The tools env and setpriv are needed. Install them: apt-get install coreutils util-linux."
    spec = ReplicaSpec("probe", "", ("/usr/bin/true",), {}, Resources(1000, 2**26))
    # The socket folder and the password files are the driver's; stand-ins that always exist serve the trial.
    args = sandbox.bwrap_args(spec, socket_dir="/usr", users_dir="/etc", env={}, root=found.root)
    inner = sandbox.command(spec, env={}, root=found.root, setpriv=found.setpriv, env_tool=found.env_tool)
    try:
        done = subprocess.run(
            [found.bwrap, *args, "--", *inner], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run here: {error}"
    if done.returncode == 0:
        return ""
    return (
        f"bubblewrap does not run here: {done.stderr.strip()[:300]} Allow user namespaces (sysctl "
        "kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or, in a container, give "
        "it the rights to make namespaces."
    )


def plan(spec: ReplicaSpec, isolation: Isolation, *, root_dir: Path, run: Path) -> dict[str, Any]:
    """The shim's orders: how to start the replica at this level. Pure, apart from looking at the interpreter."""
    sockets = str(run / "s")
    shut_in = isolation.sandboxed
    env = sandbox.environment(spec, tmp="/tmp" if shut_in else str(run / "t"))  # noqa: S108 -- the replica's own
    orders: dict[str, Any] = {
        "isolation": str(isolation.level),
        "sandboxed": shut_in,
        "grace_s": spec.grace_s,
        "run": str(run),
        "rlimits": {"RLIMIT_NOFILE": OPEN_FILES, "RLIMIT_CORE": 0},
        "cwd": "/",
    }
    if shut_in:
        tools = {"setpriv": isolation.setpriv, "env_tool": isolation.env_tool}
        inner = sandbox.command(spec, env=env, root=isolation.root, **tools)
        orders["sandbox"] = sandbox.bwrap_args(
            spec, socket_dir=sockets, users_dir=str(root_dir / ".etc"), env=env, root=isolation.root
        )
        orders |= {"argv": [isolation.bwrap, *inner], "env": {}}
    else:
        orders["argv"] = [sandbox.rewrite(value, spec.mounts, sockets) for value in spec.argv]
        orders["env"] = {key: sandbox.rewrite(value, spec.mounts, sockets) for key, value in env.items()}
        orders["cwd"] = str(run / "t")
        if isolation.drops_user:
            orders |= {"uid": sandbox.NOBODY, "gid": sandbox.NOBODY}
    if isolation.limited and isolation.hierarchy:
        orders |= isolation.hierarchy.spec(group_name(spec.name, root_dir), spec.resources)
    else:
        orders["rlimits"]["RLIMIT_AS"] = AS_FACTOR * spec.resources.mem_bytes + AS_EXTRA
        orders["extra_processes"] = spec.resources.pids
        if shut_in and isolation.root:
            orders["processes_uid"] = sandbox.NOBODY
    owner = sandbox.NOBODY if isolation.drops_user else os.getuid()
    return orders | {"owner_uid": owner, "owner_gid": sandbox.NOBODY if isolation.drops_user else os.getgid()}


def group_name(name: str, root_dir: Path) -> str:
    """Two installations on one machine must not share a group: the state folder tells them apart."""
    return f"portway-{hashlib.sha256(str(root_dir).encode()).hexdigest()[:12]}/{name}"


def unreachable_by_nobody(spec: ReplicaSpec, isolation: Isolation) -> str:
    """Below bwrap nothing opens closed folders for the replica's user: name the first one in its way."""
    if isolation.sandboxed or not isolation.drops_user:
        return ""
    program = sandbox.to_source(spec.argv[0], spec.mounts, SOCKET_DIR)
    for path in (program, *(mount.source for mount in spec.mounts)):
        if closed := sandbox.unreachable(path, sandbox.NOBODY):
            return f"{path} lies below {closed}, which user {sandbox.NOBODY} may not enter"
    return ""


__all__ = ["LEVELS", "Guarantees", "Isolation", "Level", "Network", "plan", "probe"]

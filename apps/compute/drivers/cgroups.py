"""Control groups: which hierarchy this machine offers, and the files of one replica in it. v1 and v2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.compute.drivers.base import Resources, Usage

MOUNTS = Path("/proc/self/mounts")
OWN = Path("/proc/self/cgroup")
V1_NEEDED = ("memory", "cpu", "pids")
V2_NEEDED = ("memory", "cpu", "pids")
PERIOD_US = 100_000
SHORTEST_QUOTA_US = 1_000


@dataclass(frozen=True)
class Hierarchy:
    """Where replicas' groups go. `parents`: controller → folder; v2 has one folder for all of them."""

    version: int
    parents: dict[str, Path] = field(default_factory=dict)

    def spec(self, group: str, resources: Resources) -> dict[str, Any]:
        """What the shim makes of it: folders, values to write, and the files that tell of OOM and usage."""
        return self._v1(group, resources) if self.version == 1 else self._v2(group, resources)

    def _v1(self, group: str, resources: Resources) -> dict[str, Any]:
        quota = max(SHORTEST_QUOTA_US, resources.cpu_milli * PERIOD_US // 1000)
        values = {
            "memory": [("memory.limit_in_bytes", resources.mem_bytes)],
            "cpu": [("cpu.cfs_period_us", PERIOD_US), ("cpu.cfs_quota_us", quota)],
            "pids": [("pids.max", resources.pids)],
        }
        optional = {"memory": [("memory.memsw.limit_in_bytes", resources.mem_bytes)]}
        merged: dict[Path, dict[str, Any]] = {}
        for controller, parent in self.parents.items():
            path = parent / group
            entry = merged.setdefault(path, {"path": str(path), "files": [], "optional": []})
            entry["files"] += [(name, str(value)) for name, value in values.get(controller, ())]
            entry["optional"] += [(name, str(value)) for name, value in optional.get(controller, ())]
        memory = self.parents["memory"] / group
        usage = {"mem": str(memory / "memory.usage_in_bytes"), "stat": str(memory / "memory.stat")}
        usage["peak"] = str(memory / "memory.max_usage_in_bytes")
        if "cpuacct" in self.parents:
            usage["cpu_ns"] = str(self.parents["cpuacct"] / group / "cpuacct.usage")
        oom_file = str(memory / "memory.oom_control")
        return {"cgroups": list(merged.values()), "oom_file": oom_file, "usage_files": usage}

    def _v2(self, group: str, resources: Resources) -> dict[str, Any]:
        parent = self.parents["memory"]
        path = parent / group
        enable = " ".join(f"+{name}" for name in V2_NEEDED)
        quota = max(SHORTEST_QUOTA_US, resources.cpu_milli * PERIOD_US // 1000)
        entry = {
            "path": str(path),
            # A child has only the controllers that every folder above it passes on.
            "before": [(str(folder / "cgroup.subtree_control"), enable) for folder in (parent, path.parent)],
            "files": [
                ("memory.max", str(resources.mem_bytes)),
                ("memory.oom.group", "1"),
                ("cpu.max", f"{quota} {PERIOD_US}"),
                ("pids.max", str(resources.pids)),
            ],
            "optional": [("memory.swap.max", "0")],
        }
        usage = {"mem": str(path / "memory.current"), "stat": str(path / "memory.stat")}
        usage |= {"peak": str(path / "memory.peak"), "cpu_stat": str(path / "cpu.stat")}
        return {"cgroups": [entry], "oom_file": str(path / "memory.events"), "usage_files": usage}


def find(*, mounts: str | None = None, own: str | None = None) -> Hierarchy | None:
    """The first hierarchy in which this process may make groups with memory, cpu and pids limits."""
    for candidate in candidates(mounts=mounts or MOUNTS.read_text(), own=own or OWN.read_text()):
        if works(candidate):
            return candidate
    return None


def candidates(*, mounts: str, own: str) -> Iterator[Hierarchy]:
    v1, v2 = mounted(mounts)
    if all(controller in v1 for controller in V1_NEEDED):
        wanted = [*V1_NEEDED, *(["cpuacct"] if "cpuacct" in v1 else [])]
        yield Hierarchy(1, {name: v1[name] for name in wanted})
    if v2 is None:
        return
    yield Hierarchy(2, {"memory": v2})
    # Under systemd's delegation a user may make groups beside its own one, not at the root.
    for line in own.splitlines():
        if line.startswith("0::/") and len(line) > len("0::/"):
            yield Hierarchy(2, {"memory": (v2 / line.removeprefix("0::/")).parent})


def mounted(mounts: str) -> tuple[dict[str, Path], Path | None]:
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in mounts.splitlines():
        _, target, kind, options, *_ = line.split(" ")
        if kind == "cgroup":
            v1 |= {option: Path(target) for option in options.split(",") if option in {*V1_NEEDED, "cpuacct"}}
        elif kind == "cgroup2":
            v2 = Path(target)
    return v1, v2


def works(hierarchy: Hierarchy) -> bool:
    """Try it: make a group, see that its limits are there, remove it."""
    for parent in set(hierarchy.parents.values()):
        probe = parent / f"portway-probe-{os.getpid()}"
        try:
            if hierarchy.version > 1:
                offered = (parent / "cgroup.controllers").read_text().split()
                if not set(V2_NEEDED) <= set(offered):
                    return False
                (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in V2_NEEDED))
            probe.mkdir()
            if not os.access(probe / "cgroup.procs", os.W_OK):
                return False
            if hierarchy.version > 1 and not (probe / "memory.max").exists():
                return False
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                probe.rmdir()
    return True


def usage(files: dict[str, str]) -> Usage | None:
    """From the group's counters; page cache that can be given back at once does not count as held."""
    try:
        held = int(Path(files["mem"]).read_text())
        stat = dict(line.split(" ") for line in Path(files["stat"]).read_text().splitlines())
        held -= int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        if "cpu_ns" in files:
            return Usage(int(Path(files["cpu_ns"]).read_text()) / 1e9, max(0, held))
        cpu = dict(line.split(" ") for line in Path(files["cpu_stat"]).read_text().splitlines())
        return Usage(int(cpu["usage_usec"]) / 1e6, max(0, held))
    except (OSError, KeyError, ValueError):
        return None

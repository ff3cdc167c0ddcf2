"""What a container uses: from its control group when that is on this machine, else from the engine, which is slow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apps.compute.drivers import cgroups
from apps.compute.drivers.base import Usage

PROC = Path("/proc")


def groups(container: str, pid: int, *, proc: Path = PROC) -> dict[str, Path]:
    """Folder of each controller ("" is v2's only one) that holds the container's processes; {} when not seen here.

    The engine may run elsewhere, where its process ids mean something else: only a group that bears the container's
    own id counts.
    """
    try:
        mounted, v2 = cgroups.mounted((proc / "self/mounts").read_text())
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    found: dict[str, Path] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if container not in path:
            continue
        found |= {name: mounted[name] / path.lstrip("/") for name in controllers.split(",") if name in mounted}
        if not controllers and v2 is not None:
            found[""] = v2 / path.lstrip("/")
    return found


def from_groups(found: Mapping[str, Path]) -> Usage | None:
    if "memory" in found and "cpuacct" in found:
        files = {"mem": found["memory"] / "memory.usage_in_bytes", "stat": found["memory"] / "memory.stat"}
        files["cpu_ns"] = found["cpuacct"] / "cpuacct.usage"
    elif "" in found:
        files = {"mem": found[""] / "memory.current", "stat": found[""] / "memory.stat"}
        files["cpu_stat"] = found[""] / "cpu.stat"
    else:
        return None
    return cgroups.usage({key: str(path) for key, path in files.items()})


def oom_kills(found: Mapping[str, Path]) -> int | None:
    """How often memory ran out in this life of the container; None when that cannot be seen here."""
    if "memory" in found:
        path = found["memory"] / "memory.oom_control"
    elif "" in found:
        path = found[""] / "memory.events"
    else:
        return None
    try:
        counts = dict(line.split(" ") for line in path.read_text().splitlines())
        return int(counts["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def from_stats(stats: Mapping[str, Any]) -> Usage | None:
    """From the engine's answer; page cache that can be given back at once does not count as held."""
    try:
        memory = stats["memory_stats"]
        cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
        seconds = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        return Usage(seconds, max(0, memory["usage"] - cache))
    except (KeyError, TypeError):  # it has just ended
        return None

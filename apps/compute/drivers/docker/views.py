"""What the engine says of a container, in the drivers' own words. Pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from apps.compute.drivers.base import Failure, Observation, State
from apps.compute.drivers.docker.options import INSTALLATION, PORT, SPEC

SIGNAL_BASE = 128
SIGNALS = frozenset(int(number) for number in signal.Signals)
KILLED = -int(signal.SIGKILL)
NEVER = "0001-"
PORT_TEXT = re.compile(r"[1-9][0-9]{0,4}")
LAST_PORT = 65535
START_RECORD_SECONDS = 30.0


@dataclass(frozen=True)
class Container:
    """One container as the engine tells of it."""

    id: str
    name: str
    status: str
    image: str
    user: str
    labels: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    exit_code: int = 0
    oom: bool = False
    error: str = ""
    paused: bool = False
    stop_signal: str = "SIGTERM"
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    address: str = ""

    @property
    def living(self) -> bool:
        return self.status in {"running", "paused", "restarting"}

    def belongs_to(self, installation: str) -> bool:
        return self.labels.get(INSTALLATION) == installation

    @property
    def digest(self) -> str:
        return self.labels.get(SPEC, "")

    @property
    def port(self) -> str:
        """Where its server listens; "" when that is a socket. What is no port of TCP is none."""
        told = self.labels.get(PORT, "")
        return told if PORT_TEXT.fullmatch(told) and int(told) <= LAST_PORT else ""


def container(told: dict[str, Any]) -> Container:
    """From the engine's `inspect`."""
    state, config = told["State"], told["Config"]
    networks = (told.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [each.get("IPAddress") or "" for each in networks.values()]
    return Container(
        id=told["Id"],
        name=told["Name"].lstrip("/"),
        status=state["Status"],
        image=told["Image"],
        user=config.get("User") or "",
        labels=config.get("Labels") or {},
        pid=int(state.get("Pid") or 0),
        exit_code=int(state.get("ExitCode") or 0),
        oom=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        paused=bool(state.get("Paused")),
        stop_signal=config.get("StopSignal") or "SIGTERM",
        created=moment(told.get("Created")),
        started=moment(state.get("StartedAt")),
        ended=moment(state.get("FinishedAt")),
        address=next((each for each in addresses if each), ""),
    )


def moment(text: str | None) -> datetime | None:
    if not text or text.startswith(NEVER):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)


def exit_code(code: int) -> int:
    """A death by signal N is -N. The engine says 128+N, as a shell does, so a program that itself exits with such a
    code cannot be told from a killed one.
    """
    return SIGNAL_BASE - code if code - SIGNAL_BASE in SIGNALS else code


def unstarted(seen: Observation, found: Container, *, now: datetime) -> Observation:
    """Made, but never run: it is about to be, or its start failed or was interrupted."""
    age = (now - found.created).total_seconds() if found.created else START_RECORD_SECONDS
    if not found.error and age < START_RECORD_SECONDS:
        return seen
    failure = Failure("start_interrupted", "The start of this replica was interrupted before its process existed.")
    if found.error:
        failure = start_failure(found.error)
    return replace(seen, state=State.EXITED, exit_code=KILLED, failure=failure)


def ended(seen: Observation, found: Container, failure: Failure | None) -> Observation:
    """`failure`: what it wrote itself."""
    if failure is None and found.error:
        failure = start_failure(found.error)
    code = exit_code(found.exit_code)
    return replace(seen, state=State.EXITED, exit_code=code, oom=found.oom, ended_at=found.ended, failure=failure)


def start_failure(error: str) -> Failure:
    return Failure("start_failed", "The container could not be started.", error[:2000])


def security(info: dict[str, Any]) -> dict[str, bool]:
    """What the engine adds by itself: it runs without root, maps users, filters system calls."""
    said = " ".join(info.get("SecurityOptions") or [])
    return {
        "rootless": "name=rootless" in said,
        "userns": "name=userns" in said,
        "seccomp": "name=seccomp" in said and "profile=unconfined" not in said,
        # Without it the rule between containers of one bridge does not see their packets.
        "apart": bool(info.get("BridgeNfIptables", True)),
    }


def extras(info: dict[str, Any]) -> list[str]:
    found = security(info)
    words = [word for word in ("rootless", "userns") if found[word]]
    return words + ([] if found["seccomp"] else ["no seccomp"])


def isolation(seen: Container, info: dict[str, Any]) -> str:
    user = f"uid {seen.user.partition(':')[0]}" if seen.user[:1].isdigit() else f"user {seen.user[:16] or 'root'}"
    open_to_others = ["not apart"] if seen.address and not security(info)["apart"] else []
    return f"docker ({', '.join([user, 'read-only', 'no capabilities', *open_to_others, *extras(info)])})"[:60]


def guarantees(info: dict[str, Any]) -> dict[str, Any]:
    """The same words as `isolation.Guarantees`."""
    return {
        "filesystem": True,
        "network": security(info)["apart"],
        "own_user": True,
        "memory": "cgroup" if info.get("MemoryLimit") else "",
        "cpu": bool(info.get("CpuCfsQuota")),
        "pids": bool(info.get("PidsLimit")),
        "oom_signal": bool(info.get("MemoryLimit")),
    }

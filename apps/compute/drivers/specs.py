"""What a spec must satisfy whichever driver runs it, said in sentences."""

from __future__ import annotations

import os
import re
from pathlib import Path

from apps.compute.drivers.base import SOCKET_DIR, Mount, ReplicaSpec, Resources, SpecError
from apps.compute.drivers.sandbox import below, normal

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
SOCKET_PATH_BYTES = 107
SMALLEST_MEMORY = 16 * 1024 * 1024
SMALLEST_CPU_MILLI = 10
RESERVED = (SOCKET_DIR, "/proc", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/sys")


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise SpecError(f"“{name}” is no replica name: letters, digits and dashes, at most 63.")


def check_socket_path(path: str) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise SpecError(
            f"The socket path {path} has {len(os.fsencode(path))} bytes and the system allows "
            f"{SOCKET_PATH_BYTES}: choose a shorter run folder or replica name."
        )


def check_texts(spec: ReplicaSpec) -> None:
    if any("\0" in text for text in (*spec.argv, *spec.env, *spec.env.values())):
        raise SpecError("Arguments and environment values cannot hold a NUL character.")
    for key in spec.env:
        if not key or "=" in key:
            raise SpecError(f"“{key}” is no name for an environment variable.")


def check_resources(wanted: Resources, *, cores: int, memory: int) -> None:
    """Against the machine that runs it."""
    if wanted.mem_bytes > memory:
        raise SpecError(f"The replica asks for {wanted.mem_bytes} bytes of memory and this machine has {memory}.")
    if wanted.cpu_milli > cores * 1000:
        raise SpecError(f"The replica asks for {wanted.cpu_milli / 1000:g} cores and this machine has {cores}.")
    if wanted.mem_bytes < SMALLEST_MEMORY or wanted.cpu_milli < SMALLEST_CPU_MILLI or wanted.pids < 1:
        raise SpecError("The replica asks for less than 16 MiB of memory, 0.01 cores or one process.")


def check_mounts(mounts: tuple[Mount, ...]) -> None:
    for mount in mounts:
        check_mount(mount)
    targets = [mount.target for mount in mounts]
    if len(set(targets)) != len(targets):
        raise SpecError("Two mounts have the same target.")


def check_mount(mount: Mount) -> None:
    if not normal(mount.target) or mount.target == "/":
        raise SpecError(f"The mount target {mount.target} must be an absolute, plain path.")
    if any(below(mount.target, folder) or below(folder, mount.target) for folder in RESERVED):
        raise SpecError(f"The mount target {mount.target} covers a folder of the system.")
    if not normal(mount.source) or not Path(mount.source).exists():
        raise SpecError(f"The mount source {mount.source} does not exist.")

"""What a spec must satisfy to be startable on this machine, said in sentences."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from apps.compute.drivers.base import SOCKET_DIR, Mount, ReplicaSpec, SpecError
from apps.compute.drivers.sandbox import below, normal

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
SOCKET_PATH_BYTES = 107
SMALLEST_MEMORY = 16 * 1024 * 1024
SMALLEST_CPU_MILLI = 10
RESERVED = (SOCKET_DIR, "/proc", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/sys")


def check(spec: ReplicaSpec, socket: str) -> None:
    if spec.contained:
        raise SpecError("This replica needs a container; processes run Python environments only.")
    if spec.resources.gpus:
        raise SpecError("Processes cannot be given graphics cards.")
    if not NAME.fullmatch(spec.name):
        raise SpecError(f"“{spec.name}” is no replica name: letters, digits and dashes, at most 63.")
    longest = str(Path(socket).parent / "s" / Path(socket).name)
    if len(os.fsencode(longest)) > SOCKET_PATH_BYTES:
        raise SpecError(
            f"The socket path {longest} has {len(os.fsencode(longest))} bytes and the system allows "
            f"{SOCKET_PATH_BYTES}: choose a shorter run folder or replica name."
        )
    check_program(spec)
    check_resources(spec)
    for mount in spec.mounts:
        check_mount(mount)
    targets = [mount.target for mount in spec.mounts]
    if len(set(targets)) != len(targets):
        raise SpecError("Two mounts have the same target.")


def check_program(spec: ReplicaSpec) -> None:
    if not spec.argv or not normal(spec.argv[0]):
        raise SpecError("The program (the first argument) must be an absolute path.")
    if any("\0" in text for text in (*spec.argv, *spec.env, *spec.env.values())):
        raise SpecError("Arguments and environment values cannot hold a NUL character.")
    for key in spec.env:
        if not key or "=" in key:
            raise SpecError(f"“{key}” is no name for an environment variable.")


def check_resources(spec: ReplicaSpec) -> None:
    wanted, cores, memory = spec.resources, os.cpu_count() or 1, psutil.virtual_memory().total
    if wanted.mem_bytes > memory:
        raise SpecError(f"The replica asks for {wanted.mem_bytes} bytes of memory and this machine has {memory}.")
    if wanted.cpu_milli > cores * 1000:
        raise SpecError(f"The replica asks for {wanted.cpu_milli / 1000:g} cores and this machine has {cores}.")
    if wanted.mem_bytes < SMALLEST_MEMORY or wanted.cpu_milli < SMALLEST_CPU_MILLI or wanted.pids < 1:
        raise SpecError("The replica asks for less than 16 MiB of memory, 0.01 cores or one process.")


def check_mount(mount: Mount) -> None:
    if not normal(mount.target) or mount.target == "/":
        raise SpecError(f"The mount target {mount.target} must be an absolute, plain path.")
    if any(below(mount.target, folder) or below(folder, mount.target) for folder in RESERVED):
        raise SpecError(f"The mount target {mount.target} covers a folder of the system.")
    if not normal(mount.source) or not Path(mount.source).exists():
        raise SpecError(f"The mount source {mount.source} does not exist.")

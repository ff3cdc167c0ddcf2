"""What a spec must satisfy to be startable on this engine, said in sentences."""

from __future__ import annotations

from typing import Any

from apps.compute.drivers import specs
from apps.compute.drivers.base import ReplicaSpec, SpecError

PORTS = range(1, 65536)


def check(spec: ReplicaSpec, info: dict[str, Any], *, socket: str, root: bool) -> None:
    """`info`: what the engine tells of its machine. `root`: whether Portway runs as root."""
    specs.check_name(spec.name)
    specs.check_texts(spec)
    if not spec.argv and not spec.image:
        raise SpecError("There is no program to run: give one, or an image with a command of its own.")
    specs.check_resources(spec.resources, cores=int(info["NCPU"]), memory=int(info["MemTotal"]))
    if spec.resources.gpus < 0:
        raise SpecError("The number of graphics cards cannot be negative.")
    specs.check_mounts(spec.mounts)
    check_listener(spec, socket, root=root)


def check_listener(spec: ReplicaSpec, socket: str, *, root: bool) -> None:
    if spec.port is None:
        specs.check_socket_path(socket)
        if spec.image_user and not root:
            raise SpecError(
                "Only a Portway that runs as root can hand on the socket of an image's own user: name a port instead."
            )
    elif spec.port not in PORTS:
        raise SpecError(f"{spec.port} is no TCP port.")

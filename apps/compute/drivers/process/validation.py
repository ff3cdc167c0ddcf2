"""What a spec must satisfy to be startable on this machine, said in sentences."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from apps.compute.drivers import specs
from apps.compute.drivers.base import ReplicaSpec, SpecError
from apps.compute.drivers.sandbox import normal


def check(spec: ReplicaSpec, socket: str) -> None:
    if spec.contained:
        raise SpecError("This replica needs a container; processes run Python environments only.")
    if spec.resources.gpus:
        raise SpecError("Processes cannot be given graphics cards.")
    specs.check_name(spec.name)
    specs.check_socket_path(str(Path(socket).parent / "s" / Path(socket).name))
    if not spec.argv or not normal(spec.argv[0]):
        raise SpecError("The program (the first argument) must be an absolute path.")
    specs.check_texts(spec)
    specs.check_resources(spec.resources, cores=os.cpu_count() or 1, memory=psutil.virtual_memory().total)
    specs.check_mounts(spec.mounts)

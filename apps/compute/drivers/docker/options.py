"""From a spec to the engine's arguments. Pure: everything a container may and may not is decided here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from docker.types import DeviceRequest, LogConfig, Ulimit
from docker.types import Mount as Bind

from apps.compute.drivers.base import SOCKET_DIR, ReplicaSpec

INSTALLATION, OWNER, REPLICA = "portway.installation", "portway.owner", "portway.replica"
SPEC = "portway.spec"  # digest of all it was made from
PORT = "portway.port"  # where its server listens; "": on its socket
BUILD = "portway.build"  # of containers of builds, whose sweep must never find a replica
OWN_LABEL = "portway.label."
USER = 10001
CPU_PERIOD_US = 100_000
OPEN_FILES = 4096
# Compressed in the background, a file just rotated could for a moment not be read, above all right after an exit.
LOG_FILES = {"max-size": "5m", "max-file": "2", "compress": "false"}
TMP_SHARE = 4  # each of /tmp and /dev/shm up to a quarter of the memory: their pages count as the replica's own
SMALLEST_TMP = 16 * 1024 * 1024
WRITABLE = ("/tmp",)  # noqa: S108 -- the replica's own
WRITABLE_IN_IMAGES = ("/run", "/var/tmp")  # noqa: S108
"""What programs of other people's images write to besides. Not /var/run, mostly a link to /run, whose cover would hide
the sockets; not /var/cache and /var/log, where images keep folders and links that their programs need."""


@dataclass(frozen=True)
class Place:
    """What of this installation and its engine goes into every container.

    `user`: whom replicas run as, "uid:gid"; see `user_for`.
    """

    installation: str
    base_image: str
    user: str = f"{USER}:{USER}"


def user_for(*, euid: int, egid: int, rootless: bool) -> str:
    """Who replicas run as: somebody without rights, whose sockets Portway may hand to the gateway.

    Only root may hand out a file of another user. Without root it is Portway's own user, whom a rootless engine calls
    root: inside, root without any capability, and outside nobody else than who runs Portway anyway.
    """
    if euid == 0:
        return f"{USER}:{USER}"
    return "0:0" if rootless else f"{euid}:{egid}"


def container_name(installation: str, name: str) -> str:
    return f"portway-{installation}-{name}"


def digest(spec: ReplicaSpec, place: Place) -> str:
    """The same for the same spec, over all processes and restarts.

    The options are in it, so that no container of an older Portway, with other limits, is ever started again.
    """
    made = [bare(spec, place), host(spec, place, network="", sockets="")]
    value = asdict(spec) | {"user": place.user, "options": made}
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=dict).encode()).hexdigest()


def labels(spec: ReplicaSpec, place: Place) -> dict[str, str]:
    own = {f"{OWN_LABEL}{key}": value for key, value in spec.labels.items()}
    named = {INSTALLATION: place.installation, OWNER: spec.owner, REPLICA: spec.name, SPEC: digest(spec, place)}
    # Those without effect too: a container inherits what is missing from its image, which may be anybody's.
    return own | named | {PORT: "" if spec.port is None else str(spec.port), BUILD: ""}


def environment(spec: ReplicaSpec) -> dict[str, str]:
    """The spec's variables and the least that programs need. An image's own user, PATH and home stay as they are."""
    threads = str(max(1, -(-spec.resources.cpu_milli // 1000)))
    # Numeric libraries start one thread per core of the machine otherwise, whatever the limit.
    least = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    if not spec.image_user:
        # Nobody's entry in the image's passwd: what libraries ask of it they find here.
        least |= {"HOME": "/tmp", "TMPDIR": "/tmp", "USER": "portway", "LOGNAME": "portway"}  # noqa: S108
    if not spec.image:
        folder = f"{PurePosixPath(spec.argv[0]).parent}:" if spec.argv else ""
        least |= {"PATH": f"{folder}/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    return least | dict(spec.env)


def creation(spec: ReplicaSpec, place: Place) -> dict[str, Any]:
    """Arguments of `create_container`, apart from its name and its host part."""
    return bare(spec, place) | {"labels": labels(spec, place)}


def bare(spec: ReplicaSpec, place: Place) -> dict[str, Any]:
    given: dict[str, Any] = {
        "image": spec.image or place.base_image,
        "environment": environment(spec),
        # Readiness is asked by the controller: the image's own check would only start processes.
        "healthcheck": {"test": ["NONE"]},
    }
    if spec.argv:
        given["entrypoint"] = list(spec.argv)
    if not spec.image_user:
        given["user"] = place.user
    if not spec.image:
        given["working_dir"] = "/tmp"  # noqa: S108 -- the replica's own
    return given


def host(spec: ReplicaSpec, place: Place, *, network: str, sockets: str) -> dict[str, Any]:
    """Arguments of `create_host_config`. `sockets`: the folder of this machine that becomes SOCKET_DIR; "": none."""
    wanted = spec.resources
    scratch = max(SMALLEST_TMP, wanted.mem_bytes // TMP_SHARE)
    binds = [Bind(mount.target, mount.source, type="bind", read_only=mount.read_only) for mount in spec.mounts]
    if sockets:
        binds.append(Bind(SOCKET_DIR, sockets, type="bind"))
    given: dict[str, Any] = {
        "mem_limit": wanted.mem_bytes,
        "memswap_limit": wanted.mem_bytes,  # memory and swap together: no swap
        # Not nano_cpus: those cannot be changed while it runs.
        "cpu_period": CPU_PERIOD_US,
        "cpu_quota": wanted.cpu_milli * CPU_PERIOD_US // 1000,
        "pids_limit": wanted.pids,
        "shm_size": scratch,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": writable(spec, place, scratch),
        "mounts": binds,
        "network_mode": network,
        "ipc_mode": "private",
        "init": True,  # it passes TERM on, and buries orphans
        "restart_policy": {"Name": "no"},  # the controller restarts: one owner of back-off and crash loops
        "log_config": LogConfig(type="local", config=LOG_FILES),
        "ulimits": [Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES), Ulimit(name="core", soft=0, hard=0)],
    }
    if wanted.gpus:
        given["device_requests"] = [DeviceRequest(count=wanted.gpus, capabilities=[["gpu"]])]
    return given


def writable(spec: ReplicaSpec, place: Place, scratch: int) -> Mapping[str, str]:
    """Folders in memory. Models compile code there, so programs may be run from them."""
    flags = f"rw,exec,nosuid,nodev,size={scratch}"
    found = dict.fromkeys(WRITABLE, f"{flags},mode=1777")
    if spec.contained:
        # The engine gives a cover the mode of the folder below it, so it belongs to the replica's user instead.
        uid, _, gid = place.user.partition(":")
        own = "" if spec.image_user else f",uid={uid},gid={gid}"
        found |= dict.fromkeys(WRITABLE_IN_IMAGES, flags + own)
    return found

"""What a replica sees of the machine: the bwrap arguments, or rewritten paths where nothing can be bound.

Pure functions, apart from looking at the interpreter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from apps.compute.drivers.base import SOCKET_DIR, Mount, Network, ReplicaSpec

NOBODY = 65534
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FILES = (
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/etc/mime.types", "/etc/ssl/certs", "/etc/ca-certificates", "/etc/pki", "/usr/share/ca-certificates",
)  # fmt: skip
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf")
TMP_SHARE = 4  # /tmp and /dev/shm may each take up to a quarter of the replica's memory: their pages count as its own
TMP_FOLDERS = ("/tmp", "/dev/shm")  # noqa: S108 -- the replica's own
SMALLEST_TMP = 16 * 1024 * 1024
USERS = "nobody:x:65534:65534:nobody:/tmp:/usr/sbin/nologin\n"
GROUPS = "nogroup:x:65534:\n"
PYVENV_BYTES = 4096

LOADER = re.compile(r"(LD_|GLIBC_|MALLOC_|GCONV_|LOC|NLS|LC_|LANG|CHARSET|OUTPUT_CHARSET|TZ|RES_|HOSTALIASES)")
"""Variables that change how *any* program loads or talks: kept from bwrap and setpriv, which still hold rights."""


def normal(path: str) -> bool:
    return path.startswith("/") and str(PurePosixPath(path)) == path and ".." not in PurePosixPath(path).parts


def below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def to_source(path: str, mounts: Iterable[Mount], socket_dir: str) -> str:
    """The path on this machine of a path that the replica was told."""
    pairs = [(SOCKET_DIR, socket_dir), *((mount.target, mount.source) for mount in mounts)]
    for target, source in sorted(pairs, key=lambda pair: -len(pair[0])):
        if below(path, target):
            return source + path[len(target) :]
    return path


def rewrite(value: str, mounts: Iterable[Mount], socket_dir: str) -> str:
    """For drivers that cannot bind: one value that is a target, or below one, becomes the source. `unix:` is kept."""
    head, path = ("unix:", value[5:]) if value.startswith("unix:") else ("", value)
    return head + to_source(path, mounts, socket_dir)


def environment(spec: ReplicaSpec, *, tmp: str) -> dict[str, str]:
    """What the replica's environment holds: the spec's, and the minimum programs need. Nothing of the portal's."""
    threads = str(max(1, -(-spec.resources.cpu_milli // 1000)))
    minimum = {
        "PATH": f"{PurePosixPath(spec.argv[0]).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": tmp,
        "TMPDIR": tmp,
        "LANG": "C.UTF-8",
        # Numeric libraries start one thread per core of the machine otherwise, whatever the limit.
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }
    return minimum | dict(spec.env)


def prefixes(program: str) -> list[str]:
    """The folders of the Python that a program belongs to: its environment's base interpreter, or its own.

    Environments hold what users' packages wrote, so a folder counts only when a real Python lives in it: a forged
    `pyvenv.cfg` must not open any other folder of the machine.
    """
    path = Path(program)
    found = [path.parent.parent, path.resolve().parent.parent]
    config = path.parent.parent / "pyvenv.cfg"
    if config.is_file() and not config.is_symlink():
        with config.open(encoding="utf-8", errors="replace") as file:
            for line in file.read(PYVENV_BYTES).splitlines():
                key, _, value = line.partition("=")
                if key.strip() == "home" and normal(value.strip()):
                    found.append(Path(value.strip()).parent)
    found += [folder.resolve() for folder in found]
    return sorted({str(folder) for folder in found if is_python(folder)})


def is_python(prefix: Path) -> bool:
    return any((prefix / "bin").glob("python3*")) and any(prefix.glob("lib/python3.*/os.py"))


def visible(spec: ReplicaSpec) -> bool:
    """Whether the program is anywhere in what the sandbox will show."""
    program = spec.argv[0]
    folders = [*SYSTEM, *(mount.target for mount in spec.mounts), *prefixes(program)]
    return any(below(program, folder) for folder in folders)


def missing_parents(targets: Iterable[str], present: Iterable[str], empty: Iterable[str] = ()) -> list[str]:
    """Folders to make so that each target can be reached; bwrap makes its own with mode 700, of use to root only.

    What is below a folder of `present` is there; `empty` ones are there with nothing in them.
    """
    have = {"/", *present, *empty}
    made: list[str] = [*empty]
    for target in sorted(targets):
        for parent in list(PurePosixPath(target).parents)[::-1]:
            text = str(parent)
            if text not in have and not any(below(text, folder) for folder in have - {"/"} if folder not in made):
                have.add(text)
                made.append(text)
    return made[len([*empty]) :]


def system_args() -> list[str]:
    args: list[str] = []
    for path in SYSTEM:
        folder = Path(path)
        if folder.is_symlink():
            args += ["--symlink", str(folder.readlink()), path]
        elif folder.is_dir():
            args += ["--ro-bind", path, path]
    return args


def namespace_args(*, root: bool, network: Network) -> list[str]:
    if root:
        # Without a user namespace, so that setpriv can take on an id that the machine knows; see `drop_args`.
        args = ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        args += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
        args += ["--unshare-net"] if network is Network.NONE else []
    else:
        args = ["--unshare-all", "--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL"]
        args += ["--share-net"] if network is not Network.NONE else []
    return [*args, "--die-with-parent", "--new-session", "--clearenv"]


def drop_args(*, root: bool, setpriv: str) -> list[str]:
    if not root:
        return []
    user, group = f"--reuid={NOBODY}", f"--regid={NOBODY}"
    return [setpriv, user, group, "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]


def bwrap_args(spec: ReplicaSpec, *, socket_dir: str, users_dir: str, env: Mapping[str, str], root: bool) -> list[str]:
    """Everything between `bwrap` and `--`: handed over in a file, since it holds the environment."""
    tmp_size = str(max(SMALLEST_TMP, spec.resources.mem_bytes // TMP_SHARE))
    binds = [(mount.source, mount.target, mount.read_only) for mount in spec.mounts]
    seen = [mount.target for mount in spec.mounts]
    interpreters = prefixes(to_source(spec.argv[0], spec.mounts, socket_dir))
    binds += [
        (path, path, True) for path in interpreters if not any(below(path, folder) for folder in (*SYSTEM, *seen))
    ]
    binds += [(f"{users_dir}/{name}", f"/etc/{name}", True) for name in ("passwd", "group")]
    files = [*SYSTEM_FILES, *(NETWORK_FILES if spec.network is not Network.NONE else ())]
    binds += [(file, file, True) for file in files if not below(file, "/usr") and Path(file).exists()]
    binds.append((socket_dir, SOCKET_DIR, False))
    targets = [target for _, target, _ in binds]
    args = [*namespace_args(root=root, network=spec.network), *system_args(), "--proc", "/proc", "--dev", "/dev"]
    for folder in TMP_FOLDERS:
        args += ["--perms", "1777", "--size", tmp_size, "--tmpfs", folder]
    for folder in missing_parents(targets, [*SYSTEM, "/proc", "/dev"], TMP_FOLDERS):
        args += ["--perms", "0755", "--dir", folder]
    for source, target, read_only in sorted(binds, key=lambda bind: bind[1]):
        args += ["--ro-bind" if read_only else "--bind", source, target]
    args += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108 -- the replica's own
    for key, value in env.items():
        if not LOADER.match(key):
            args += ["--setenv", key, value]
    return args


def command(spec: ReplicaSpec, *, env: Mapping[str, str], root: bool, setpriv: str, env_tool: str) -> list[str]:
    """What bwrap runs: the drop of rights, then the loader's variables, then the program."""
    late = [f"{key}={value}" for key, value in env.items() if LOADER.match(key)]
    return [*drop_args(root=root, setpriv=setpriv), env_tool, *late, *spec.argv]


def unreachable(path: str, uid: int) -> str:
    """The first folder above `path` that `uid` may not enter; empty when it can reach it."""
    for parent in list(Path(os.path.realpath(path)).parents)[::-1]:
        status = parent.stat()
        allowed = status.st_mode & (0o100 if status.st_uid == uid else 0o001)
        if not allowed:
            return str(parent)
    return ""

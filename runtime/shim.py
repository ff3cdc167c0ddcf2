"""`python -I -S shim.py <spec.json>`: start one replica, watch it, record how it ended. Standard library only.

It detaches itself from whoever started it, so that a restart of the control plane leaves the replica alone; and it
holds the replica so tightly that the replica never outlives it. Its parent returns once the replica's program
is running (exit 0) or could not be started (exit 1, one JSON line on stderr).

Files, all beside the spec: `shim.lock` (held while the shim lives), `shim.json`, `log` and `log.1`, `stop.json` (read
at each SIGTERM: how long to wait before KILL), `exit.json`.
"""
# One shim per replica stays in memory: pathlib, subprocess, shutil and selectors are left out for their size.
# ruff: noqa: S606

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
LOG_BYTES = 4 * 1024 * 1024
LINE_BYTES = 16 * 1024
LOG_BYTES_PER_SECOND = 4 * 1024 * 1024
START_SECONDS = 20.0
DRAIN_SECONDS = 1.0
SWEEP_SECONDS = 10.0
FAST_POLL, SLOW_POLL, FAST_POLL_SECONDS = 0.05, 1.0, 60.0
GRPC_SOCKET = "g.sock"
SIGNAL_BASE = 128
LIBC = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The replica's program could not be started; `kind` tells the driver which of its errors this is."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# ---------------------------------------------------------------------------------------------------------- small tools


def write_json(path: str, value: object) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(value).encode())
    finally:
        os.close(fd)
    os.replace(temporary, path)


def write_value(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock file that all replicas of an installation share."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read_text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(65536)
    return ""


def unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(top: str) -> None:
    """Remove a folder whose content a (dead) replica made; follows no link."""
    folders = [top]
    for folder in folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    unlink(entry.path)
    for folder in reversed(folders):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 when there is none. Tells a recycled pid apart."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields else 0


def boot_id() -> str:
    return read_text("/proc/sys/kernel/random/boot_id").strip()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in read_text(f"/proc/{pid}/task/{pid}/children").split()]


def descendants_of(pid: int) -> list[int]:
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children_of(queue.pop())
        found += below
        queue += below
    return found


def kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def kill_descendants() -> None:
    """Kill all that is below this process. It is a subreaper, so whatever daemonized has come back to it."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < deadline:
        for pid in descendants_of(os.getpid()):
            kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def exit_code_of(status: int, *, sandboxed: bool) -> int:
    """Exit code, or -N for a death by signal N. bwrap reports a signal of the server as 128 + N."""
    code = os.waitstatus_to_exitcode(status)
    if sandboxed and SIGNAL_BASE < code <= SIGNAL_BASE + signal.SIGRTMAX:
        return SIGNAL_BASE - code
    return code


# ------------------------------------------------------------------------------------------------------------------ log


class Log:
    """A size-bounded log of lines `<UTC time> <o|e> <text>`: the current file and the one before it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pending: dict[str, bytes] = {}
        self.fd = -1
        self.size = 0
        self.open()

    def open(self) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size

    def feed(self, stream: str, data: bytes) -> None:
        """Take what came from the pipe; a line longer than LINE_BYTES is cut into several."""
        lines = (self.pending.pop(stream, b"") + data.replace(b"\0", b"")).replace(b"\r", b"\n").split(b"\n")
        rest = lines.pop()
        while len(rest) > LINE_BYTES:
            lines.append(rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        if rest:
            self.pending[stream] = rest
        self.write(stream, [line for line in lines if line])

    def flush(self) -> None:
        for stream, rest in list(self.pending.items()):
            self.write(stream, [rest])
        self.pending.clear()

    def write(self, stream: str, lines: list[bytes]) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z {stream} "
        prefix = stamp.encode()
        # A full disk must not end the replica: its lines are lost, it lives.
        with contextlib.suppress(OSError):
            for line in lines:
                for start in range(0, len(line), LINE_BYTES):
                    self.append(prefix + line[start : start + LINE_BYTES] + b"\n")

    def append(self, record: bytes) -> None:
        if self.size + len(record) > LOG_BYTES:
            os.close(self.fd)
            os.replace(self.path, self.path + ".1")
            self.open()
        self.size += os.write(self.fd, record)


# -------------------------------------------------------------------------------------------------------------- cgroups


class Cgroups:
    """The replica's control groups, as the spec lists them; v1 and v2 differ only in the file names it names."""

    def __init__(self, spec: dict[str, Any], lock: str) -> None:
        self.groups = spec.get("cgroups", [])
        self.lock = lock
        self.oom_file = spec.get("oom_file", "")
        self.kills = False

    def create(self) -> None:
        with locked(self.lock):
            for group in self.groups:
                try:
                    self.create_one(group)
                except OSError as error:  # noqa: PERF203
                    raise StartError(
                        "unavailable", f"The control group {group['path']} cannot be set up: {error}."
                    ) from error
        for group in self.groups:
            self.empty(group["path"])

    @staticmethod
    def create_one(group: dict[str, Any]) -> None:
        for path, value in group.get("before", ()):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_value(path, value)
        os.makedirs(group["path"], exist_ok=True)
        for name, value in group["files"]:
            write_value(f"{group['path']}/{name}", value)
        for name, value in group.get("optional", ()):
            with contextlib.suppress(OSError):  # e.g. a kernel without swap accounting
                write_value(f"{group['path']}/{name}", value)

    def join(self) -> None:
        for group in self.groups:
            write_value(f"{group['path']}/cgroup.procs", "0")

    def oom_kills(self) -> int:
        for line in read_text(self.oom_file).splitlines() if self.oom_file else ():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    @staticmethod
    def empty(path: str) -> None:
        deadline = time.monotonic() + SWEEP_SECONDS
        while time.monotonic() < deadline:
            pids = read_text(f"{path}/cgroup.procs").split()
            if not pids:
                return
            for pid in pids:
                kill(int(pid), signal.SIGKILL)
            time.sleep(0.005)

    def remove(self) -> None:
        for group in self.groups:
            self.empty(group["path"])
        deadline = time.monotonic() + DRAIN_SECONDS
        for group in self.groups:
            while os.path.isdir(group["path"]) and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    os.rmdir(group["path"])
                    break
                time.sleep(0.01)
        with locked(self.lock):  # the installation's folder goes with its last replica, unless one starts just now
            for group in self.groups:
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(group["path"]))


# -------------------------------------------------------------------------------------------------------------- child


def limit(spec: dict[str, Any]) -> None:
    for name, value in spec["rlimits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (bounded, bounded))
    if spec.get("extra_processes"):
        most = threads_of(spec.get("processes_uid", spec.get("uid", os.getuid()))) + spec["extra_processes"]
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def threads_of(uid: int) -> int:
    """RLIMIT_NPROC counts all threads of a user on the machine, so the bound starts from those there are."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError, ValueError):
            if os.stat(f"/proc/{pid}").st_uid == uid:
                total += int(read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[17])
    return total


def drop_rights(spec: dict[str, Any]) -> None:
    if "uid" in spec:
        for capability in range(64):
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails past the kernel's last one
        os.setgroups([])
        os.setresgid(spec["gid"], spec["gid"], spec["gid"])
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def become(spec: dict[str, Any], cgroups: Cgroups, parent: int, outputs: tuple[int, int], error_fd: int) -> None:
    """In the child: take on every limit and become the program. Reports on `error_fd` when it cannot."""
    kind = "unavailable"  # until the program itself is to blame
    try:
        os.setsid()
        cgroups.join()
        with contextlib.suppress(OSError):
            write_value("/proc/self/oom_score_adj", "300")  # under memory pressure models go before the portal
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (outputs[0], 1), (outputs[1], 2)):
            os.dup2(source, target)
        for fd in spec.get("pass_fds", ()):
            os.set_inheritable(fd, True)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.umask(0)  # other users (the gateway) connect to the socket; who reaches it is the folder's matter
        os.chdir(spec["cwd"])
        limit(spec)
        drop_rights(spec)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # last: a change of user clears it
        if os.getppid() != parent:
            os._exit(1)
        kind = "image"
        os.execve(spec["argv"][0], spec["argv"], spec["env"])
    except BaseException as error:  # noqa: BLE001 -- nothing may return from here
        os.write(error_fd, f"{kind}:{spec['argv'][0]}: {error}".encode()[:4000])
        os._exit(127)


def close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept and int(name) > 2:  # noqa: PLR2004
            with contextlib.suppress(OSError):
                os.close(int(name))


def guard(life: int, report: int, start: object) -> None:
    """Without a pid namespace: a process between shim and replica, so that either one's death ends the replica."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    me = os.getpid()
    main = os.fork()
    if not main:
        start(me)  # type: ignore[operator]
    close_all_but(life, report)
    os.write(report, f"{main}\n".encode())
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended = False
    while not ended:
        readable = select.select([life, wake], [], [], 5.0)[0]
        if wake in readable:
            os.read(wake, 512)
        with contextlib.suppress(ChildProcessError):
            while (done := os.waitpid(-1, os.WNOHANG))[0]:
                if done[0] == main:
                    os.write(report, f"{done[1]}\n".encode())
                    ended = True
        ended = ended or life in readable
    kill_descendants()
    os._exit(0)


# ----------------------------------------------------------------------------------------------------------------- shim


class Shim:
    """One replica from its start to its exit record."""

    def __init__(self, folder: str, spec: dict[str, Any]) -> None:
        self.folder = folder
        self.spec = spec
        self.sandboxed: bool = spec["sandboxed"]
        self.cgroups = Cgroups(spec, os.path.join(os.path.dirname(folder), ".groups.lock"))
        self.started = time.time()
        self.child = self.inner = 0
        self.status: int | None = None
        self.stop_at: float | None = None
        self.oom = False
        self.stopping = False
        self.wake = self.life = self.report = -1
        self.outputs: dict[int, str] = {}
        self.budget = (0, 0)
        self.log = Log(self.path("log"))

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    # -- start

    def start(self) -> None:
        for name in ("exit.json", "stop.json", "shim.json"):
            unlink(self.path(name))
        self.record()
        self.prepare_sockets()
        self.cgroups.create()
        self.install_signals()
        self.spawn()
        self.record()

    def record(self) -> None:
        write_json(
            self.path("shim.json"),
            {
                "pid": os.getpid(),
                "ticks": start_ticks(os.getpid()),
                "boot_id": boot_id(),
                "child": [self.child, start_ticks(self.child) if self.child else 0],
                "inner": [self.inner, start_ticks(self.inner) if self.inner else 0],
                "started": self.started,
                "isolation": self.spec["isolation"],
                "cgroups": [group["path"] for group in self.cgroups.groups],
                "socket": self.spec["socket"],
            },
        )

    def prepare_sockets(self) -> None:
        """A folder the replica cannot write, which callers use, and below it the replica's own folders."""
        outer, owner = self.spec["run"], (self.spec["owner_uid"], self.spec["owner_gid"])
        remove_tree(outer)
        os.makedirs(outer, mode=0o755)
        os.chmod(outer, self.spec["run_mode"])
        if self.spec["run_gid"] is not None:
            os.chown(outer, -1, self.spec["run_gid"])
        for name, mode in (("s", 0o755), ("t", 0o700)):
            inner = os.path.join(outer, name)
            os.mkdir(inner)
            os.chmod(inner, mode)
            if os.getuid() == 0:
                os.chown(inner, *owner)

    def install_signals(self) -> None:
        self.wake, wake_write = os.pipe()
        for fd in (self.wake, wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.on_term)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def spawn(self) -> None:
        out, out_write = os.pipe()
        err, err_write = os.pipe()
        failed, failed_write = os.pipe()
        info = self.pass_sandbox_args() if self.sandboxed else None

        def start(parent: int) -> None:
            become(self.spec, self.cgroups, parent, (out_write, err_write), failed_write)

        life, life_write = os.pipe()
        report, report_write = os.pipe()
        me = os.getpid()
        self.child = os.fork()
        if not self.child:
            if self.sandboxed:
                start(me)
            guard(life, report_write, start)
        for fd in (out_write, err_write, failed_write, life, report_write, *self.spec.get("pass_fds", ())):
            os.close(fd)
        self.life, self.report = life_write, report
        for fd in (out, err, report):
            os.set_blocking(fd, False)
        self.outputs = {out: "o", err: "e"}
        self.await_exec(failed)
        self.find_inner(info)

    def pass_sandbox_args(self) -> int:
        """Give bwrap its arguments in a file of memory: they hold the environment, and /proc shows command lines."""
        info, info_write = os.pipe()
        args = os.memfd_create("args")
        with os.fdopen(os.dup(args), "wb") as file:
            file.write(b"".join(arg.encode() + b"\0" for arg in self.spec["sandbox"]))
        os.lseek(args, 0, os.SEEK_SET)
        head, rest = self.spec["argv"][0], self.spec["argv"][1:]
        self.spec["argv"] = [head, "--info-fd", str(info_write), "--args", str(args), "--", *rest]
        self.spec["pass_fds"] = [info_write, args]
        return info

    def await_exec(self, failed: int) -> None:
        """The pipe closes by itself when the program takes over; text on it says why it could not."""
        text = b""
        deadline = time.monotonic() + START_SECONDS
        while select.select([failed], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = os.read(failed, 4096)
            if not data:
                break
            text += data
        os.close(failed)
        if text:
            kind, _, reason = text.decode(errors="replace").partition(":")
            raise StartError(kind, f"The program cannot be started: {reason}.")

    def find_inner(self, info: int | None) -> None:
        """The server's own pid: what a graceful stop signals. SIGTERM to bwrap would kill at once."""
        deadline = time.monotonic() + START_SECONDS
        if info is None:
            while not self.inner and select.select([self.report], [], [], max(0.0, deadline - time.monotonic()))[0]:
                if not self.read_report():
                    return
            return
        text = b""
        while select.select([info], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data = os.read(info, 4096)
            text += data
            if not data or b"}" in data:
                break
        os.close(info)
        if b"}" not in text:
            return  # bwrap gave up; its message is in the log and its exit code follows
        init = json.loads(text)["child-pid"]
        while time.monotonic() < deadline and start_ticks(init):
            below = children_of(init)
            if below:
                self.inner = below[0]
                return
            time.sleep(0.001)

    # -- life

    def on_term(self, *_: object) -> None:
        self.stopping = True

    def run(self) -> None:
        """Until the replica's program has ended: copy output, follow the socket, obey SIGTERM, watch for OOM."""
        while self.status is None:
            self.pump(self.pause())
            self.reap()
            self.follow_sockets()
            if self.stopping:
                self.begin_stop()
            if self.stop_at is not None and time.monotonic() >= self.stop_at:
                self.end_now()
            if not self.oom and self.cgroups.oom_kills():
                # v1 kills one process of the group only; half a server is no server (v2: memory.oom.group).
                self.oom = True
                self.end_now()

    def pause(self) -> float:
        fast = time.time() - self.started < FAST_POLL_SECONDS and not os.path.lexists(self.spec["socket"])
        pause = FAST_POLL if fast else SLOW_POLL
        return pause if self.stop_at is None else max(0.0, min(pause, self.stop_at - time.monotonic()))

    def pump(self, timeout: float) -> None:
        second, used = self.budget
        now = int(time.monotonic())
        used = used if second == now else 0
        # Past its budget a replica waits on its own full pipe instead of using up the shim's processor time.
        sources = [*self.outputs] if used < LOG_BYTES_PER_SECOND else []
        if used < LOG_BYTES_PER_SECOND and self.report >= 0:
            sources.append(self.report)
        wait = timeout if used < LOG_BYTES_PER_SECOND else FAST_POLL
        readable = select.select([self.wake, *sources], [], [], wait)[0]
        for fd in readable:
            if fd == self.wake:
                os.read(fd, 512)
            elif fd == self.report:
                self.read_report()
            else:
                used += self.copy(fd)
        self.budget = (now, used)

    def copy(self, fd: int) -> int:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return 0
        if not data:
            del self.outputs[fd]
            os.close(fd)
            return 0
        self.log.feed(self.outputs[fd], data)
        return len(data)

    def read_report(self) -> bool:
        """What the guard tells: first the server's pid, then its wait status."""
        if self.report < 0:
            return False
        try:
            data = os.read(self.report, 512)
        except BlockingIOError:
            return True
        if not data:  # an ended pipe is always readable: left in, it would keep the loop from ever sleeping
            os.close(self.report)
            self.report = -1
        for line in data.split():
            if not self.inner:
                self.inner = int(line)
            elif self.status is None:
                self.status = int(line)
        return bool(data)

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self.child:
                    self.read_report()  # the guard wrote the status before it ended
                    if self.status is None:
                        self.status = status

    def doors(self) -> list[str]:
        """Where callers find the replica: its socket last, for when that is there it counts as listening."""
        return [os.path.join(os.path.dirname(self.spec["socket"]), GRPC_SOCKET), self.spec["socket"]]

    def follow_sockets(self) -> None:
        for link in self.doors():
            self.follow(os.path.join(self.spec["run"], "s", os.path.basename(link)), link)

    @staticmethod
    def follow(source: str, link: str) -> None:
        """Give callers a hard link to the socket, in a folder the replica cannot write.

        With the replica's own path, a hostile model could swap its socket for a symbolic link to another service's and
        have the gateway talk to that.
        """
        with contextlib.suppress(OSError):
            there = os.lstat(source)
            if not stat.S_ISSOCK(there.st_mode):
                return
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(link).st_ino == there.st_ino:
                    return
            temporary = link + "~"
            unlink(temporary)
            os.link(source, temporary, follow_symlinks=False)
            if stat.S_ISSOCK(os.lstat(temporary).st_mode):
                os.replace(temporary, link)
            else:
                unlink(temporary)

    def begin_stop(self) -> None:
        self.stopping = False
        try:
            grace = float(json.loads(read_text(self.path("stop.json")))["grace_s"])
        except (ValueError, KeyError, TypeError):
            grace = float(self.spec["grace_s"])
        at = time.monotonic() + max(0.0, grace)
        if self.stop_at is None:
            self.stop_at = at
            if self.inner and grace > 0:
                kill(self.inner, signal.SIGTERM)
        self.stop_at = min(self.stop_at, at)

    def end_now(self) -> None:
        self.stop_at = time.monotonic() + DRAIN_SECONDS
        if self.inner and self.status is None:
            kill(self.inner, signal.SIGKILL)
        if not self.sandboxed or not self.inner:
            return
        # bwrap passes on the server's end by itself; should it hang, end bwrap and with it the namespace.
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.status is None and time.monotonic() < deadline:
            self.pump(0.02)
            self.reap()
        if self.status is None:
            kill(self.child, signal.SIGKILL)

    # -- end

    def finish(self) -> None:
        for link in self.doors():
            unlink(link)
        os.close(self.life)
        for group in self.cgroups.groups:
            self.cgroups.empty(group["path"])
        kill_descendants()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.outputs and time.monotonic() < deadline:
            self.pump(0.05)
        self.log.flush()
        self.oom = self.oom or self.cgroups.oom_kills() > 0
        used = self.usage()  # now that all are collected, before the groups' counters go
        self.cgroups.remove()
        status = self.status if self.status is not None else 1 << 8
        write_json(
            self.path("exit.json"),
            {
                "exit_code": exit_code_of(status, sandboxed=self.sandboxed),
                "oom": self.oom,
                "started": self.started,
                "ended": time.time(),
                "usage": used,
            },
        )

    def usage(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
        files = self.spec.get("usage_files", {})
        with contextlib.suppress(ValueError):
            seconds = int(read_text(files.get("cpu_ns", ""))) / 1e9
        with contextlib.suppress(ValueError):
            peak = int(read_text(files.get("peak", "")))
        return {"cpu_seconds": seconds, "peak_bytes": peak}


def supervise(spec_path: str, report: int) -> None:
    """The detached process. Tells on `report` that the replica runs (empty) or why not, then stays with it."""
    folder = os.path.dirname(os.path.abspath(spec_path))
    lock = os.open(os.path.join(folder, "shim.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartError("busy", "Another shim holds this replica.") from error
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    with open(spec_path, encoding="utf-8") as file:
        shim = Shim(folder, json.load(file))
    try:
        shim.start()
    except BaseException:
        kill_descendants()
        shim.cgroups.remove()
        raise
    os.close(report)
    shim.run()
    shim.finish()


def detach(spec_path: str, report: int) -> None:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        supervise(spec_path, report)
    except StartError as error:
        tell(report, error.kind, str(error))
    except Exception as error:  # noqa: BLE001 -- there is nobody else to tell
        tell(report, "unavailable", f"The shim failed: {type(error).__name__}: {error}.")


def tell(report: int, kind: str, message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(report, json.dumps({"kind": kind, "message": message}).encode())


def main(argv: list[str]) -> int:
    read, write = os.pipe()
    if not os.fork():
        os.close(read)
        detach(argv[1], write)
        os._exit(0)
    os.close(write)
    text = b""
    deadline = time.monotonic() + 2 * START_SECONDS
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(read, 4096)
        if not data:
            break
        text += data
    if text:
        sys.stderr.write(text.decode(errors="replace") + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

"""`portway up`: everything in the foreground, one Ctrl-C stops it all. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cli import parts, processes, supervisor
from cli.home import Home, HomeError, env_int
from cli.setup import Setup, SetupError, sample

FREE_BYTES_NEEDED = 300 * 2**20
READY_S = 60.0
DEMO_S = 180.0
STOP_S = 30.0


class UpError(Exception):
    """Portway cannot start; one line that says why and what to do."""


@dataclass(frozen=True)
class Ports:
    tls: int
    http: int
    private: int
    bind: str
    host: str

    @classmethod
    def from_environment(cls) -> Ports:
        return cls(
            tls=env_int("PORTWAY_PORT", 8443),
            http=env_int("PORTWAY_HTTP_PORT", 8080),
            private=env_int("PORTWAY_PRIVATE_PORT", 8081),
            bind=os.environ.get("PORTWAY_BIND", "127.0.0.1"),
            host=os.environ.get("PORTWAY_HOST", "localhost"),
        )


def up(home: Home) -> int:
    """Run until Ctrl-C, SIGTERM or `portway down`; the exit code."""
    ports = Ports.from_environment()
    home.create()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `portway down` ends a start in its middle like Ctrl-C
    with _only_one(home):
        _check_disk(home)
        left = processes.leftovers(home)
        check_ports(ports, held_by_us=any(each.part == "gateway" for each in left))
        if left:
            print(f"ending {len(left)} processes that an earlier start left behind; replicas go on")
            processes.end([each for each in left if each.part != "gateway"], grace_s=5.0)
        with Setup(home) as setup:
            try:
                first = setup.run()
            except SetupError as error:
                raise UpError(str(error)) from None
            except KeyboardInterrupt:
                setup.stop()
                _stop_replicas(home)  # the bootstrap may have started some already
                raise
            return _supervise(home, ports, first, setup, [each for each in left if each.part == "gateway"])


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """One Portway per home. The lock ends with the process, however it ends."""
    path = home.root / "up.lock"
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise UpError(
                f"Portway runs already on {home.root} (pid {stream.read().strip() or '?'}). See `portway status`."
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def _check_disk(home: Home) -> None:
    free = shutil.disk_usage(home.root).free
    if free < FREE_BYTES_NEEDED:
        raise UpError(
            f"The disk of {home.root} is full: {free // 2**20} MiB are free, {FREE_BYTES_NEEDED // 2**20} are needed."
        )
    probe = home.root / ".write-test"
    try:
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        what = "is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else f"cannot be written ({error.strerror})"
        raise UpError(f"The disk of {home.root} {what}.") from None


def check_ports(ports: Ports, *, held_by_us: bool = False) -> None:
    """Raises UpError when a port of the gateway cannot be had."""
    if held_by_us:
        return
    for name, port in (
        ("PORTWAY_PORT", ports.tls),
        ("PORTWAY_HTTP_PORT", ports.http),
        ("PORTWAY_PRIVATE_PORT", ports.private),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ports.bind, port))
            except PermissionError:
                raise UpError(f"Port {port} needs root. Choose another with {name}=…") from None
            except OSError as error:
                raise UpError(f"Port {port} is taken ({error.strerror}). Choose another with {name}=…") from None


def _manage(home: Home, *arguments: str, timeout_s: float) -> str:
    """Run a management command; its standard output. Raises UpError with its last line."""
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=parts.SOURCE,
            env=parts.environment_of(home),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UpError(f"`manage.py {arguments[0]}` took longer than {timeout_s:.0f} s.") from None
    if done.returncode != 0:
        (home.logs / f"{arguments[0]}.log").write_text(done.stdout + done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
        raise UpError(f"{lines[-1]}  (all of it: {home.logs / arguments[0]}.log)")
    return done.stdout


def _supervise(
    home: Home, ports: Ports, first: dict[str, Any], setup: Setup, old_gateway: list[processes.Process]
) -> int:
    config = home.run / "supervisor.conf"
    environment = parts.environment_of(home)
    config.write_text(parts.supervisor_config(home, environment))
    if old_gateway:
        home.envoy_admin_socket.unlink(
            missing_ok=True
        )  # the old one lets go of its ports only when the new one answers
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda seen, _frame: stopping.append(seen))
    child = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)],
        cwd=parts.SOURCE,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(home.logs / "supervisor.err").open("wb"),
        start_new_session=True,
        preexec_fn=processes.die_with_parent,  # noqa: PLW1509 -- there are no threads
    )
    stop = True
    try:
        failed = _follow(home, ports, first, child, stopping, setup, old_gateway)
        stop = not failed  # without its supervisor everything still runs, and predictions go on
    finally:
        setup.stop()  # a demo at work would fight with what stops now
        if stop:
            _stop(home, child)
    return 1 if failed else 0


def _follow(
    home: Home,
    ports: Ports,
    first: dict[str, Any],
    child: subprocess.Popen[bytes],
    stopping: list[int],
    setup: Setup,
    old_gateway: list[processes.Process],
) -> bool:
    """Wait until all is ready, say so, then wait for the end. True when the supervisor ended by itself."""

    def ended() -> bool:
        return bool(stopping) or child.poll() is not None

    _wait(lambda: supervisor.answers(home.supervisor_socket), READY_S, ended)
    if not _wait(lambda: get(ports, "/readyz") == http.client.OK, READY_S, ended):
        if not ended():
            raise UpError(f"Portway did not become ready within {READY_S:.0f} s. See `portway status` and {home.logs}.")
    else:
        processes.end(old_gateway, grace_s=2.0)
        if (demo := setup.demo) is not None:
            _wait(lambda: bool(sample(home)) or demo.poll() is not None, DEMO_S, ended)
            if demo.poll():
                print(
                    f"the demo could not be set up: {setup.last_line()}  (all of it: {home.logs / 'setup.log'})",
                    file=sys.stderr,
                )
        if not ended():
            _banner(home, ports, first)
            _start_late(home)
    while not ended():
        time.sleep(0.2)
    if stopping:
        print("\nstopping …", flush=True)
    else:
        print(
            f"the supervisor ended unexpectedly; see {home.logs / 'supervisor.log'}. Models still answer: "
            "`portway up` takes over, `portway down` stops them.",
            file=sys.stderr,
        )
    return not stopping


def _wait(ready: Callable[[], bool], timeout_s: float, ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not ended():
        if ready():
            return True
        time.sleep(0.1)
    return False


def get(ports: Ports, path: str) -> int:
    """The status of a GET through the gateway; 0 when nothing answers."""
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 -- our own front door on this machine, nothing secret is sent
    link = http.client.HTTPSConnection("127.0.0.1", ports.tls, timeout=5, context=context)
    try:
        link.request("GET", path, headers={"Host": f"{ports.host}:{ports.tls}"})
        return link.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        link.close()


def _start_late(home: Home) -> None:
    """Start what nobody waits for, once everything else has come up: it would only slow that down."""
    for part in parts.parts(home, os.environ):
        if part.late:
            try:
                supervisor.call(home.supervisor_socket, "startProcess", part.name, False)
            except (OSError, xmlrpc.client.Error) as error:
                print(f"{part.name} did not start: {error}", file=sys.stderr)


def _banner(home: Home, ports: Ports, first: dict[str, Any]) -> None:
    base = f"https://{ports.host}:{ports.tls}"
    print(f"\nPortway is ready: {base}")
    if first.get("admin_password"):
        print(f"  sign in as admin with the password {first['admin_password']}")
    else:
        print("  sign in as admin; forgotten the password? .venv/bin/python manage.py changepassword admin")
    print(f"  certificate authority: {home.ca}")
    print_call(home, ports)
    print("Ctrl-C stops it.", flush=True)


def print_call(home: Home, ports: Ports) -> None:
    """How to ask the demo's model, if there is one."""
    if call := sample(home):
        print("  a prediction of the demo model:")
        print(f"    curl --cacert {home.ca} -H 'Authorization: Bearer {call['key']}' \\")
        uri = f"https://{ports.host}:{ports.tls}{urlsplit(call['uri']).path}"  # the ports may be others by now
        print(f"      -H 'Content-Type: application/json' -d '{json.dumps(call['body'])}' {uri}")


def _stop(home: Home, child: subprocess.Popen[bytes]) -> None:
    """Parts first, then the replicas: nobody is left to restart them, and no request comes in any more."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout=5)
    processes.end(processes.leftovers(home), grace_s=3.0)
    _stop_replicas(home)


def _stop_replicas(home: Home) -> None:
    try:
        _manage(home, "stop_replicas", timeout_s=60)
    except UpError as error:
        print(f"replicas could not be stopped: {error}", file=sys.stderr)


def down(home: Home) -> int:
    """Stop the Portway of this home, wherever it was started."""
    pid = running_pid(home)
    if pid is None:
        left = processes.leftovers(home)
        processes.end(left, grace_s=5.0)
        if any(home.replicas.glob("*/shim.json")):
            _stop_replicas(home)
        print("Portway was not running" + (f"; ended {len(left)} left-over processes." if left else "."))
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S + 10
    while running_pid(home) == pid:
        if time.monotonic() > deadline:
            raise UpError(f"Portway (pid {pid}) does not stop. See {home.logs}.")
        time.sleep(0.1)
    print("Portway has stopped.")
    return 0


def running_pid(home: Home) -> int | None:
    """The pid of the `portway up` that holds this home."""
    path = home.root / "up.lock"
    try:
        with path.open("r+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(stream.read().strip() or 0) or None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror}") from None
    return None

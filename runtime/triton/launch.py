"""Starts the tritonserver of the `nvidia-pytriton` wheel and stands between it and the replica's sockets.

Triton listens on TCP only, so its ports stay on loopback and `m.sock` (HTTP) and `g.sock` (gRPC) are relayed to them.
With PORTWAY_BIND=host:port it listens there itself, and on the next port for gRPC; nothing is relayed.
ONNX models are served by a Python-based backend of ours, because the wheel has none for them (components.md 5).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

EXIT_FAILED_START = 3
READY_S = 3600.0  # the driver's own start deadline is shorter
DRAIN_S = 8


def main() -> int:
    here = Path(__file__).resolve().parent
    folder = Path(os.environ.get("PORTWAY_SOCKET_DIR") or "/run/s")
    sys.path.insert(0, str(here.parent))
    record = _load(here.parent / "serving" / "failures.py", "_portway_failures").Record(folder)
    relay = _load(here.parent / "relay.py", "_portway_relay").relay
    record.clear()
    try:
        repository = find_repository(Path(os.environ["PORTWAY_TRITON_MODELS"]))
        backends = lay_backends(Path(os.environ.get("TMPDIR") or "/tmp") / "backends", here)  # noqa: S108 -- private
        host, ports = listening(os.environ.get("PORTWAY_BIND") or "")
        server = subprocess.Popen(arguments(repository, backends, ports, host or "127.0.0.1"), env=environment())
    except (OSError, ValueError) as error:
        record.write("ModelLoadFailed", str(error), "")
        print(error, file=sys.stderr, flush=True)
        return EXIT_FAILED_START
    return asyncio.run(_run(server, ports, None if host else folder, record, relay))


def _load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_model(folder: Path) -> bool:
    """Triton's layout: a folder with a numbered folder in it, or with a config.pbtxt."""
    if (folder / "config.pbtxt").is_file():
        return True
    return any(each.is_dir() and each.name.isdigit() for each in folder.iterdir())


def find_repository(root: Path) -> Path:
    """The folder that holds model folders: `root`, or the one folder in it that does.

    Raises ValueError that says how a repository is laid out.
    """
    if not root.is_dir():
        raise ValueError(f"The Triton model {root} is not a folder.")
    for candidate in (root, *sorted(each for each in root.iterdir() if each.is_dir())):
        if any(is_model(each) for each in sorted(candidate.iterdir()) if each.is_dir()):
            return candidate
    raise ValueError(
        f"{root} is no Triton model repository: it needs <model>/<version>/model.onnx, with a whole number as version."
    )


def lay_backends(target: Path, here: Path) -> Path:
    """A backend folder with the wheel's Python backend, its stub for this Python, and ours for ONNX."""
    import pytriton  # type: ignore[import-not-found, unused-ignore]

    server = Path(pytriton.__file__).parent / "tritonserver"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise ValueError(f"This Triton has no Python backend for Python {version}.")
    check_library(f"libpython{version}.so.1.0")
    python, onnx = target / "python", target / "onnxruntime"
    for folder in (python, onnx):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(server / "backends" / "python", python, dirs_exist_ok=True)  # Triton refuses links out of it
    shutil.copy(stub, python / stub.name)
    shutil.copy(here / "onnx_backend.py", onnx / "model.py")
    return target


def check_library(name: str) -> None:
    """The stub is linked to it, and without it Triton waits for the stub for ever. Raises ValueError."""
    try:
        ctypes.CDLL(name)
    except OSError:
        if not (Path(str(sysconfig.get_config_var("LIBDIR") or "/")) / name).is_file():
            text = f"This Python has no {name}, which Triton needs: install it, or take an image with it."
            raise ValueError(text) from None


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now. Without a network namespace another process may take one first: Triton then ends."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def listening(bind: str) -> tuple[str, list[int]]:
    """(host, ports for HTTP, gRPC, metrics); the host is "" for sockets. Raises ValueError for what is no address."""
    if not bind:
        return "", free_ports(3)
    host, _, port = bind.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65535:  # noqa: PLR2004 -- the last but one that there is
        raise ValueError(f"PORTWAY_BIND is {bind!r}; write it as host:port, for example 0.0.0.0:8000.")
    return host, [int(port), int(port) + 1, *free_ports(1)]


def environment() -> dict[str, str]:
    """Triton finds its own libraries, libpython, and through the stub the packages of this environment."""
    packages = sysconfig.get_path("purelib")
    libraries = [f"{packages}/nvidia_pytriton.libs", str(sysconfig.get_config_var("LIBDIR") or "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(filter(None, [*libraries, os.environ.get("LD_LIBRARY_PATH", "")])),
        "PYTHONPATH": ":".join(filter(None, [packages, os.environ.get("PYTHONPATH", "")])),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
    }


def arguments(repository: Path, backends: Path, ports: list[int], host: str = "127.0.0.1") -> list[str]:
    import pytriton  # type: ignore[import-not-found, unused-ignore]

    http_port, grpc_port, metrics_port = map(str, ports)
    binary = Path(pytriton.__file__).parent / "tritonserver" / "bin" / "tritonserver"
    return [
        str(binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-address={host}",
        f"--grpc-address={host}",
        "--metrics-address=127.0.0.1",
        f"--http-port={http_port}",
        f"--grpc-port={grpc_port}",
        f"--metrics-port={metrics_port}",
        "--exit-on-error=false",  # else the reason is only in the log; we end it ourselves, see _unavailable
        f"--exit-timeout-secs={DRAIN_S}",
        "--backend-config=default-max-batch-size=4",
        "--allow-gpu-metrics=false",
    ]


async def _run(server: subprocess.Popen[bytes], ports: list[int], folder: Path | None, record: Any, relay: Any) -> int:
    """`folder`: of the sockets to relay; None when the server is asked itself."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.terminate)
    problem = await asyncio.to_thread(_come_up, server, ports[0])
    if problem:
        record.write("ModelLoadFailed", "Triton could not load the model repository.", problem)
        print(problem, file=sys.stderr, flush=True)
        server.kill()
        await asyncio.to_thread(server.wait)
        return EXIT_FAILED_START
    doors = []
    if folder is not None and server.poll() is None:
        doors = [await relay(folder / "g.sock", ports[1]), await relay(folder / "m.sock", ports[0])]
    code = await asyncio.to_thread(server.wait)
    for door in doors:
        door.close()
    return code if code >= 0 else 128 - code


def _come_up(server: subprocess.Popen[bytes], port: int) -> str:
    """Wait until every model is loaded; why it is not, or "" when it is or when the server has ended."""
    deadline = time.monotonic() + READY_S
    while server.poll() is None and time.monotonic() < deadline:
        models = _index(port)
        bad = [each for each in models or () if each.get("state") == "UNAVAILABLE"]
        if bad:
            return "; ".join(f"{each['name']}: {each.get('reason', 'unknown')}" for each in bad)[:500]
        if models == []:
            return "The repository has no model in it."
        if models and all(each.get("state") == "READY" for each in models) and _ready(port):
            return ""
        time.sleep(0.1)
    return ""


def _index(port: int) -> list[dict[str, Any]] | None:
    """The models of the repository; None while the server does not answer."""
    try:
        status, body = _ask(port, "POST", "/v2/repository/index")
        return json.loads(body) if status == http.client.OK else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _ready(port: int) -> bool:
    try:
        return _ask(port, "GET", "/v2/health/ready")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _ask(port: int, method: str, path: str) -> tuple[int, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request(method, path)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


if __name__ == "__main__":
    sys.exit(main())

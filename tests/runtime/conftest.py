"""Real scoring servers on real unix sockets. Each start costs a second or three, so modules share them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .batch_client import Nodes

BOOT = Path(__file__).resolve().parents[2] / "runtime" / "boot.py"
START_S = 60


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Server:
    """One process of the scoring server, as a driver starts it."""

    def __init__(self, folder: Path, **env: str) -> None:
        # A unix socket's path must be short: pytest's own folders are too deep.
        self.folder = folder
        self.sock_dir = Path(tempfile.mkdtemp(prefix="pw"))
        self.socket = self.sock_dir / "m.sock"
        full = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PORTWAY_SOCKET_DIR": str(self.sock_dir),
            "OMP_NUM_THREADS": "1",
            **env,
        }
        self.out = (folder / f"out-{self.sock_dir.name}").open("w+b")
        self.child = subprocess.Popen(
            [sys.executable, str(BOOT)], env=full, stdout=self.out, stderr=self.out, cwd=folder
        )

    def ready(self) -> Server:
        deadline = time.monotonic() + START_S
        while not self.socket.exists():
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not ready, exit {self.child.poll()}:\n{self.log()}")
            time.sleep(0.02)
        return self

    def log(self) -> str:
        return Path(self.out.name).read_text(errors="replace")

    def failure(self) -> dict[str, str] | None:
        path = self.sock_dir / "failure.json"
        return json.loads(path.read_text()) if path.exists() else None

    def connection(self, timeout: float = 30) -> _Connection:
        return _Connection(str(self.socket), timeout)

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            got = connection.getresponse()
            found = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, found, got.read())
        finally:
            connection.close()

    def post(self, body: Any, path: str = "/score", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, {"Content-Type": "application/json", **sent})

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def wait(self, timeout: float = START_S) -> int:
        return self.child.wait(timeout)

    def stop(self) -> int:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(15)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(10)
            raise

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        self.out.close()
        for path in self.sock_dir.iterdir():
            path.unlink()
        self.sock_dir.rmdir()


class Launcher:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Server] = []

    def script(self, text: str, *, name: str = "score.py", **env: str) -> Server:
        """Start a server for this script, without waiting."""
        code = Path(tempfile.mkdtemp(dir=self.folder))
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(textwrap.dedent(text))
        return self._add(Server(code, AML_APP_ROOT=str(code), AZUREML_ENTRY_SCRIPT=name, **env))

    def folder_of(self, files: dict[str, str], entry: str, **env: str) -> Server:
        code = Path(tempfile.mkdtemp(dir=self.folder))
        for name, text in files.items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_text(textwrap.dedent(text))
        return self._add(Server(code, AML_APP_ROOT=str(code), AZUREML_ENTRY_SCRIPT=entry, **env))

    def mlflow(self, model: Path, **env: str) -> Server:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return self._add(Server(folder, PORTWAY_MLFLOW_MODEL=str(model), **env))

    def _add(self, server: Server) -> Server:
        self.servers.append(server)
        return server

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("servers"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    found = Nodes(tmp_path_factory.mktemp("nodes"))
    yield found
    found.close()

"""A real Portway in a home of its own, started as a user starts it; for measurements and for tests/product."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
SHORT = "/api/v1/workspaces/default"
READY_LINE = "Ctrl-C stops it."


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_ticks(pid: int) -> int | None:
    """When the process started; None when there is none, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Failed(Exception):  # noqa: N818 -- a sentence, not a kind of error
    """The product did not do what was asked; carries what it said."""


class Product:
    """One installation: start, stop, commands, REST, scoring, and a look at its processes."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.tls, self.http, self.private = free_ports(3)
        ports = {"PORTWAY_PORT": self.tls, "PORTWAY_HTTP_PORT": self.http, "PORTWAY_PRIVATE_PORT": self.private}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PORTWAY_", "DJANGO_"))}
        kept = {name: value for name, value in kept.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
        if kept.pop("PYTHONDONTWRITEBYTECODE", ""):  # users have byte code: keep ours where it disturbs nobody
            kept["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / f"portway-bytecode-{os.getuid()}")
        self.environment = {**kept, "PORTWAY_HOME": str(home), **{k: str(v) for k, v in ports.items()}, **environment}
        self.process: subprocess.Popen[bytes] | None = None
        self.output = home.parent / f"{home.name}.out"

    # ---- start and stop

    def launch(self) -> subprocess.Popen[bytes]:
        """`portway up`, not waited for."""
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "cli", "up"], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self.process

    def up(self, *, timeout_s: float = 150) -> float:
        """Start and wait for the banner; the seconds it took."""
        started = time.monotonic()
        process = self.launch()
        while READY_LINE not in self.said():
            if process.poll() is not None or time.monotonic() - started > timeout_s:
                raise Failed(f"portway up (exit {process.poll()}): {self.said()}")
            time.sleep(0.02)
        return time.monotonic() - started

    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def stop(self, number: int = signal.SIGINT, *, timeout_s: float = 60) -> int:
        """End `portway up` with a signal; its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Whatever happened, nothing stays."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.command("down", timeout_s=90)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def command(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, "-m", "cli", *arguments], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def django(self, code: str, *, timeout_s: float = 60) -> str:
        """Run some lines inside the installation, as its operator could; what they printed."""
        done = subprocess.run(
            [PYTHON, str(ROOT / "manage.py"), "shell", "-c", code], cwd=ROOT, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        return done.stdout + (done.stderr if done.returncode else "")

    # ---- processes

    def pids(self, part: str = "") -> list[int]:
        """Everything of this home: by environment, and replicas and their shims by command line."""
        marks = (f"PORTWAY_HOME={self.home}".encode(), f"{self.home}/".encode())
        wanted = f"PORTWAY_PART={part}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            ours = marks[0] in environment if part else marks[0] in environment or marks[1] in line
            if ours and (not part or wanted in environment) and start_ticks(int(folder.name)):
                found.append(int(folder.name))
        return sorted(found)

    def replicas(self) -> dict[str, dict[str, int]]:
        """Living replicas: name → pid and start time of shim and server."""
        found = {}
        for file in (self.home / "replicas").glob("*/shim.json"):
            try:
                record = json.loads(file.read_text())
            except (OSError, ValueError):
                continue
            if start_ticks(record["pid"]) == record["ticks"]:
                found[file.parent.name] = {
                    "shim": record["pid"], "shim_ticks": record["ticks"],
                    "server": record["inner"][0], "server_ticks": record["inner"][1],
                }  # fmt: skip
        return found

    # ---- REST

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """(status, headers, parsed body) through the front door, with TLS verified."""
        context = ssl.create_default_context(cafile=str(self.home / "ca.pem"))
        link = http.client.HTTPSConnection("localhost", self.tls, timeout=30, context=context)
        try:
            raw = None if body is None else json.dumps(body)
            link.request(method, path, raw, {"Content-Type": "application/json", **(headers or {})})
            answer = link.getresponse()
            text = answer.read()
        finally:
            link.close()
        try:
            return answer.status, answer.headers, json.loads(text) if text else None
        except ValueError:
            return answer.status, answer.headers, text.decode(errors="replace")

    def rest(self, method: str, path: str, body: Any = None, *, wait: bool = True, timeout_s: float = 120) -> Any:
        """A call of the API that must work; with `wait`, until the operation it started has ended well."""
        token = (self.home / "secrets" / "sdk-token").read_text().strip()
        allowed = {"Authorization": f"Bearer {token}"}
        status, headers, answer = self.request(method, f"{SHORT}/{path}", body, allowed)
        if status >= 300:
            raise Failed(f"{method} {path}: {status} {answer}")
        url = headers.get("Azure-AsyncOperation")
        if not wait or not url:
            return answer
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, found = self.request("GET", "/" + url.split("/", 3)[3], None, allowed)
                if status == http.client.OK and found["status"] == "Succeeded":
                    return answer
                if status == http.client.OK and found["status"] not in {"InProgress", "Running", "Queued"}:
                    raise Failed(f"{method} {path}: {found}")
            if time.monotonic() > deadline:
                raise Failed(f"{method} {path} did not end within {timeout_s} s")
            time.sleep(0.05)

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.request("GET", "/healthz")[2]
        return answer

    # ---- endpoints

    def endpoint(self, name: str) -> str:
        """Make an endpoint with key auth; its primary key."""
        self.rest("PUT", f"onlineEndpoints/{name}", {"location": "local", "properties": {"authMode": "Key"}})
        return str(self.rest("POST", f"onlineEndpoints/{name}/listKeys")["primaryKey"])

    def register(self, kind: str, name: str, version: str, **properties: Any) -> str:
        """Register a version of an asset; the id a deployment names it by."""
        given = {"isAnonymous": False, "isArchived": False, **properties}
        return str(self.rest("PUT", f"{kind}/{name}/versions/{version}", {"properties": given})["id"])

    def deploy(self, endpoint: str, name: str, *, count: int = 1, concurrency: int = 100, **properties: Any) -> None:
        body = {
            "location": "local",
            "sku": {"name": "Default", "capacity": count},
            "properties": {
                "endpointComputeType": "Managed",
                "instanceType": "small",
                "requestSettings": {"requestTimeout": "PT30S", "maxConcurrentRequestsPerInstance": concurrency},
                **properties,
            },
        }
        self.rest("PUT", f"onlineEndpoints/{endpoint}/deployments/{name}", body)

    def traffic(self, endpoint: str, **split: int) -> None:
        self.rest("PATCH", f"onlineEndpoints/{endpoint}", {"properties": {"traffic": split}})

    def score(self, endpoint: str, key: str, body: Any) -> tuple[int, Any]:
        status, _, answer = self.request("POST", f"/e/{endpoint}/score", body, {"Authorization": f"Bearer {key}"})
        return status, answer

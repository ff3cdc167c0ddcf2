"""A caller of batch workers, and the parent as a driver starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any, Self

BOOT = Path(__file__).resolve().parents[2] / "runtime" / "batch_boot.py"
START_S = 60


class Client:
    """One connection, so one worker."""

    def __init__(self, address: str | tuple[str, int], process: int = 0, timeout: float = START_S) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.number = 0
        self.send({"process": process})
        self.first = self.frame()

    def send(self, document: Any) -> None:
        text = json.dumps(document).encode()
        self.sock.sendall(struct.pack(">I", len(text)) + text)

    def frame(self) -> dict[str, Any]:
        """The next frame; EOFError when the connection ended, also in mid-frame."""
        (length,) = struct.unpack(">I", self.exactly(4))
        return json.loads(self.exactly(length))

    def exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            got = self.sock.recv_into(view[at:])
            if not got:
                raise EOFError(at)
            at += got
        return bytes(data)

    def ask(self, *files: str) -> None:
        self.number += 1
        self.send({"id": self.number, "files": [str(file) for file in files]})

    def answer(self) -> tuple[dict[str, Any], str]:
        found = self.frame()
        return found, self.exactly(found.get("size", 0)).decode()

    def run(self, *files: str) -> tuple[dict[str, Any], str]:
        self.ask(*files)
        found, text = self.answer()
        assert found.get("id", self.number) == self.number
        return found, text

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Node:
    """The parent of the workers of one node."""

    def __init__(self, folder: Path, *, out: int | None = None, boot: Path = BOOT, **env: str) -> None:
        """`out`: a descriptor that takes its output instead of a file. `boot`: the program."""
        self.sock_dir = Path(tempfile.mkdtemp(prefix="pw"))  # a unix socket's path must be short
        self.socket = self.sock_dir / "m.sock"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PORTWAY_SOCKET_DIR": str(self.sock_dir),
            "OMP_NUM_THREADS": "1",
            **env,
        }
        self.out = (self.sock_dir / "out").open("w+b")
        self.child = subprocess.Popen(
            [sys.executable, str(boot)], env=self.env, stdout=self.out if out is None else out, cwd=folder
        )

    def ready(self) -> Node:
        wait_until(lambda: self.socket.exists() or self.child.poll() is not None)
        assert self.child.poll() is None, self.log()
        return self

    def client(self, process: int = 0) -> Client:
        return Client(str(self.socket), process)

    def log(self) -> str:
        return Path(self.out.name).read_text(errors="replace")

    def log_size(self) -> int:
        return os.fstat(self.out.fileno()).st_size

    def lines(self) -> list[list[str]]:
        return [line.split("\t", 2) for line in self.log().splitlines()]

    def workers(self) -> list[int]:
        return children_of(self.child.pid)

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


class Nodes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []

    def script(self, text: str, name: str = "score.py", *, out: int | None = None, **env: str) -> Node:
        code = Path(tempfile.mkdtemp(dir=self.folder))
        (code / name).write_text(textwrap.dedent(text))
        return self.add(Node(code, AML_APP_ROOT=str(code), AZUREML_ENTRY_SCRIPT=name, out=out, **env))

    def mlflow(self, model: Path, *, boot: Path = BOOT, **env: str) -> Node:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return self.add(Node(folder, boot=boot, PORTWAY_MLFLOW_MODEL=str(model), **env))

    def add(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def wait_until(true: Any, seconds: float = START_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """Zombies too."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                    found.append(int(folder.name))
    return found


def rss(pid: int) -> int:
    """KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def descriptors(pid: int) -> list[str]:
    """What each stands for; one closed between listing and reading is none."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(fd.readlink()))
    return sorted(found)

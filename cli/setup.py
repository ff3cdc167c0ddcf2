"""What is done once while Portway starts: the bootstrap, which goes on to set up the demo. Standard library only."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from typing import Any, Self

from cli import parts, processes
from cli.home import Home, env_bool

BOOTSTRAP_S = 300


class SetupError(Exception):
    """The bootstrap failed; its last line."""


class Setup:
    """The bootstrap with the demo, and beside it the training of its models; nothing of it outlives the block."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.children: list[subprocess.Popen[bytes]] = []
        self.demo: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        left = [each for each in processes.leftovers(self.home) if each.part in {"setup", "training"}]
        processes.end(left, grace_s=1.0)  # what it had started itself: uv, the training

    def run(self) -> dict[str, Any]:
        """Start it; what the bootstrap reports. The demo goes on as `self.demo`.

        Raises:
            SetupError: the bootstrap failed.
        """
        folder = self.home.uploads / "demo"
        wanted = env_bool("PORTWAY_DEMO", default=True) and not sample(self.home).get("complete")
        if wanted and not (folder / "sample.json").exists():  # it is written last
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._start("training", [sys.executable, "examples/demo/train.py", str(folder)])  # needs no database
        command = [sys.executable, "manage.py", "bootstrap"]
        child = self._start("setup", [*command, "--demo", str(folder)] if wanted else command)
        report = self._report(child)
        self.demo = child if wanted else None
        return report

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.home.logs / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                command,
                cwd=parts.SOURCE,
                env={**parts.environment_of(self.home), "PORTWAY_PART": name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if name == "setup" else log,
                stderr=log,
                preexec_fn=processes.die_with_parent,  # noqa: PLW1509 -- there are no threads
            )
        self.children.append(child)
        return child

    def _report(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        """The line the bootstrap writes when all else may start."""
        assert child.stdout is not None  # noqa: S101 -- for the type checker
        text, deadline = b"", time.monotonic() + BOOTSTRAP_S
        while not text.endswith(b"\n"):
            if not select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SetupError(f"`manage.py bootstrap` took longer than {BOOTSTRAP_S} s.")
            data = os.read(child.stdout.fileno(), 65536)
            if not data:
                child.wait()
                raise SetupError(f"{self.last_line()}  (all of it: {self.home.logs / 'setup.log'})")
            text += data
        return dict(json.loads(text))

    def last_line(self) -> str:
        lines = (self.home.logs / "setup.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"


def sample(home: Home) -> dict[str, Any]:
    """The demo's request, key and URI; empty when there is no demo."""
    try:
        return dict(json.loads((home.root / "demo.json").read_text()))
    except (OSError, ValueError):
        return {}

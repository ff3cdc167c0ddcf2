"""Compiling an environment's modules after it was built, so that the first start need not wait for it.

Compiling everything takes longer than installing it, and a first start needs a fraction of the modules. So it happens
after the first start, at the lowest priority; every later start finds it done.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from apps.builds.uv import Interpreter

MARK = ".compiled"
LOCK = ".compiling"
# The lock ends with its process, so a compilation that was killed is done again by the next deployment.
# A session of its own is a scheduling group of its own, so its niceness must be set for the group too.
PROGRAM = """
import compileall, contextlib, fcntl, os, sys, time
folder, mark, lock = sys.argv[1:]
os.nice(19)
with contextlib.suppress(OSError):
    open("/proc/self/autogroup", "w").write("19")
with contextlib.suppress(OSError):
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
time.sleep(20)
held = open(lock, "w")
try:
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(0)
compileall.compile_dir(folder, quiet=2, workers=1)
open(mark, "w").close()
"""


def compile_later(path: Path, interpreter: Interpreter) -> None:
    """Start compiling in the background unless it is done; returns at once.

    The base interpreter does it without the environment's own start-up files: nothing of the user's is executed.
    """
    if (path / MARK).exists():
        return
    packages = path / "lib" / f"python{interpreter.minor}" / "site-packages"
    subprocess.Popen(
        [interpreter.path, "-I", "-S", "-c", PROGRAM, packages, path / MARK, path / LOCK],
        env={
            "PATH": os.environ.get("PATH", ""),
            "PORTWAY_HOME": os.environ.get("PORTWAY_HOME", ""),
            "PORTWAY_PART": "compile",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

"""What could go wrong on this machine: `portway doctor` prints it, the console shows it. Standard library only."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass

from cli.home import Home, env_bool

ROOM_NEEDED = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """`text` says what is so; `advice` what to do when it is not fine."""

    fine: bool
    text: str
    advice: str


def machine(home: Home) -> list[Check]:
    free = shutil.disk_usage(home.root).free
    return [
        Check(sys.version_info >= (3, 11), f"Python {platform.python_version()}", "Portway needs Python 3.11 or newer"),
        Check(free > ROOM_NEEDED, f"{free // 2**30} GiB free in {home.root}", "environments need some GiB"),
        Check(
            shutil.which("bwrap") is not None or not env_bool("PORTWAY_PROCESS_COMPUTE", default=True),
            "bubblewrap is installed, or not needed",
            "install bubblewrap: without it replicas are isolated less",
        ),
        Check(home.ca.exists(), f"certificate authority {home.ca}", "it is made at the first `portway up`"),
    ]

"""`python -m cli.fresh <socket> <program> …`: become a program that listens on a socket nobody holds any more.

A part killed with -9 leaves its socket file, which the next one could not bind, and workers that nobody watches.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cli import processes
from cli.home import Home


def main(socket: str, *command: str) -> None:
    part = os.environ["PORTWAY_PART"]
    processes.end([each for each in processes.leftovers(Home.from_environment()) if each.part == part], grace_s=1.0)
    Path(socket).unlink(missing_ok=True)
    os.execv(command[0], command)  # noqa: S606 -- the supervisor watches this pid


if __name__ == "__main__":
    main(*sys.argv[1:])

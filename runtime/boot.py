"""Starts the scoring server: `<environment>/bin/python <this folder>/boot.py`.

This file must leave no trace that user code could trip over: its folder leaves `sys.path`, and our package is loaded by
its location under a private name. So a user's module called `runtime`, `serving`, `server` or `main` is never hidden.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from types import ModuleType

PACKAGE = "_portway"


def start(name: str) -> int:
    """Run `main()` of our module `name`, say `serving.server`, as `_portway.<name>`, without a `sys.path` entry."""
    here = os.path.dirname(os.path.abspath(__file__))
    # Python puts a script's folder first; the user's modules must not meet ours there.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    overlay = os.environ.get("PORTWAY_OVERLAY", "")
    if overlay and overlay not in sys.path:
        sys.path.append(overlay)
    sys.dont_write_bytecode = not os.access(here, os.W_OK)
    package = ModuleType(PACKAGE)
    package.__path__ = [here]
    sys.modules[PACKAGE] = package
    return int(importlib.import_module(f"{PACKAGE}.{name}").main())


def leave(code: int) -> None:
    """End without taking the interpreter apart: granian's threads may still ask for it, and would abort the process."""
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 -- there is no public name; the user's own clean-up does run
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    leave(start("serving.server"))

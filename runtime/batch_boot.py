"""Starts the batch workers of one node: `<environment>/bin/python <this folder>/batch_boot.py`. See boot.py."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType


def shared() -> ModuleType:
    """boot.py under a private name, because `boot` may be a module of the user's."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")
    spec = importlib.util.spec_from_file_location("_portway_boot", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    boot = shared()
    boot.leave(boot.start("batch.server"))

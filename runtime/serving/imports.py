"""Making large imports cheaper."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_lock = threading.RLock()


class _Postponed(ModuleType):
    """Stands for a module until somebody asks it for something; from then on the real one answers."""

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":  # who goes through all modules, as inspect does, asks for it and means nothing by it
            raise AttributeError(name)
        with _lock:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def postponed(name: str) -> Iterator[None]:
    """Inside, `import name` costs nothing until an attribute is used. Afterwards an import is a plain import again.

    For scikit-learn, which imports pandas when it is there (0.5 s, 50 MB) only to know its version later.
    """
    if name in sys.modules:
        yield
        return
    stand_in = _Postponed(name)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        with _lock:
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Imports make a million objects that stay: looking for garbage among them is an eighth of their time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

"""What every worker of an MLflow model imports: packages of its environment, and nothing that came with the model.

Workers are forked from the process that imported them, so nothing may run beside its one thread: a fork takes no other.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

from ..serving import imports
from ..serving.log import setup
from .settings import Settings

_ALWAYS = ("numpy", "pandas", "mlflow.pyfunc")
_LIBRARIES = {
    # Most estimators are of these or need them; what else a pickle names costs each worker little.
    "mlflow.sklearn": ("sklearn.pipeline", "sklearn.ensemble", "sklearn.linear_model"),
    "mlflow.xgboost": ("xgboost",),
    "mlflow.lightgbm": ("lightgbm",),
}
"""By the loader of the flavor. Others are not known to start no threads of their own, or are no library's."""
_JEMALLOC = "JE_ARROW_MALLOC_CONF"
_LARGEST = 1024 * 1024
"""Bytes of an MLmodel file."""


class ColdError(Exception):
    """Workers must not be forked from this process; the text says why."""


def load(settings: Settings, model: Path) -> None:
    """Import what the model's workers will need; ColdError, or whatever an import raises."""
    setup(settings.level)
    own = _JEMALLOC in os.environ
    os.environ.setdefault(_JEMALLOC, "background_thread:false")  # pyarrow's allocator would start one when it is loaded
    try:
        with imports.uncollected():
            for name in (*_ALWAYS, *_LIBRARIES.get(_loader(model), ())):
                importlib.import_module(name)
            importlib.import_module(f"{__package__}.no_code")
    finally:
        if not own:
            del os.environ[_JEMALLOC]
    threads = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    if len(threads) > 1:
        raise ColdError(f"they started threads ({', '.join(sorted(threads))})"[:300])
    gc.freeze()  # no later collection need look at what was imported, and so copy it


def _loader(model: Path) -> str:
    import yaml

    with (model / "MLmodel").open("rb") as file:
        # The loader in C reads the same language fifteen times as fast.
        document = yaml.load(file.read(_LARGEST), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 -- both are safe
    flavors = document.get("flavors") or {}
    return str((flavors.get("python_function") or {}).get("loader_module"))


def differ() -> None:
    """In a forked worker: what each imported for itself would not share."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # as Python does for its own generator

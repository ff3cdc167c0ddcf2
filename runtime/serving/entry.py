"""The user's script as a module: found, put on sys.path, imported, its init() called. Online and batch alike."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from .failures import StartError, evidence_of
from .settings import Settings

MODULE_NAME = "entry_module"


def load(settings: Settings) -> ModuleType:
    """The script's module, which has init() and run(); StartError says why there is none."""
    module = _import(settings, settings.app_root)
    for name in ("init", "run"):
        if not callable(getattr(module, name, None)):
            raise StartError(
                "UserScriptFunctionNotFound",
                f"The scoring script {name_of(settings)} has no {name}() function; define init() and run().",
                f"{name_of(settings)}: {name} is not defined",
            )
    return module


def run_of(module: ModuleType) -> Callable[..., Any]:
    """Its run(). Scripts of older Azure SDKs are drivers around the real one, which alone has decorated arguments."""
    driver = getattr(module, "driver_module", None)
    return driver.run if isinstance(driver, ModuleType) and hasattr(driver, "run") else module.run  # type: ignore[no-any-return]


def initialise(module: ModuleType, root: Path) -> None:
    """Call init(), also an async one; StartError(UserScriptInitFailed) when it raises anything."""
    try:
        result = module.init()
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except BaseException as exc:
        traceback.print_exc()
        raise StartError(
            "UserScriptInitFailed",
            f"init() of the scoring script failed: {what(exc)}; "
            "repair the line below, or look at the model folder it reads.",
            evidence_of(exc, root),
        ) from exc


def name_of(settings: Settings) -> str:
    return settings.entry_script or "main.py"


def _import(settings: Settings, root: Path) -> ModuleType:
    path = root / name_of(settings)
    _extend_path(settings, root, path)
    if not path.is_file():
        raise StartError(
            "UserScriptImportError",
            f"The scoring script {name_of(settings)} is not in the code folder; "
            "set the deployment's scoring_script to a file in it.",
            f"{path}: no such file",
        )
    try:
        spec = importlib.util.spec_from_file_location(MODULE_NAME if settings.entry_script else "main", path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")  # noqa: TRY301
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickles look their module up
        spec.loader.exec_module(module)
    except BaseException as exc:
        traceback.print_exc()
        hint = "repair the line below"
        if isinstance(exc, ModuleNotFoundError):
            hint = (
                f"add the package that provides {exc.name!r} to the deployment's environment, or the file to its code"
            )
        elif isinstance(exc, SystemExit):
            hint = "take out the call that ends the process"
        raise StartError(
            "UserScriptImportError",
            f"The scoring script {name_of(settings)} could not be imported: {what(exc)}; {hint}.",
            evidence_of(exc, root),
        ) from exc
    return module


def _extend_path(settings: Settings, root: Path, path: Path) -> None:
    """User code goes behind the environment's packages, as under azmlinfsrv, and before our overlay."""
    at = sys.path.index(settings.overlay) if settings.overlay in sys.path else len(sys.path)
    for folder in (path.parent, root):
        if str(folder) not in sys.path:
            sys.path.insert(at, str(folder))


def what(exc: BaseException) -> str:
    text = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {text[0][:200]}" if text else type(exc).__name__

"""The user's batch scoring script: init() once, run(files) for each mini-batch."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from typing import Any, Callable

from ..serving import entry
from ..serving.failures import StartError
from . import results
from .settings import Settings

_FORMAT = "%(asctime)s|%(levelname)s|%(process)d|%(name)s|%(message)s"


def load(settings: Settings) -> Script:
    """Import the script and call init(); StartError when it cannot be used."""
    root = settings.model.app_root
    sys.argv[:] = [str(root / entry.name_of(settings.model)), "--logging_level", settings.level]
    _set_level(settings.level)
    module = entry.load(settings.model)
    run = entry.run_of(module)
    _check(run, entry.name_of(settings.model))
    entry.initialise(module, root)
    return Script(run)


def _set_level(level: str) -> None:
    """The level for loggers that have none.

    The handler is of the last resort: a script's own basicConfig() still finds a root logger without any, and works.
    """
    logging.getLogger().setLevel(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.lastResort = handler


def _check(run: Callable[..., Any], name: str) -> None:
    try:
        signature = inspect.signature(run)
    except ValueError:  # native code does not always say what it takes
        return
    try:
        signature.bind([])
    except TypeError as exc:
        text = f"run{signature} cannot be called with one list of files: {exc}"
        raise StartError(
            "UserScriptFunctionNotFound",
            f"The scoring script {name} cannot be used: {text}; define run(mini_batch).",
            text,
        ) from exc


class Script:
    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    def score(self, files: list[str], *, wants_text: bool) -> tuple[int, str]:
        """The number of rows and their text; whatever run() raises comes through."""
        try:
            result = self._run(files)
            if inspect.isawaitable(result):
                result = self._await(result)
        finally:
            if os.getpid() != self._pid:  # run() forked, and this is the child: the connection is not its own
                os._exit(1)
        return results.count(result), results.text(result) if wants_text else ""

    def _await(self, result: Any) -> Any:
        async def wait() -> Any:
            return await result

        if self._loop is None:  # one for all mini-batches: clients that a script keeps belong to their loop
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(wait())

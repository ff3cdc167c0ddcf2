"""One replica: load the model, listen, serve, stop in good order.

One process serves by default. When it dies (os._exit, a native crash, out of memory) the replica is dead, its exit code
says how, and the control plane starts another with back-off: nothing here respawns. With several workers a parent
watches them, and the death of one ends all, for the same reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import importlib
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any, Callable

from . import script, swagger
from .app import App, Model
from .door import BACKLOG, bind_unix, open_door
from .failures import EXIT_FAILED_START, Record, StartError
from .log import log, setup
from .settings import Settings, from_process

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    record = Record(Path(os.environ.get("PORTWAY_SOCKET_DIR") or "/run/s"))
    try:
        settings = from_process()
    except StartError as exc:
        setup("INFO")
        return give_up(record, exc)
    setup(settings.log_level)
    faulthandler.enable()
    try:
        granian = import_granian(settings.overlay)
        if settings.workers > 1:
            from . import workers

            return workers.supervise(settings, record, granian)
        return Replica(settings, record, granian).serve()
    except StartError as exc:
        return give_up(record, exc)


def give_up(record: Record, exc: StartError) -> int:
    record.write(exc.code, str(exc), exc.evidence)
    log.error("%s: %s %s", exc.code, exc, exc.evidence)
    return EXIT_FAILED_START


def import_granian(overlay: str) -> Any:
    """The server from the overlay, before user code runs.

    The overlay stands at the end of sys.path, but this one package must be the version we know, so it is looked up
    there first; click and whatever else is there stay behind the user's pins.
    """
    before = sys.path[:]
    if overlay:
        sys.path.insert(0, overlay)
    try:
        return importlib.import_module("granian.server.embed")
    except ImportError as exc:
        traceback.print_exc()
        raise StartError(
            "ServingRuntimeBroken",
            "The scoring server's own packages cannot be imported with this Python; "
            "an operator should rebuild the overlay.",
            str(exc),
        ) from exc
    finally:
        sys.path[:] = before


class Replica:
    """The serving process."""

    def __init__(
        self, settings: Settings, record: Record, granian: Any, slots: int | None = None, *, clears: bool = True
    ) -> None:
        self.settings = settings
        self.record = record
        self.slots = slots or settings.max_concurrency
        self._granian = granian
        self._clears = clears

    def serve(self) -> int:
        """Load, listen until SIGTERM, finish what is in flight; the exit code."""
        model, app = self.load()
        self.record.clear()
        return self.listen(model, app)

    def load(self) -> tuple[Model, App]:
        for number in _STOP_SIGNALS:
            signal.signal(number, self._stopped_early)
        settings = self.settings
        if settings.mlflow_model is not None:
            from . import mlflow_model

            flavored = mlflow_model.load(settings.mlflow_model, settings, self.record)
            return flavored, self._app(flavored, flavored.schemas, "/score", "/invocations")
        loaded = script.load(settings, self.record)
        return loaded, self._app(loaded, lambda: swagger.of_script(loaded.run), "/score")

    def _app(self, model: Model, schemas: Callable[[], swagger.Schemas], *paths: str) -> App:
        return App(model, self.settings, swagger.Swagger(self.settings, schemas), frozenset(paths))

    def _stopped_early(self, number: int, _frame: object) -> None:
        if self._clears:
            self.record.clear()
        log.info("Stopped by signal %d before the model was ready", number)
        os._exit(0)

    def listen(self, model: Model, app: App, shared: socket.socket | None = None, guard: int | None = None) -> int:
        """`shared`: a listening socket of the parent. `guard`: a pipe whose end means that the parent is gone."""
        try:
            asyncio.run(self._listen(model, app, shared, guard))
        except (OSError, RuntimeError) as exc:
            traceback.print_exc()
            where = self.settings.bind or self.settings.socket
            raise StartError("BadArgument", f"The server could not listen on {where}: {exc}.", str(exc)) from exc
        return 0

    async def _listen(self, model: Model, app: App, shared: socket.socket | None, guard: int | None) -> None:
        loop = asyncio.get_running_loop()
        model.bind(loop, self.settings, self.slots)
        server = self._server(app, shared)
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, server.stop)
        if guard is not None:
            loop.add_reader(guard, server.stop)
        log.info("Worker with pid %d ready for serving traffic", os.getpid())
        await server.serve()  # comes back when what was in flight is answered

    def _server(self, app: App, shared: socket.socket | None) -> Any:
        embed, path = self._granian, self.settings.socket
        constants = sys.modules["granian.constants"]
        options: dict[str, Any] = {
            "interface": constants.Interfaces.RSGI,
            "http": constants.HTTPModes.http1,
            "websockets": False,
            "log_enabled": False,
            "backlog": BACKLOG,
        }
        if self.settings.bind is not None:
            host, port = self.settings.bind
            return embed.Server(app, address=host, port=port, **options)
        return _unix_server(embed, app, path, shared, options)


def _unix_server(embed: Any, app: App, path: Path, shared: socket.socket | None, options: dict[str, Any]) -> Any:
    from granian._granian import SocketHolder  # type: ignore[import-not-found, unused-ignore]

    class UnixServer(embed.Server):  # type: ignore[misc, name-defined, unused-ignore]
        """granian would bind the final name at once; ours appears in one step, listening, and replaces a stale one."""

        def _init_shared_socket(self) -> None:
            self._listener = shared or bind_unix(path)
            self._ssp = None
            holder: Any = SocketHolder  # its stub lacks the arguments
            self._shd = holder(self._listener.fileno(), True, BACKLOG)
            self._sfd = self._listener.fileno()
            if shared is None:
                open_door(path)

        async def shutdown(self, exit_code: int = 0) -> None:
            """Its last act is to remove the socket; of several workers one may find it gone already."""
            with contextlib.suppress(FileNotFoundError):
                await super().shutdown(exit_code)

    return UnixServer(app, uds=path, **options)

"""The life of one worker: load the model for one connection, score mini-batches until the caller is gone.

The parent ends it when the caller hangs up, whatever it does then; only a worker that waits notices itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Protocol

from ..serving.entry import what
from ..serving.failures import StartError, evidence_of
from ..serving.log import log, setup
from .frames import DONE, BadFrameError, Board, Channel
from .results import ScoreError
from .settings import Settings

_MESSAGE_LIMIT = 2_000
_TRACE_LIMIT = 8_000
_RESULT_LIMIT = 64 * 1024 * 1024
"""Bytes of one mini-batch's rows; the caller hears no more."""
_NUMBERS = range(1 << 31)


class Scorer(Protocol):
    def score(self, files: list[str], *, wants_text: bool) -> tuple[int, str]: ...


def live(conn: socket.socket, board: Board, settings: Settings) -> None:
    """Never returns: the process ends here."""
    code = 1
    try:
        _new_streams()
        setup(settings.level)
        faulthandler.enable()
        _work(Channel(conn, board), settings)
        code = 0
    except BadFrameError as exc:
        log.error("The connection is closed, because the caller sent %s", exc)
        code = 0
    except BaseException:  # noqa: BLE001 -- the process ends here whatever it was
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the script may have put anything there
                stream.flush()
        if code == 0:
            board.state = DONE
        os._exit(code)


def _new_streams() -> None:
    """Streams for the pipes: those of the parent know its own output as a file that can be sought, or as a terminal."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        # File names may be no text, and must be printable all the same.
        stream = open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _work(channel: Channel, settings: Settings) -> None:
    first = channel.receive()
    if first is None:
        return
    try:
        _name(channel.board, first.get("process"))
        scorer = _load(settings)
    except StartError as exc:
        log.error("%s: %s %s", exc.code, exc, exc.evidence)
        failed = {"code": exc.code, "message": str(exc)[:_MESSAGE_LIMIT], "evidence": exc.evidence[:_MESSAGE_LIMIT]}
        channel.send({"failed": failed}, last=True)
        return
    channel.send({"ready": True, "pid": os.getpid()})
    root = settings.model.mlflow_model or settings.model.app_root
    while True:
        ask = channel.receive()
        if ask is None:
            return
        channel.send(*_answer(scorer, ask, root, wants_text=settings.append_row))


def _name(board: Board, process: Any) -> None:
    if type(process) is not int or process not in _NUMBERS:
        raise StartError("BadArgument", 'The first frame must be {"process": <a number of at least 0>}.')
    board.name(process)
    os.environ["AZUREML_BI_PROCESS"] = str(process)


def _load(settings: Settings) -> Scorer:
    if settings.model.mlflow_model is not None:
        from . import no_code

        return no_code.load(settings.model.mlflow_model)
    from . import scripts

    return scripts.load(settings)


def _answer(scorer: Scorer, ask: dict[str, Any], root: Path, *, wants_text: bool) -> tuple[dict[str, Any], bytes]:
    number, files = ask.get("id"), ask.get("files")
    if type(number) is not int or not isinstance(files, list) or not all(type(file) is str for file in files):
        raise BadFrameError("a frame without an id and files")
    root_of_input = os.environ.get("PORTWAY_BATCH_INPUT", "")
    files = [os.path.join(root_of_input, file) for file in files]
    started = time.perf_counter()
    try:
        rows, text = scorer.score(files, wants_text=wants_text)
        body = text.encode("utf-8", "backslashreplace")
        _check_size(body)
    except BaseException as exc:  # noqa: BLE001 -- sys.exit() included: one mini-batch must not end the worker
        return {"id": number, "ok": False, "error": _error(exc, root)}, b""
    took = round((time.perf_counter() - started) * 1000, 3)
    return {"id": number, "ok": True, "rows": rows, "size": len(body), "ms": took}, body


def _check_size(body: bytes) -> None:
    if len(body) > _RESULT_LIMIT:
        most = _RESULT_LIMIT // 2**20
        raise ScoreError("BadResult", f"a mini-batch returned more than {most} MiB: make mini_batch_size smaller")


def _error(exc: BaseException, root: Path) -> dict[str, str]:
    if isinstance(exc, ScoreError):
        log.error("%s: %s", exc.code, exc)
        code, message, evidence = exc.code, str(exc), exc.evidence
    else:
        code, message, evidence = "RunFailed", what(exc), evidence_of(exc, root)
    trace = ""
    if code == "RunFailed":
        if exc.__traceback__ is not None and exc.__traceback__.tb_next is not None:
            exc.__traceback__ = exc.__traceback__.tb_next  # the first frame is of this file
        trace = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        with contextlib.suppress(Exception):  # as above
            print(trace, end="", file=sys.stderr, flush=True)
    message, evidence = message[:_MESSAGE_LIMIT], evidence[:_MESSAGE_LIMIT]
    return {"code": code, "message": message, "evidence": evidence, "trace": trace[-_TRACE_LIMIT:]}

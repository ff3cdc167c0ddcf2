"""How the server says why it gave up: one JSON record beside its socket, the whole story on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from pathlib import Path

EXIT_FAILED_START = 3
"""What azmlinfsrv ends with when a script cannot be served; the control plane does not retry quickly on it."""

FAILURE_NAME = "failure.json"
_EVIDENCE_LIMIT = 500


class StartError(Exception):
    """The server cannot start. `code` is from the problem catalogue; `str()` says what happened and what to do."""

    def __init__(self, code: str, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.evidence = evidence


def evidence_of(error: BaseException, root: Path | None) -> str:
    """The one line that tells: the deepest frame in the user's folder (else the deepest of all) and the exception."""
    what = traceback.format_exception_only(type(error), error)[-1].strip()
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename, root)}:{error.lineno}: {what}"[:_EVIDENCE_LIMIT]
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return what[:_EVIDENCE_LIMIT]
    own = [frame for frame in frames if root is not None and _inside(frame.filename, root)]
    frame = own[-1] if own else frames[-1]
    return f"{_short(frame.filename, root)}:{frame.lineno} in {frame.name}: {what}"[:_EVIDENCE_LIMIT]


def _inside(name: str, root: Path) -> bool:
    return os.path.abspath(name).startswith(str(root.absolute()) + os.sep)


def _short(name: str, root: Path | None) -> str:
    return os.path.relpath(name, root) if root is not None and _inside(name, root) else name


class Record:
    """The failure record of this process.

    `expect` writes one *before* a dangerous step and `clear` removes it after the last: when the process dies in
    between without a Python exception (os._exit, a native crash, out of memory) the record is already there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FAILURE_NAME

    def write(self, code: str, message: str, evidence: str = "") -> None:
        text = json.dumps({"code": code, "message": message, "evidence": evidence})
        half = self.path.with_name(f".{FAILURE_NAME}.{os.getpid()}")
        # A container may have no such folder; the same words are on stderr.
        with contextlib.suppress(OSError):
            half.write_text(text, encoding="utf-8")
            half.replace(self.path)

    def expect(self, code: str, step: str) -> None:
        self.write(
            code,
            f"The process ended during {step} without a Python exception: os._exit, a crash in native code, or too "
            "little memory. Read the last lines of the log, and try the step on its own or with a larger instance.",
        )

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()

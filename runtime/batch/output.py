r"""What workers print, as lines of the parent: `<process>\t<o|e>\t<text>`.

Nothing here waits: when the reader of the parent's output is slow, what is pending grows to a limit, from which on the
parent reads no more from the workers, and they wait in their print().
"""

from __future__ import annotations

import collections
import os
import select
import stat
import time

LINE_LIMIT = 16 * 1024
"""Longer lines are cut into pieces of so many bytes."""
CHUNK = 64 * 1024
_TAIL = 60
_ENOUGH = 256 * 1024
_TOO_MUCH = 4 * 1024 * 1024


class Lines:
    """One stream of one worker, made into whole lines."""

    def __init__(self, fd: int, mark: str) -> None:
        self.fd = fd
        self.mark = mark
        self.tail: collections.deque[bytes] = collections.deque(maxlen=_TAIL)
        self._rest = b""
        os.set_blocking(fd, False)

    def read(self, process: str) -> bytes | None:
        """What there is, as lines to print; None when nobody can write any more."""
        if self.fd < 0:
            return None
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            return None
        return self._lines(self._rest + data, process)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def drain(self, process: str) -> bytes:
        """What a dead worker left, its last line too when it has no end."""
        parts = []
        for _ in range(16):  # a process that left the worker's group may go on for ever
            part = self.read(process)
            if not part:
                break
            parts.append(part)
        if self._rest:
            parts.append(self._lines(self._rest + b"\n", process))
        return b"".join(parts)

    def _lines(self, data: bytes, process: str) -> bytes:
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_LIMIT:
            *more, self._rest = _cut(self._rest)
            lines += more
        if any(len(line) > LINE_LIMIT for line in lines):
            lines = [piece for line in lines for piece in _cut(line)]
        if not lines:
            return b""
        self.tail.extend(lines[-_TAIL:])
        head = f"{process}\t{self.mark}\t".encode()
        return head + (b"\n" + head).join(lines) + b"\n"


def _cut(line: bytes) -> list[bytes]:
    return [line[at : at + LINE_LIMIT] for at in range(0, max(len(line), 1), LINE_LIMIT)]


def evidence(tail: list[bytes], folder: str) -> str:
    """The line that tells most of a sudden end: the last, or what faulthandler says and where in the user's folder."""
    lines = [text for text in (line.decode("utf-8", "replace").strip() for line in tail) if text]
    fatal = next((at for at, line in enumerate(lines) if line.startswith("Fatal Python error:")), None)
    if fatal is None:
        return lines[-1][:500] if lines else ""
    frames = [line for line in lines[fatal:] if line.startswith("File ")]
    where = next((line for line in frames if folder in line), frames[0] if frames else "")
    return f"{lines[fatal]} {where}".strip()[:500]


class Printer:
    """The parent's own output."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pending = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        # A pipe with room for anything has room for a page; a file never makes anybody wait.
        self._step = CHUNK if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF

    @property
    def waits(self) -> bool:
        return bool(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) > _ENOUGH

    def add(self, data: bytes) -> None:
        if len(self._pending) < _TOO_MUCH:  # only the last words of very many workers ever get there
            self._pending += data

    def say(self, text: str) -> None:
        """A line of the parent itself."""
        line = " ".join(text.splitlines())
        self.add(f"-\te\t{line}\n".encode("utf-8", "backslashreplace"))

    def finish(self, seconds: float) -> None:
        """Write all of it, if that takes no longer."""
        deadline = time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline:
            self._poll.poll(100)
            self.flush()

    def flush(self) -> None:
        """Write what can be written without waiting."""
        while self._pending and self._poll.poll(0):
            try:
                done = os.write(self.fd, bytes(self._pending[: self._step]))
            except BlockingIOError:
                return
            except OSError:  # nobody reads it any more; the workers' results still count
                done = len(self._pending)
            del self._pending[:done]

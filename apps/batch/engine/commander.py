"""A node at work for one command: starts it, waits for its end, and commits whether it went well.

The command is the one mini-batch of its job, so nodes, leases and retries are those of scoring jobs. Each attempt
writes into a folder of its own, named by its node and lease; the commit names the one that counts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from apps.batch.engine import claims, folders, joblogs, lifecycle
from apps.batch.engine.claims import Ended
from apps.batch.engine.crew import failure
from apps.batch.engine.launch import OUTPUTS
from apps.batch.engine.node_thread import LOG_S, LOOK_S, TURN_S, Every, NodeThread, Stop
from apps.batch.engine.results import Piece
from apps.compute.drivers.base import LogLine, Mount, State

EVIDENCE_LINES = 20


class Commander(NodeThread):
    """Of a command job."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tail: deque[str] = deque(maxlen=EVIDENCE_LINES)

    def _work(self) -> None:
        claimed = claims.claim(self.hold, self.job, 1)
        if not claimed:
            return
        began, since = timezone.now(), time.monotonic()
        attempt = f"{self.hold.node}-{self.hold.token}"
        try:
            self._note(f"starting the command on host {self.node.host or '-'}")
            self._launched(*self._outputs(attempt))
            error = self._wait(since + self.settings.timeout_ms / 1000)
        except Stop as stop:
            self._note(f"given up: {stop}")
            claims.give_back(self.hold, claimed)
            return
        took = int((time.monotonic() - since) * 1000)
        piece = Piece(attempt, 0, 0)
        ended = Ended(claimed[0], 0, began, took, piece=piece if error is None else None, error=error)
        self._note("the command has ended" if error is None else error["message"])
        claims.commit(self.hold, self.job, self.settings, [ended])
        lifecycle.advanced(self.job)

    def _outputs(self, attempt: str) -> list[Mount]:
        return [
            Mount(str(folders.output(self.job, attempt, name)), f"{OUTPUTS}/{name}", read_only=False)
            for name in self.job.outputs
        ]

    def _wait(self, deadline: float) -> dict[str, Any] | None:
        """None when the command ended well, else why not. Raises Stop, Fenced."""
        every = Every()
        while True:
            if self.stopping.is_set():
                raise Stop("its host is stopping")
            if every.due("look", LOOK_S):
                claims.renew(self.hold)
                self._look()
            if every.due("log", LOG_S):
                self._read_log()
            if self._observe() is not None and (gone := self._ended()) is not None:
                self._read_log()
                return self._verdict(gone)
            if time.monotonic() > deadline:
                text = f"The command did not end within {self.settings.timeout_ms / 1000:.0f} s."
                return failure("Timeout", text, self._evidence())
            time.sleep(TURN_S)

    def _verdict(self, gone: dict[str, Any]) -> dict[str, Any] | None:
        seen = self._seen
        if seen is None or seen.state is State.GONE or seen.oom:
            return gone
        if seen.exit_code == 0:
            return None
        code = seen.exit_code or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return failure("CommandFailed", f"The command {how}.", self._evidence() or gone["evidence"])

    def _evidence(self) -> str:
        return "\n".join(self._tail)

    def _keep_log(self, lines: Sequence[LogLine]) -> None:
        self._tail.extend(line.text for line in lines)
        for stream in ("stdout", "stderr"):
            texts = [line.text for line in lines if (line.stream == "stderr") == (stream == "stderr")]
            if texts:
                joblogs.append(self.job, f"logs/user/{stream}/{self.hold.node}/process0.{stream}.txt", texts)

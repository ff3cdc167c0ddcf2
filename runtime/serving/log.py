"""Log lines as azmlinfsrv writes them: `<UTC> <L> [pid] <logger> - <message>`."""

from __future__ import annotations

import logging
import sys
import time

log = logging.getLogger("portway")


class _BelowError(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR


def setup(level: str) -> None:
    """Send our own loggers to stdout, errors to stderr. The user's loggers, the root one above all, are left alone."""
    formatter = logging.Formatter("%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s")
    formatter.converter = time.gmtime
    out, err = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    out.addFilter(_BelowError())
    err.setLevel(logging.ERROR)
    log.handlers[:] = []
    for handler in (out, err):
        handler.setFormatter(formatter)
        log.addHandler(handler)
    log.propagate = False
    number = logging.getLevelName(level)
    log.setLevel(number if isinstance(number, int) else logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        # Prints of a script must reach the log when they happen, not when a buffer is full.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)

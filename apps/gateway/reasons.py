"""Why Envoy refused a push. It says so in one line of its log and nowhere else: /config_dump has no trace of it."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

WAIT_S = 0.5
READ_MAX = 256 * 1024
REASON_MAX = 1_000
REFUSAL = re.compile(r"config update (?:rejected|failure): (?P<why>.*)", re.DOTALL)
DUMP = "goo.gle/"
NO_LOG = "Envoy refused it; the reason is in Envoy's log."


@dataclass(frozen=True, slots=True)
class LogMark:
    """A place in the log: what comes after it belongs to the push that begins now."""

    path: Path | None
    inode: int
    offset: int

    @classmethod
    def now(cls, path: Path | None) -> "LogMark":
        try:
            stat = path.stat() if path else None
        except OSError:
            stat = None
        return cls(path, stat.st_ino if stat else 0, stat.st_size if stat else 0)


def reason_since(mark: LogMark, file: Path) -> str:
    """The first refusal logged since the mark. Logged before it is counted, but give a slow disk half a second."""
    if mark.path is None:
        return NO_LOG
    deadline = time.monotonic() + WAIT_S
    while True:
        found = _find(_read(mark), file)
        if found or time.monotonic() > deadline:
            return f"Envoy refused it: {found}" if found else NO_LOG
        time.sleep(0.02)


def _read(mark: LogMark) -> str:
    if mark.path is None:
        return ""
    try:
        with mark.path.open("rb") as log:
            same = mark.path.stat().st_ino == mark.inode and mark.path.stat().st_size >= mark.offset
            log.seek(mark.offset if same else 0)  # rotated in between: all of the new one is ours
            return log.read(READ_MAX).decode(errors="replace")
    except OSError:
        return ""


def _find(text: str, file: Path) -> str:
    for entry in re.split(r"^(?=\[\d{4}-)", text, flags=re.MULTILINE):
        refused = REFUSAL.search(entry)
        if refused:
            why = refused["why"].strip().removeprefix(f"in {file}, ")
            if why.startswith(DUMP):  # the whole resource comes first; the complaint is what follows it
                why = why.splitlines()[-1].lstrip("}: ")
            return re.sub(r"\s+", " ", why).strip()[:REASON_MAX]
    return ""

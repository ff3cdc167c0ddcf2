"""The line that proves why a request failed, out of what its instance said meanwhile. Pure functions over lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apps.compute import doctor
from apps.monitoring.text import OURS, clean

LONGEST = 400
REFUSED = "Input refused: "
TRACEBACK = "Traceback (most recent call last)"
FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')
OWN_FOLDER = "/azureml-app/"


@dataclass(frozen=True)
class Proof:
    """`evidence`: a line of the instance; `hint`: what to do, "" where the verdict's own next step is all we know."""

    evidence: str = ""
    hint: str = ""


NOTHING = Proof()


@dataclass(frozen=True)
class Line:
    text: str
    named: bool  # it has the request's id


def proof(verdict: str, lines: Sequence[Line], ended: dict[str, Any] | None) -> Proof:
    """What proves a verdict of the gateway. `ended`: why the instance ended, when it did (a stored problem)."""
    if verdict == "model-refused":
        return _known(_refusal(lines))
    if verdict == "model-error":
        return _known(_exception([line.text for line in _of_request(lines)]))
    if verdict == "model-gone" and ended:
        said = [str(ended.get(part) or "") for part in ("message", "evidence")]
        return Proof(clean(" ".join(filter(None, said)))[:LONGEST], str(ended.get("next") or ""))
    if verdict in {"timeout", "model-gone", "not-http"}:
        return Proof(next((clean(each.text)[:LONGEST] for each in reversed(lines) if each.text.strip()), ""))
    return NOTHING


def _known(evidence: str) -> Proof:
    evidence = clean(evidence)[:LONGEST]
    found = doctor.diagnose(evidence, ()) if evidence else None
    return Proof(evidence, found.hint if found else "")


def _refusal(lines: Sequence[Line]) -> str:
    texts = [line.text for line in lines if line.named and REFUSED in line.text]
    return texts[-1].partition(REFUSED)[2] if texts else ""


def _of_request(lines: Sequence[Line]) -> list[Line]:
    """The lines from the request's own error on, up to the next record of the server; all where none is named.

    A traceback is one record of many lines, and only the first has the id.
    """
    at = [index for index, line in enumerate(lines) if line.named and TRACEBACK in line.text]
    if not at:
        return list(lines)
    found = [lines[at[-1]]]
    for line in lines[at[-1] + 1 :]:
        if OURS.match(line.text):
            break
        found.append(line)
    return found


def _exception(texts: Sequence[str]) -> str:
    """The exception of the last traceback, and where in the user's own code it was raised."""
    start = max((index for index, text in enumerate(texts) if TRACEBACK in text), default=None)
    if start is None:
        return ""
    own = last = ""
    for text in texts[start + 1 :]:
        if frame := FRAME.match(text):
            last = f"{frame['file'].rpartition('/')[2]}:{frame['line']} in {frame['name']}: "
            own = last if OWN_FOLDER in frame["file"] else own
        elif text.strip() and not text[0].isspace():
            return (own or last) + text.strip()
    return ""

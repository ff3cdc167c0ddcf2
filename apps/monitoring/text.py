"""Log text of strangers made harmless to show: no terminal codes, nothing that hides or reverses what is read."""

from __future__ import annotations

import re

# Each alternative stops at the next escape, so that no text makes this slow.
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, private strings
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufff9-\ufffb]"
)
LEVEL = re.compile(
    r"\b(?:(?P<error>ERROR|CRITICAL|FATAL|Traceback|Exception)|(?P<warning>WARN(?:ING)?)|(?P<info>INFO)|"
    r"(?P<debug>DEBUG|TRACE))\b"
)
OURS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?P<letter>[DIWEC]) \[\d+\] ")
LETTERS = {"D": "debug", "I": "info", "W": "warning", "E": "error", "C": "error"}
LEVEL_WITHIN = 120


def clean(text: str) -> str:
    """Without terminal codes; other characters that do not show, or turn the direction, as their code."""
    if text.isascii() and text.isprintable():
        return text
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", ESCAPES.sub("", text))


def level(text: str) -> str:
    """error, warning, info or debug, when the line says so near its beginning; else nothing."""
    if ours := OURS.match(text):
        return LETTERS[ours["letter"]]
    found = LEVEL.search(text[:LEVEL_WITHIN])
    return found.lastgroup or "" if found else ""

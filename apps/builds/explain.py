"""One sentence for why an environment could not be built, and what to do. Pure functions over uv's output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    reason: str
    hint: str
    evidence: str
    fault: str = "user"  # or "system": the index or the disk, not the file


def explain(output: str) -> Explanation:
    """What uv's output means."""
    text = re.sub(
        r"\s+", " ", output.replace("\u2570", " ").replace("\u2500", " ").replace("\u25b6", " ").replace("\u00d7", " ")
    ).strip()
    for pattern, reason, hint in PATTERNS:
        match = pattern.search(text)
        if match:
            groups = {name: (value or "").strip(" .,`") for name, value in match.groupdict().items()}
            return Explanation(reason.format(**groups), hint.format(**groups), _evidence(output, match[0]))
    for pattern, reason in SYSTEM:
        match = pattern.search(text)
        if match:
            return Explanation(reason, "", _evidence(output, match[0]), fault="system")
    return Explanation("the packages could not be installed", "Read the build log.", _last(output))


NAME = r"`?(?P<package>[A-Za-z0-9][\w.-]*(?:\[[\w,.-]+\])?)"
PATTERNS: Sequence[tuple[re.Pattern[str], str, str]] = [
    (
        re.compile(rf"Because {NAME} was not found in the package registry"),
        "there is no package {package} on the package index",
        "Check the spelling; some conda packages have another name on the index.",
    ),
    (
        re.compile(rf"[Bb]ecause there (?:is|are) no versions? of {NAME}(?P<version>[=<>!~][^ ,]*)"),
        "there is no version {package}{version} on the package index",
        "Ask for a version that exists, or leave the version out.",
    ),
    (
        re.compile(
            rf"[Bb]ecause only (?:the following versions of )?{NAME}[^ ]* (?:is|are) available.*?you require {NAME.replace('package', 'asked')}(?P<version>[=<>!~][^ ,]*)"
        ),
        "the package index has no {asked}{version}",
        "Ask for a version that exists, or leave the version out.",
    ),
    (
        re.compile(
            rf"{NAME}(?P<version>[=<>!~][^ ,]*)? has no (?:usable )?wheels with a matching (?P<tag>Python ABI tag|Python version tag|platform tag|Python implementation tag)"
        ),
        "{package}{version} has no ready-made wheel for this Python ({tag})",
        "Ask for a version with wheels for this Python, or name another Python version.",
    ),
    (
        re.compile(rf"{NAME}(?P<version>[=<>!~][^ ,]*)? has no usable wheels"),
        "{package}{version} has no ready-made wheel for this Python and machine",
        "Ask for another version of {package} or of Python.",
    ),
    (
        re.compile(
            rf"(?:the requested|the current) Python version .*?does not satisfy Python(?P<range>[<>=!~][^ ]*).*?{NAME}(?P<version>[=<>!~][^ ,]*)? (?:depends on|cannot be used)"
        ),
        "{package}{version} needs Python {range}",
        "Name another Python version in the environment, or another version of {package}.",
    ),
    (
        re.compile(rf"Failed to (?:build|download and build) {NAME}"),
        "{package} has no wheel and could not be built from source",
        "Ask for a version that has a wheel.",
    ),
    (
        re.compile(
            rf"[Bb]ecause {NAME}(?P<version>[=<>!~][^ ,]*)? depends on (?P<other>[\w.-]+)(?P<range>[=<>!~][^ ,]*).*?you require"
        ),
        "the packages contradict each other: {package}{version} needs {other}{range}",
        "Loosen one of the two versions.",
    ),
    (
        re.compile(
            r"Couldn't parse requirement[^`]*`?(?P<where>[^`:]+)?.*?(?P<detail>Expected [^.]*|no such comparison operator[^.]*)"
        ),
        "a requirement is not understood: {detail}",
        "Mend that line; pip's requirement syntax counts.",
    ),
]
SYSTEM = [
    (re.compile(r"No space left on device"), "the disk is full"),
    (
        re.compile(
            r"(?:dns error|error sending request|Connection refused|timed out|Could not connect|client error \(Connect\))",
            re.IGNORECASE,
        ),
        "the package index cannot be reached",
    ),
]
OLD_STACK = re.compile(r"^(scikit-learn|scipy|pandas|numpy|xgboost|lightgbm)==(\d+)\.(\d+)", re.MULTILINE)
LAST_NUMPY_1 = {"scikit-learn": (1, 4), "scipy": (1, 13), "pandas": (2, 2), "xgboost": (2, 1), "lightgbm": (4, 4)}


def hints(requirements: Sequence[str]) -> list[str]:
    """Advice on requirements that resolve but are known to fail when imported."""
    names = {re.split(r"[=<>!~\[ ;]", each, maxsplit=1)[0].lower() for each in requirements}
    if "numpy" in names:
        return []
    found = []
    for name, major, minor in OLD_STACK.findall("\n".join(requirements)):
        if name in LAST_NUMPY_1 and (int(major), int(minor)) < LAST_NUMPY_1[name]:
            found.append(f"{name} {major}.{minor} is older than numpy 2: add numpy<2, or its import may fail.")
    return found


def _evidence(output: str, matched: str) -> str:
    """The line of the output that the match begins in, else the matched text."""
    head = matched.split(" ", maxsplit=1)[0]
    for line in output.splitlines():
        if head and head in line:
            return re.sub(r"^[\s\u2570\u2500\u25b6\u00d7]+", "", line)[:400]
    return matched[:400]


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""

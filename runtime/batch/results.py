"""What a script's run() returned, as rows of text."""

from __future__ import annotations

import sys
from typing import Any


class ScoreError(Exception):
    """A mini-batch could not be scored, for a reason that has its own code."""

    def __init__(self, code: str, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.evidence = evidence


def count(result: Any) -> int:
    """How many rows it has; ScoreError(BadResult) when it is of no kind that has rows."""
    known = isinstance(result, (list, tuple)) or _is(result, "pandas", "DataFrame") or _is(result, "pandas", "Series")
    if known or (_is(result, "numpy", "ndarray") and result.ndim):
        return len(result)
    kind = type(result).__name__
    raise ScoreError(
        "BadResult",
        f"run() returned {'None' if result is None else f'a value of the type {kind}'}; "
        "return a list or a pandas DataFrame, with one element or row for each success.",
        f"run() returned {kind}",
    )


def text(result: Any) -> str:
    """One line for each row, each with its end; a data frame's cells may have line ends inside quotes."""
    if _is(result, "pandas", "DataFrame"):
        return str(result.to_csv(header=False, index=False))
    lines = [item if type(item) is str else _line(item) for item in result]
    lines.append("")
    return "\n".join(lines)


def _line(item: Any) -> str:
    if _is(item, "numpy", "ndarray"):  # str() would leave out the middle of a long one
        found = str(sys.modules["numpy"].array2string(item, threshold=item.size + 1))
    else:
        found = str(item)
    return found.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def _is(value: Any, module: str, name: str) -> bool:
    """Whether it is an instance of that class, without importing a package that nobody has imported."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)

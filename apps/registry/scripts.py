"""Looking at a scoring script before anything is started."""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

from apps.core.errors import Problem
from apps.registry import storage
from apps.registry.models import CodeVersion

LONGEST = 5_000_000  # bytes of a scoring script


def check(code: CodeVersion | None, script: str) -> None:
    """Refuse what can never start: no such file, a path out of the folder, a syntax error.

    Raises:
        Problem: "bad-field", "script-missing" or "script-syntax".
    """
    if code is None or not script:
        missing = "codeConfiguration.scoringScript" if code else "codeConfiguration.codeId"
        raise Problem("bad-field", field=missing, reason="code and scoring script go together", target=missing)
    path = PurePosixPath(script)
    if path.is_absolute() or ".." in path.parts:
        raise Problem(
            "bad-field", field="codeConfiguration.scoringScript", reason="must be a path inside the code folder"
        )
    file = root_of(code) / path
    try:
        size = file.stat().st_size if file.is_file() else None
    except OSError:  # a name longer than the file system takes
        size = None
    if size is None:
        raise Problem("script-missing", script=script, target="codeConfiguration.scoringScript")
    if size > LONGEST:
        reason = f"has {size} bytes, more than the {LONGEST} of any script"
        field = "codeConfiguration.scoringScript"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    try:
        ast.parse(file.read_bytes())
    except (RecursionError, MemoryError):  # what the parser says of an expression nested too deeply
        raise Problem(
            "script-syntax",
            script=script,
            evidence=f"{script}: nested too deeply",
            target="codeConfiguration.scoringScript",
        ) from None
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise Problem(
            "script-syntax", script=script, evidence=f"{script}, {where}", target="codeConfiguration.scoringScript"
        ) from None


def root_of(code: CodeVersion) -> Path:
    """The code folder on disk."""
    return storage.tree_path(code.tree_id) / code.path

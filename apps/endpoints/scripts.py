"""Looking at a scoring script before anything is started."""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

from apps.core.errors import Problem
from apps.registry import storage
from apps.registry.models import CodeVersion


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
    if not file.is_file():
        raise Problem("script-missing", script=script, target="codeConfiguration.scoringScript")
    try:
        ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise Problem(
            "script-syntax", script=script, evidence=f"{script}, {where}", target="codeConfiguration.scoringScript"
        ) from None


def root_of(code: CodeVersion) -> Path:
    """The code folder on disk."""
    return storage.tree_path(code.tree_id) / code.path

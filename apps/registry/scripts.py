"""Looking at a scoring script before anything is started."""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PurePosixPath

from apps.core.errors import Problem
from apps.registry import modules, storage
from apps.registry.models import CodeVersion

MOST_NAMED = 8  # files in a message


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
        evidence = _there(root_of(code))
        raise Problem("script-missing", script=script, evidence=evidence, target="codeConfiguration.scoringScript")
    if size > modules.LONGEST:
        reason = f"has {size} bytes, more than the {modules.LONGEST} of any script"
        field = "codeConfiguration.scoringScript"
        raise Problem("bad-field", field=field, reason=reason, target=field)
    try:
        modules.read(file, script)
    except modules.Unreadable as error:
        raise Problem(
            "script-syntax", script=script, evidence=str(error), target="codeConfiguration.scoringScript"
        ) from None


def _there(folder: Path) -> str:
    """The Python files of a code folder, as a sentence."""
    found = list(islice((each.relative_to(folder).as_posix() for each in folder.rglob("*.py")), MOST_NAMED + 1))
    if not found:
        return "The code folder has no Python file."
    more = ", …" if len(found) > MOST_NAMED else ""
    return f"The code folder has {', '.join(sorted(found[:MOST_NAMED]))}{more}."


def root_of(code: CodeVersion) -> Path:
    """The code folder on disk."""
    return storage.tree_path(code.tree_id) / code.path

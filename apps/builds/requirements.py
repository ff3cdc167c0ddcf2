"""What a line of requirements may say. uv opens what it is given with our rights, so only names and versions pass.

A path or a `file:` address would read this machine, any other address be fetched from inside this network, `${NAME}`
be replaced by our environment (which may hold the index's password), and a line break begin an option. Pure functions.
"""

from __future__ import annotations

import re

VERSION = r"(?:===?|[<>!~]=|[<>])\s*[\w.*+!-]+"
NAME = r"[A-Za-z0-9][\w.-]*\s*(?:\[[\w\s,.-]*\])?"
PLAIN = re.compile(rf"{NAME}\s*\(?(?:{VERSION}(?:\s*,\s*{VERSION})*\s*,?)?\s*\)?\s*(?:;[^\\$#\r\n]*)?", re.ASCII)
ADDRESS = re.compile(rf"{NAME}\s*@\s*(?:git\+)?https?://[^\s\\$]+", re.ASCII)
ARCHIVES = (".whl", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".tar")
LONGEST, MOST = 1000, 2000


class RequirementError(ValueError):
    """A line that is not passed to uv; the text says which and why."""


def clean(lines: list[str], *, addresses: bool = False) -> list[str]:
    """The lines without their comments.

    Args:
        addresses: let `name @ https://…` pass too, for an operator who trusts everybody who deploys.

    Raises:
        RequirementError: a line is not a name with versions, or there are too many.
    """
    if len(lines) > MOST:
        raise RequirementError(f"it has {len(lines)} requirements; {MOST} are allowed")
    found = (re.split(r"\s#", line, maxsplit=1)[0].strip() for line in lines)
    return [_checked(line, addresses=addresses) for line in found if line]


def _checked(line: str, *, addresses: bool) -> str:
    plain = PLAIN.fullmatch(line) if len(line) <= LONGEST else None
    if plain and not line.split(";", 1)[0].rstrip().lower().endswith(ARCHIVES):
        return line
    if addresses and len(line) <= LONGEST and ADDRESS.fullmatch(line):
        return line
    shown = line.split("://", 1)[0].splitlines()[0][:80]  # what follows may hold a password
    raise RequirementError(
        f"`{shown}` is not a package name with a version; options, files and addresses are not supported"
    )

"""The command line of a component: placeholders, optional blocks, and how values get in without becoming code.

Values never become part of the command's text. They are assigned to variables before it, quoted, and each
placeholder becomes the expansion of its variable, which a shell does not parse again. So a value is data wherever
the author put the placeholder: in quotes, in `$(…)`, in a comment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from apps.registry.pipelines.fields import bad, unsupported
from apps.registry.pipelines.interface import Declared

PLACE = re.compile(r"\$\{\{\s*(?P<side>inputs|outputs)\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
BLOCK = re.compile(r"\$\[\[(?P<body>.*?)\]\]", re.DOTALL)
CONTINUED = re.compile(r"\\[ \t]*\r?(?:\n|\Z)")
ARITHMETIC = re.compile(r"\$\(\((?:(?!\)\)).)*\$\{\{", re.DOTALL)


def check(command: str, inputs: Mapping[str, Declared], outputs: Mapping[str, Declared], field: str) -> None:
    """Refuse a command that could not be rendered with every allowed set of values.

    Raises:
        Problem: "bad-field" or "unsupported", saying what is wrong with it.
    """
    if not command.strip():
        raise bad(field, "is required")
    if CONTINUED.search(command):
        raise unsupported(field, "a line ends in \\; write it as one line (>- in YAML folds lines)")
    if "\\${{" in command:
        raise unsupported(field, "a \\ stands before a placeholder; values are quoted as they need")
    if ARITHMETIC.search(command):
        raise unsupported(field, "a placeholder in $((…)) would be read as code")
    outside = _outside_blocks(command, field)
    if "${{" in PLACE.sub("", command):
        raise bad(field, "only ${{inputs.name}} and ${{outputs.name}} have a meaning here")
    for match in PLACE.finditer(command):
        declared = inputs if match["side"] == "inputs" else outputs
        if match["name"] not in declared:
            raise bad(field, f"there is no {match['side']}.{match['name'][:60]}")
    for match in PLACE.finditer(outside):
        each = inputs.get(match["name"]) if match["side"] == "inputs" else None
        if each is not None and each.optional and each.default is None:
            reason = f"the input {match['name']} is optional: wrap it as $[[--{match['name']} {match[0]}]]"
            raise bad(field, reason)


def _outside_blocks(command: str, field: str) -> str:
    """The command without its optional blocks, which are checked."""
    blocks = [match["body"] for match in BLOCK.finditer(command)]
    outside = BLOCK.sub(" ", command)
    if "$[[" in outside or any("$[[" in each for each in blocks):
        raise bad(field, "each $[[ needs its own ]], and blocks cannot be nested")
    for each in blocks:
        if not PLACE.search(each):
            raise bad(field, f"the optional block {each[:60]!r} has no input")
    return outside


def render(command: str, inputs: Mapping[str, str | None], outputs: Mapping[str, str]) -> str:
    """The script for a POSIX shell, values and all. Raises what `expand` does."""
    script, variables = expand(command, inputs, outputs)
    return "\n".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), script])


def expand(command: str, inputs: Mapping[str, str | None], outputs: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The script for a POSIX shell, and the variables it refers to: literals as text, data and outputs as paths.

    An optional block vanishes when one of its inputs is None. A placeholder is one word, whatever its value holds.

    Raises:
        Problem: "bad-field" for a placeholder without a value outside of a block.
    """
    values = {("inputs", name): each for name, each in inputs.items()}
    values |= {("outputs", name): each for name, each in outputs.items()}

    def kept(block: re.Match[str]) -> str:
        places = PLACE.finditer(block["body"])
        missing = any(values.get((each["side"], each["name"])) is None for each in places)
        return "" if missing else block["body"]

    chosen = BLOCK.sub(kept, command)
    used: dict[str, str] = {}
    parts: list[str] = []
    at, quotes = 0, [""]
    for match in PLACE.finditer(chosen):
        value = values.get((match["side"], match["name"]))
        if value is None:
            raise bad("command", f"{match['side']}.{match['name']} has no value")
        variable = f"azureml_{match['side']}_{match['name']}"
        used[variable] = value
        before = chosen[at : match.start()]
        quotes = _quotes_after(before, quotes)
        parts += [
            before,
            {"": f'"${{{variable}}}"', '"': f"${{{variable}}}", "'": f"'\"${{{variable}}}\"'"}[quotes[-1]],
        ]
        at = match.end()
    return "".join(parts) + chosen[at:], used


def _quotes_after(text: str, quotes: list[str]) -> list[str]:
    """Which quote is open in each nested `(…)` after a piece of a command, the innermost last.

    It only decides whether a value stays one word: being wrong about it lets no value run.
    """
    quotes = list(quotes)
    previous = ""
    for each in text:
        quote = quotes[-1]
        if previous == "\\" and quote != "'":
            previous = ""
            continue
        if each == quote:
            quotes[-1] = ""
        elif not quote and each in "'\"":
            quotes[-1] = each
        elif each == "(" and (not quote or (quote == '"' and previous == "$")):
            quotes.append("")
        elif each == ")" and not quote and len(quotes) > 1:
            quotes.pop()
        previous = each
    return quotes

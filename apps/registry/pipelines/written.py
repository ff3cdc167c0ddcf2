"""A component as somebody has written it in YAML: read with bounds, and every field found again by its line."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

LONGEST = 100_000  # characters; a person reads such a file
DEEPEST = 60
TAG = "tag:yaml.org,2002:"
TEXT = f"{TAG}str"
PLAIN = tuple(f"{TAG}{each}" for each in ("null", "bool", "int", "float", "str", "seq", "map"))
LEFT_OUT = (f"{TAG}timestamp", f"{TAG}merge")
NUMBERS = {
    f"{TAG}int": re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})"),
    f"{TAG}float": re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,18}(?:e[-+]?[0-9]{1,3})?|\.(?:inf|nan))", re.IGNORECASE),
}
WORDS = ("name", "version")  # texts also where they look like numbers: version 1.10 is not 1.1


class Unreadable(Exception):  # noqa: N818 -- what the text is
    """`line` counts from 1; None when no line is to blame."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class _Loader(yaml.SafeLoader):
    """Only what JSON can say: no aliases (a few lines of them are gigabytes), no tags, no key given twice.

    Dates, numbers in octal, hexadecimal or sixties and those of more than 18 digits are texts, and so is `<<`.
    """

    yaml_constructors: ClassVar[Any] = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*PLAIN, None)}
    yaml_implicit_resolvers: ClassVar[Any] = {  # type: ignore[misc]
        first: [each for each in rules if each[0] not in LEFT_OUT]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("anchors and aliases are not read: write it out", _line(event))
        if getattr(event, "tag", None):
            raise Unreadable("tags are not read: leave out what begins with !", _line(event))
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("it is nested too deeply", _line(event))
        node = super().compose_node(parent, index)
        self.depth -= 1
        _check(node)
        return node


def _check(node: Any) -> None:
    if isinstance(node, yaml.ScalarNode):
        if any(each == "\x00" or "\ud800" <= each <= "\udfff" for each in node.value):
            raise Unreadable("it is not Unicode text", _line(node))
        if node.tag in NUMBERS and not NUMBERS[node.tag].fullmatch(node.value):
            node.tag = TEXT
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key in (each for each, _value in node.value if isinstance(each, yaml.ScalarNode)):
            if key.value in seen:
                raise Unreadable(f"{key.value[:60]} is given twice", _line(key))
            seen.add(key.value)
            key.tag = TEXT


def _line(thing: Any) -> int | None:
    return thing.start_mark.line + 1 if thing is not None and thing.start_mark else None


class Written:
    """`document`: what the `text` says, as `normalise` takes it."""

    def __init__(self, text: str) -> None:
        """Raises Unreadable for anything but one map of texts to what JSON can say."""
        if len(text) > LONGEST:
            raise Unreadable(f"it has {len(text)} characters; {LONGEST} are allowed")
        try:
            loader = _Loader(text)
            self.node: Any = loader.get_single_node()
            for word in WORDS:
                _as_text(_below(self.node, word))
            document = loader.construct_document(self.node) if self.node is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise Unreadable(str(error.problem or "it is no YAML"), mark.line + 1 if mark else None) from None
        except (yaml.YAMLError, ValueError, ArithmeticError):  # letters that YAML has not, or that nobody has
            raise Unreadable("it is no YAML") from None
        if not isinstance(document, dict):
            raise Unreadable("it must be a map: type, name, inputs, …", _line(self.node))
        self.text = text
        self.document: dict[str, Any] = document

    def line_of(self, path: str) -> int | None:
        """The line of a field as Problems name it, `jobs.prep.inputs.data`, or of the nearest around it that is there.

        None when nothing of it is.
        """
        node, line = self.node, None
        for name in path.split("."):
            found = _below(node, name)
            if found is None:
                return line
            line, node = _line(found[0]), found[1]
        return line


def _below(node: Any, name: str) -> tuple[Any, Any] | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next(((key, value) for key, value in node.value if getattr(key, "value", None) == name), None)


def _as_text(found: tuple[Any, Any] | None) -> None:
    if found is not None and isinstance(found[1], yaml.ScalarNode) and found[1].tag != f"{TAG}null":
        found[1].tag = TEXT

"""A component as somebody has written it in YAML: read with bounds, and every field found again by its line."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml

LONGEST = 100_000  # characters; a person reads such a file
DEEPEST = 60
PLAIN = tuple(f"tag:yaml.org,2002:{each}" for each in ("null", "bool", "int", "float", "str", "seq", "map"))
DATE = "tag:yaml.org,2002:timestamp"


class Unreadable(Exception):  # noqa: N818 -- what the text is
    """`line` counts from 1; None when no line is to blame."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class _Loader(yaml.SafeLoader):
    """Only what JSON can say: no aliases (a few lines of them are gigabytes), no dates, no key given twice."""

    yaml_constructors: ClassVar[Any] = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*PLAIN, None)}
    yaml_implicit_resolvers: ClassVar[Any] = {  # type: ignore[misc]
        first: [each for each in rules if each[0] != DATE]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("anchors and aliases are not read: write it out", _line(event))
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
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key in (each for each, _value in node.value if isinstance(each, yaml.ScalarNode)):
            if key.value in seen:
                raise Unreadable(f"{key.value[:60]} is given twice", _line(key))
            seen.add(key.value)


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
            document = loader.construct_document(self.node) if self.node is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise Unreadable(str(error.problem or "it is no YAML"), mark.line + 1 if mark else None) from None
        except (yaml.YAMLError, ValueError):  # letters that YAML has not; a number of thousands of digits
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

"""What a Python file says of itself, read from its syntax tree: nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST = 500_000  # bytes of a scoring script: its syntax tree takes a thousand times that
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DYNAMIC = {"globals", "vars", "exec", "eval", "setattr", "__import__", "driver_module"}  # names may come from anywhere
OPENERS = {"open", "load", "load_model", "read_csv", "read_pickle", "read_parquet", "read_json"}
PATHS = {"path", "modules", "meta_path", "path_hooks"}  # of sys: who changes them finds modules elsewhere
MODEL_DIR = "AZUREML_MODEL_DIR"
SHOWN = 200


class Unreadable(Exception):  # noqa: N818 -- said of the file
    """It is not Python; the text says where."""


@dataclass(frozen=True)
class Import:
    """`sure`: on the module's own level and not inside try, if or a function, so it is carried out in any case."""

    module: str
    line: int
    sure: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Source:
    """A parsed file. `dynamic`: names may be defined in ways that cannot be seen. `moves_path`: so may modules."""

    name: str
    names: frozenset[str]
    runs: tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]
    imports: tuple[Import, ...]
    opened: tuple[tuple[int, str], ...]
    dynamic: bool
    moves_path: bool
    asks_model_dir: bool


def read(file: Path, name: str) -> Source:
    """Raises Unreadable for what Python cannot parse."""
    try:
        tree = ast.parse(file.read_bytes())
    except (RecursionError, MemoryError):  # what the parser says of an expression nested too deeply
        raise Unreadable(f"{name}: nested too deeply") from None
    except SyntaxError as error:
        raise Unreadable(f"{name}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:
        raise Unreadable(f"{name}, {error}") from None
    return _source(tree, name)


def _source(tree: ast.Module, name: str) -> Source:
    names: set[str] = set()
    runs: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    imports: list[Import] = []
    for node, sure in _statements(tree):
        names.update(_bound(node))
        imports += _imports(node, sure=sure)
        if isinstance(node, FUNCTIONS) and node.name == "run":
            runs.append(node)
        if isinstance(node, SCOPES):
            inner = (each for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom))
            imports += [found for each in inner for found in _imports(each, sure=False)]
    seen = list(ast.walk(tree))
    told = {each.id for each in seen if isinstance(each, ast.Name)}
    named = {each for node in seen if isinstance(node, ast.Global) for each in node.names}
    return Source(
        name=name,
        names=frozenset(names),
        runs=tuple(runs),
        imports=tuple(imports),
        opened=tuple(found for node in seen if (found := _opened(node))),
        dynamic="*" in names or bool(DYNAMIC & (told | names)) or bool({"init", "run"} & named),
        moves_path=any(_moves_path(node) for node in seen),
        asks_model_dir=any(isinstance(each, ast.Constant) and each.value == MODEL_DIR for each in seen),
    )


def _statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of the module's own level, and whether each is carried out in any case."""
    stack = [(each, True) for each in reversed(tree.body)]
    while stack:
        node, sure = stack.pop()
        yield node, sure
        if isinstance(node, SCOPES):
            continue
        blocks = [getattr(node, "orelse", []), getattr(node, "finalbody", [])]
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            blocks.append(getattr(node, "body", []))
        blocks += [part.body for part in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]]
        stack += [(each, False) for block in blocks for each in block]


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement defines; "*" for any."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((each.asname or each.name).partition(".")[0] for each in node.names)
    elif not isinstance(node, ast.Try | ast.TryStar | ast.Match):  # their parts hold statements, which come later
        heads = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
        for head in heads:
            stored = (each for each in ast.walk(head) if isinstance(each, ast.Name))
            yield from (each.id for each in stored if isinstance(each.ctx, ast.Store))


def _imports(node: ast.AST, *, sure: bool) -> list[Import]:
    if isinstance(node, ast.Import):
        return [Import(each.name, node.lineno, sure) for each in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [Import(node.module, node.lineno, sure)]
    return []


def _opened(node: ast.AST) -> tuple[int, str] | None:
    """(line, path) of a call that opens a file by a relative path written in the code."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    path = node.args[0].value
    if called not in OPENERS or not isinstance(path, str) or path.startswith(("/", "~")) or "://" in path:
        return None
    return (node.lineno, path[:SHOWN]) if "." in path.rpartition("/")[2].lstrip(".") else None


def _moves_path(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "sys" and any(each.name in PATHS for each in node.names)
    if not isinstance(node, ast.Attribute):
        return False
    return node.attr == "addsitedir" or (
        node.attr in PATHS and isinstance(node.value, ast.Name) and node.value.id == "sys"
    )

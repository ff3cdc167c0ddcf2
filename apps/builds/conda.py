"""conda environment files as pip requirements. Pure functions; every dropped or renamed line is reported.

The names that differ between conda and PyPI were collected from the environment files of public model examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

RENAMED = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "tensorflow-base": "tensorflow",
    "msgpack-python": "msgpack",
    "pytables": "tables",
    "matplotlib-base": "matplotlib",
    "seaborn-base": "seaborn",
    "dask-core": "dask",
    "python-graphviz": "graphviz",
    "brotlipy": "brotlicffi",
    "pandas-profiling": "ydata-profiling",
    "ruamel_yaml": "ruamel.yaml",
    "importlib_metadata": "importlib-metadata",
    "typing_extensions": "typing-extensions",
    "prompt_toolkit": "prompt-toolkit",
}
NOT_PYTHON = frozenset(
    """
    gcc gxx gcc_linux-64 gxx_linux-64 libgcc-ng libstdcxx-ng libgomp llvm-openmp openssl ca-certificates blas libblas
    mkl nomkl cudatoolkit cudnn cpuonly libxgboost nlohmann_json curl git nodejs openjdk r-base fonts-conda-forge
    """.split()
)
COMMON_CHANNELS = frozenset({"conda-forge", "defaults", "anaconda", "nodefaults"})
KNOWN_KEYS = frozenset({"name", "channels", "dependencies", "prefix", "variables"})
SPEC = re.compile(r"(?:(?P<channel>[\w./:-]+)::)?(?P<name>[A-Za-z0-9][\w.-]*)\s*(?P<rest>.*)")
SHOWN = 200  # characters of a line
LONGEST = 200_000  # characters of a file; the studio's form takes as many
VERSION = re.compile(r"[0-9][\w.!+*-]*")


class CondaError(ValueError):
    """The file cannot be translated; the text says why, `line` is the one of the file that is to blame, or ""."""

    def __init__(self, text: str, line: str = "") -> None:
        super().__init__(text)
        self.line = line


@dataclass(frozen=True)
class Note:
    """One line that is not passed on as it was written."""

    line: str
    action: str  # "dropped" | "renamed" | "noted"
    reason: str


@dataclass
class Translation:
    requirements: list[str] = field(default_factory=list)
    python: str = ""
    notes: list[Note] = field(default_factory=list)


def translate(text: str) -> Translation:
    """Raises CondaError for what is no conda file, R packages and unknown sections."""
    data = _load(text)
    if not isinstance(data, dict) or not isinstance(data.get("dependencies"), list):
        raise CondaError("it has no list `dependencies`")
    unknown = set(data) - KNOWN_KEYS
    if unknown:
        raise CondaError(f"it has unknown keys: {', '.join(sorted(map(str, unknown)))}")
    result = Translation()
    channels = data.get("channels") or []
    if not isinstance(channels, list) or not all(isinstance(channel, str) for channel in channels):
        raise CondaError("its `channels` are not a list of names")
    for channel in channels:
        if channel not in COMMON_CHANNELS:
            result.notes.append(
                Note(channel, "noted", "packages come from the Python package index, not from this channel")
            )
    if data.get("variables"):
        reason = "they are not set; give them as environment variables of the deployment"
        result.notes.append(Note("variables", "dropped", reason))
    for entry in data["dependencies"]:
        _entry(entry, result)
    return result


def _load(text: str) -> Any:
    if len(text) > LONGEST:
        raise CondaError(f"it has {len(text)} characters; {LONGEST} are allowed")
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise CondaError("it is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        lines = text.splitlines()
        if mark is None or mark.line >= len(lines):
            raise CondaError(f"it is not valid YAML: {error.problem}") from None
        what = f"it is not valid YAML: line {mark.line + 1}: {error.problem}"
        raise CondaError(what, f"line {mark.line + 1}: {lines[mark.line][:SHOWN]}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise CondaError(f"it is not valid YAML: {str(error).splitlines()[0]}") from None


def _entry(entry: Any, result: Translation) -> None:
    if isinstance(entry, dict):
        for section, lines in entry.items():
            if section != "pip" or not isinstance(lines, list):
                raise CondaError(f"unknown section `{section}` in dependencies; only `pip` is understood")
            result.requirements.extend(_pip_line(line) for line in lines)
    elif isinstance(entry, str):
        _package(entry.strip(), result)
    else:
        # its type only: aliases can make a text of gigabytes of a few lines
        raise CondaError(f"a dependency of type {type(entry).__name__} is neither a package nor a section")


def _pip_line(given: Any) -> str:
    if not isinstance(given, str):
        raise CondaError(f"a pip line of type {type(given).__name__} is not a requirement")
    line = given.strip()
    if line.startswith(("-", "/", ".", "file:")):
        raise CondaError(f"pip line `{line}`: options and local paths are not supported", line[:SHOWN])
    return line


def _package(line: str, result: Translation) -> None:
    match = SPEC.fullmatch(line)
    if match is None:
        raise CondaError(f"dependency `{line}` is not understood", line[:SHOWN])
    name, rest = match["name"].lower(), match["rest"].strip()
    constraint = version_constraint(rest, line)
    if name == "python":
        result.python = constraint.removeprefix("==").removesuffix(".*") if constraint.startswith("==") else ""
        if constraint and not result.python:
            floor = re.match(r"[>~]=\s*([0-9.]+)", constraint)
            result.python = floor[1] if floor else ""
    elif name == "pip":
        return
    elif name.startswith("r-"):
        raise CondaError(f"`{line}` is an R package; only Python environments can be built", line[:SHOWN])
    elif name in NOT_PYTHON:
        result.notes.append(Note(line, "dropped", "it is not a Python package; the machine or the wheels bring it"))
    else:
        target = RENAMED.get(name, name)
        if target != name:
            result.notes.append(Note(line, "renamed", f"it is called {target} on the Python package index"))
        result.requirements.append(f"{target}{constraint}")


def version_constraint(rest: str, line: str = "") -> str:
    """conda's version part as pip's: `=1.2` is fuzzy, `=1.2.3` and `==1.2` exact, build strings are cut off."""
    rest = rest.strip()
    if not rest or rest == "*":
        return ""
    if rest[0] in "<>!~" or ("," in rest and rest[0] != "="):
        return re.sub(r"\s+", "", rest)
    exact = rest.startswith("==")
    version = re.split(r"[=\s]", rest.lstrip("= "), maxsplit=1)[0]
    if not VERSION.fullmatch(version):
        raise CondaError(f"version of dependency `{line or rest}` is not understood")
    if version.endswith("*"):
        return f"=={version.rstrip('.*')}.*"
    fuzzy = rest.startswith("=") and not exact and version.count(".") < 2 and "=" not in rest[1:]  # noqa: PLR2004
    return f"=={version}.*" if fuzzy else f"=={version}"

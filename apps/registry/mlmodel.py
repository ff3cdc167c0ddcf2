"""Reading a model's own description: MLflow's MLmodel file, Triton's folder layout."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from django.utils.translation import gettext as _

from apps.core.errors import Problem
from apps.registry.models import Tree
from apps.registry.storage import tree_path

FILE_LIMIT = 2_000_000
EXAMPLE_LIMIT = 500_000
NODE_LIMIT = 200_000
DEPTH_LIMIT = 100
NAME_LIMIT = 200
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PATH_KEYS = {"data", "model_path", "model_data", "pickled_model", "code", "env", "artifact_path"}
MODEL_FILES = {"model.onnx", "model.plan", "model.pt", "model.graphdef", "model.savedmodel", "model.py", "model.xml"}


def read(tree: Tree, path: str) -> dict[str, Any]:
    """Path, flavors, signature, input example and run of an MLflow model.

    Raises:
        Problem: "model-invalid" when there is no MLmodel file, or none that can be served.
    """
    folder = _folder_with(tree_path(tree.digest), path, "MLmodel")
    if folder is None:
        raise _invalid("there is no file MLmodel in it.", _("Register the whole folder that MLflow saved."))
    data = _yaml(folder / "MLmodel")
    flavors = data.get("flavors")
    if not isinstance(flavors, dict) or "python_function" not in flavors:
        hint = _("Save it with a flavor that has pyfunc, or register it as custom_model and write a scoring script.")
        raise _invalid("its MLmodel file has no flavor python_function.", hint)
    _check_paths(flavors)
    signature = data.get("signature") if isinstance(data.get("signature"), dict) else None
    return {
        "path": folder.relative_to(tree_path(tree.digest)).as_posix().removeprefix("."),
        "flavors": _plain(flavors),
        "signature": _signature(signature),
        "input_example": _example(folder, data),
        "run_id": _text(data.get("run_id") or "")[:64],
    }


def _folder_with(root: Path, path: str, name: str) -> Path | None:
    """The folder at `path`, or the only folder right below it, that holds the file."""
    start = root / path
    if (start / name).is_file():
        return start
    below = [each for each in sorted(start.iterdir()) if each.is_dir()] if start.is_dir() else []
    found = [each for each in below if (each / name).is_file()]
    return found[0] if len(found) == 1 else None


def _yaml(path: Path) -> dict[str, Any]:
    if path.stat().st_size > FILE_LIMIT:
        raise _invalid("its MLmodel file is unreasonably large.")
    text = path.read_bytes()
    try:
        _check_shape(text)
        data = yaml.load(text, Loader=LOADER)  # noqa: S506 -- a safe loader, the fast one
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise _invalid(f"its MLmodel file is not YAML: {(str(error).splitlines() or [''])[0][:200]}") from None
    if not isinstance(data, dict):
        raise _invalid("its MLmodel file is empty or not a mapping.")
    return data


def _check_shape(text: bytes) -> None:  # noqa: C901 -- one branch per kind of event
    """Refuse what would grow beyond all bounds, or nest so deeply that the C loader crashes, before it is loaded."""
    sizes: dict[str, int] = {}
    stack: list[tuple[str | None, int]] = []
    size = 0
    for event in yaml.parse(text, Loader=LOADER):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append((anchor, size))
            if len(stack) > DEPTH_LIMIT:
                raise _invalid("its MLmodel file is nested too deeply.")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = stack.pop()
            size += 1
            if anchor:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.AliasEvent):
            if anchor not in sizes:
                raise _invalid("its MLmodel file contains itself.")
            size += sizes[anchor]
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if anchor:
                sizes[anchor] = 1
        if size > NODE_LIMIT:
            raise _invalid("its MLmodel file is unreasonably large once its aliases are followed.")


def _plain(value: Any, depth: int = 0) -> Any:
    """The value as every database's JSON can hold it: YAML knows dates, Python NaN, and texts may hold anything."""
    if depth > DEPTH_LIMIT:
        raise RecursionError("nested too deeply")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return _text(value)


def _text(value: Any) -> str:
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode()


def _json(text: str | bytes) -> Any:
    """Parsed and plain; None when it cannot be."""
    try:
        return _plain(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _signature(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """MLflow keeps inputs, outputs and params as JSON texts inside the YAML."""
    if data is None:
        return None
    parts = {key: data.get(key) for key in ("inputs", "outputs", "params")}
    return {key: _json(value) if isinstance(value, str) else _plain(value) for key, value in parts.items()}


def _example(folder: Path, data: dict[str, Any]) -> Any:
    info = data.get("saved_input_example_info")
    name = str(info.get("artifact_path", "")) if isinstance(info, dict) else ""
    if not name or len(name) > NAME_LIMIT or "/" in name or "\x00" in name:
        return None
    file = folder / name
    if not file.is_file() or file.stat().st_size > EXAMPLE_LIMIT:
        return None
    return _json(file.read_bytes())


def _check_paths(flavors: dict[Any, Any]) -> None:
    """What a flavor names must lie inside the model: loaders open it with the rights of whoever loads."""
    for name, flavor in flavors.items():
        for key in PATH_KEYS & flavor.keys() if isinstance(flavor, dict) else ():
            values = flavor[key].values() if isinstance(flavor[key], dict) else [flavor[key]]
            for value in values:
                if isinstance(value, str) and (
                    value.startswith(("/", "~", "\\")) or ".." in PurePosixPath(value.replace("\\", "/")).parts
                ):
                    raise _invalid(
                        f"{_text(name)[:40]}.{key} in its MLmodel file leads out of the model: {_text(value)[:80]!r}."
                    )


def _invalid(reason: str, hint: str = "") -> Problem:
    return Problem("model-invalid", kind="MLflow model", reason=reason, hint=hint)


def check_triton(tree: Tree, path: str) -> None:
    """A Triton repository: <model>/<version number>/<model file> (spec 6.3). Raises Problem "model-invalid"."""
    root = tree_path(tree.digest) / path
    if not root.is_dir():
        raise Problem("model-invalid", kind="Triton model", reason="it is a file, not a model repository.")
    for start in (root, *(each for each in root.iterdir() if each.is_dir())):
        for model in (each for each in start.iterdir() if each.is_dir()):
            numbered = [each for each in model.iterdir() if each.is_dir() and each.name.isdigit()]
            if any(file.name in MODEL_FILES for version in numbered for file in version.iterdir()):
                return
    raise Problem(
        "model-invalid",
        kind="Triton model",
        reason="no <model>/<version number>/model.… file is in it.",
        hint=_("Put each model file into a numbered folder, as in net/1/model.onnx."),
    )

"""Reading a model's own description: MLflow's MLmodel file, Triton's folder layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from apps.core.errors import Problem
from apps.registry.models import Tree
from apps.registry.storage import tree_path

FILE_LIMIT = 5_000_000
MODEL_FILES = {"model.onnx", "model.plan", "model.pt", "model.graphdef", "model.savedmodel", "model.py", "model.xml"}


def read(tree: Tree, path: str) -> dict[str, Any]:
    """Path, flavors, signature, input example and run of an MLflow model.

    Raises:
        Problem: "model-invalid" when there is no MLmodel file, or none that can be served.
    """
    folder = _folder_with(tree_path(tree.digest), path, "MLmodel")
    if folder is None:
        raise Problem("model-invalid", kind="MLflow model", reason="there is no file MLmodel in it.")
    data = _yaml(folder / "MLmodel")
    flavors = data.get("flavors")
    if not isinstance(flavors, dict) or "python_function" not in flavors:
        raise Problem("model-invalid", kind="MLflow model", reason="its MLmodel file has no flavor python_function.")
    signature = data.get("signature") if isinstance(data.get("signature"), dict) else None
    return {
        "path": folder.relative_to(tree_path(tree.digest)).as_posix().removeprefix("."),
        "flavors": {str(name): _plain(value) for name, value in flavors.items()},
        "signature": _signature(signature),
        "input_example": _example(folder, data),
        "run_id": str(data.get("run_id") or "")[:64],
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
        raise Problem("model-invalid", kind="MLflow model", reason="its MLmodel file is unreasonably large.")
    try:
        data = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        reason = f"its MLmodel file is not YAML: {str(error).splitlines()[0]}"
        raise Problem("model-invalid", kind="MLflow model", reason=reason) from None
    if not isinstance(data, dict):
        raise Problem("model-invalid", kind="MLflow model", reason="its MLmodel file is empty or not a mapping.")
    return data


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: YAML also knows dates."""
    return json.loads(json.dumps(value, default=str))


def _signature(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """MLflow keeps inputs, outputs and params as JSON texts inside the YAML."""
    if data is None:
        return None
    result = {}
    for key in ("inputs", "outputs", "params"):
        try:
            result[key] = json.loads(data[key]) if isinstance(data.get(key), str) else _plain(data.get(key))
        except ValueError:
            result[key] = None
    return result


def _example(folder: Path, data: dict[str, Any]) -> Any:
    info = data.get("saved_input_example_info")
    name = str(info.get("artifact_path", "")) if isinstance(info, dict) else ""
    file = folder / name
    if not name or "/" in name or not file.is_file() or file.stat().st_size > FILE_LIMIT:
        return None
    try:
        return json.loads(file.read_bytes())
    except ValueError:
        return None


def check_triton(tree: Tree, path: str) -> None:
    """A Triton repository: <model>/<version number>/<model file> (spec 6.3). Raises Problem "model-invalid"."""
    root = tree_path(tree.digest) / path
    for start in (root, *(each for each in root.iterdir() if each.is_dir())):
        for model in (each for each in start.iterdir() if each.is_dir()):
            numbered = [each for each in model.iterdir() if each.is_dir() and each.name.isdigit()]
            if any(file.name in MODEL_FILES for version in numbered for file in version.iterdir()):
                return
    raise Problem("model-invalid", kind="Triton model", reason="no <model>/<version number>/model.… file is in it.")

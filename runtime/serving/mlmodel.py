"""MLmodel files read without MLflow, whose import takes longer than everything else a replica does at its start.

Only what is plain is understood: everything else raises `NotPlainError`, and MLflow itself reads the file. `Metadata`
and `Schema` have the methods of MLflow's own classes that the fast path and the service's document ask for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

_OUTPUT_TYPES = frozenset({"boolean", "integer", "long", "float", "double", "string", "binary", "datetime"})
_SPEC_KEYS = frozenset({"type", "name", "required", "optional", "tensor-spec"})
_EXAMPLE_KEYS = frozenset({"artifact_path", "pandas_orient", "serving_input_path", "type"})
_PYFUNC_KEYS = frozenset({"env", "loader_module", "model_path", "predict_fn", "python_version"})
_SKLEARN_KEYS = frozenset({"pickled_model", "serialization_format", "sklearn_version"})


class NotPlainError(Exception):
    """MLflow itself must load this model; the text says why."""


class Kind(NamedTuple):
    name: str


class Spec(NamedTuple):
    name: str | None
    type: Any  # a Kind, or the numpy dtype of a tensor
    required: bool
    shape: tuple[int, ...]


class Schema:
    def __init__(self, inputs: list[Spec], *, tensors: bool) -> None:
        self.inputs = inputs
        self._tensors = tensors

    def is_tensor_spec(self) -> bool:
        return self._tensors

    def has_input_names(self) -> bool:
        return self.inputs[0].name is not None

    def input_names(self) -> list[Any]:
        return [number if spec.name is None else spec.name for number, spec in enumerate(self.inputs)]


class Frame:
    """An input example with columns, as far as the service's document uses one."""

    def __init__(self, columns: list[Any], rows: Any) -> None:
        self.columns = columns
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def to_numpy(self) -> Any:
        return self.rows


class Metadata:
    """What an MLmodel file says of a scikit-learn model."""

    def __init__(self, document: dict[str, Any]) -> None:
        import numpy as np

        self._np = np
        self.flavors = _flavors(document)
        signature = document.get("signature")
        _demand(isinstance(signature, dict) and signature.get("inputs"), "it has no signature")
        assert isinstance(signature, dict)  # noqa: S101 -- just demanded
        _demand(not signature.get("params"), "it takes params")
        for name in ("is_signature_from_type_hint", "type_hint_from_example", "metadata"):
            _demand(not document.get(name), f"its MLmodel sets {name}")
        self._input = self._schema(signature["inputs"])
        self._output = self._schema(signature["outputs"]) if signature.get("outputs") else None
        self._example = document.get("saved_input_example_info")
        _demand(self._example is None or self._plain_example(self._example), "its input example is of a special kind")

    def get_input_schema(self) -> Schema:
        return self._input

    def get_output_schema(self) -> Schema | None:
        return self._output

    def load_input_example(self, folder: str) -> Any:
        if self._example is None:
            return None
        value = json.loads(Path(folder, self._example["artifact_path"]).read_text(encoding="utf-8"))
        if self._example["type"] == "dataframe":
            return Frame(value["columns"], self._np.array(value["data"]))
        return self._np.array(value)

    def _schema(self, text: str) -> Schema:
        specs = json.loads(text)
        _demand(isinstance(specs, list) and specs, "its signature is empty")
        tensors = specs[0].get("type") == "tensor"
        return Schema([self._spec(spec, tensors=tensors) for spec in specs], tensors=tensors)

    def _spec(self, spec: dict[str, Any], *, tensors: bool) -> Spec:
        _demand(spec.keys() <= _SPEC_KEYS, "its signature has unknown keys")
        name = spec.get("name")
        _demand(name is None or isinstance(name, str), "a column's name is not text")
        if tensors:
            inner = spec["tensor-spec"]
            return Spec(name, self._np.dtype(inner["dtype"]), required=True, shape=tuple(map(int, inner["shape"])))
        _demand(spec["type"] in _OUTPUT_TYPES, f"its signature has the type {str(spec['type'])[:50]}")
        required = bool(spec.get("required", True)) and not spec.get("optional")
        return Spec(name, Kind(spec["type"]), required, ())

    def _plain_example(self, info: Any) -> bool:
        if not isinstance(info, dict) or not info.keys() <= _EXAMPLE_KEYS:
            return False
        return info.get("type") == "ndarray" or (info.get("type"), info.get("pandas_orient")) == ("dataframe", "split")


def read(folder: Path) -> Metadata:
    """The MLmodel file in `folder`; NotPlainError, or whatever error a wrong file causes."""
    import yaml

    # The loader in C reads the same language fifteen times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = yaml.load((folder / "MLmodel").read_bytes(), Loader=loader)  # noqa: S506 -- both loaders are safe ones
    _demand(isinstance(document, dict), "its MLmodel is not a mapping")
    return Metadata(document)


def _flavors(document: dict[str, Any]) -> dict[str, Any]:
    flavors = document.get("flavors") or {}
    pyfunc, sklearn = flavors.get("python_function"), flavors.get("sklearn")
    if not isinstance(pyfunc, dict) or not isinstance(sklearn, dict):
        raise NotPlainError("it is not of the flavor sklearn")
    _demand(pyfunc.get("loader_module") == "mlflow.sklearn", "its loader is not MLflow's for scikit-learn")
    for name, flavor, known in (("python_function", pyfunc, _PYFUNC_KEYS), ("sklearn", sklearn, _SKLEARN_KEYS)):
        strange = sorted(key for key, value in flavor.items() if key not in known and value)
        _demand(not strange, f"its flavor {name} sets {', '.join(map(str, strange))[:100]}")
    return dict(flavors)


def _demand(fine: Any, reason: str) -> None:
    if not fine:
        raise NotPlainError(reason)

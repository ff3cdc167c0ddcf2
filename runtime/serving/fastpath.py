"""The short way from JSON rows to predictions, for row-wise models with a plain signature.

pyfunc's schema enforcement and a DataFrame per request cost more than most models. Rows whose values have exactly the
JSON type of their column need neither: their frame can be made at once, for a whole batch. Each shortcut is checked
when the model is loaded: our frame must equal the enforced one, predictions from a bare array must equal those from the
frame bit for bit. What fails the check goes the longer way; what is not plain goes through pyfunc as it is.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, Callable, NamedTuple

from . import rowwise
from .log import log

Rows = "list[list[Any]]"

_TYPES: dict[str, tuple[str, frozenset[type]]] = {
    "double": ("float64", frozenset({float, int})),
    "float": ("float32", frozenset({float, int})),
    "long": ("int64", frozenset({int})),
    "string": ("str", frozenset({str})),
    "boolean": ("bool", frozenset({bool})),
}
_SAMPLES: dict[str, tuple[Any, ...]] = {
    "double": (0.25, -3.5, 2.0),
    "float": (0.25, -3.5, 2.0),
    "long": (1, -4, 0),
    "string": ("a", "Bc", ""),
    "boolean": (True, False, True),
}


class Layout(NamedTuple):
    """What rows of the model look like. `names` is None for an unnamed tensor."""

    names: list[str] | None
    width: int
    allowed: tuple[frozenset[type], ...]
    dtypes: tuple[str, ...]
    same: frozenset[type] | None  # all columns allow the same types
    samples: list[list[Any]]


def layout_of(schema: Any) -> Layout | None:
    """The layout when the signature is plain: required scalar columns, or one float matrix."""
    if schema is None:
        return None
    if schema.is_tensor_spec():
        return _matrix(schema)
    kinds, names = [], schema.input_names()
    for spec in schema.inputs:
        kind = getattr(spec.type, "name", "")
        if kind not in _TYPES or not getattr(spec, "required", True):
            return None
        kinds.append(kind)
    if not schema.has_input_names() or len(set(names)) != len(names) or not all(isinstance(n, str) for n in names):
        return None
    allowed = tuple(_TYPES[kind][1] for kind in kinds)
    return Layout(
        names=list(names),
        width=len(names),
        allowed=allowed,
        dtypes=tuple(_TYPES[kind][0] for kind in kinds),
        same=allowed[0] if len(set(allowed)) == 1 else None,
        samples=[[_SAMPLES[kind][number] for kind in kinds] for number in range(3)],
    )


def _matrix(schema: Any) -> Layout | None:
    spec = schema.inputs[0]
    plain = len(schema.inputs) == 1 and not schema.has_input_names() and len(spec.shape) == 2  # noqa: PLR2004
    if not plain or spec.shape[0] != -1 or spec.shape[1] < 1 or spec.type.name not in {"float64", "float32"}:
        return None
    width, allowed = spec.shape[1], _TYPES["double"][1]
    samples = [[float((7 * row + 3 * column) % 5) - 1.5 for column in range(width)] for row in range(3)]
    return Layout(None, width, (allowed,) * width, (spec.type.name,) * width, allowed, samples)


def rows_in(layout: Layout, doc: dict[str, Any]) -> tuple[list[list[Any]], bool] | None:
    """The rows of a document, and whether its answer is bare; None when any of it is not plain."""
    if len(doc) != 1:
        return None
    key, value = next(iter(doc.items()))
    bare = key == "input_data"
    if layout.names is None:
        rows = value if key in {"input_data", "inputs", "instances"} else None
    elif isinstance(value, dict) and (bare or key == "dataframe_split"):
        rows = _split_rows(layout, value, bare)
    elif isinstance(value, list) and (bare or key == "dataframe_records"):
        rows = _listed_rows(layout, value, bare)
    else:
        rows = None
    return (rows, bare) if rows is not None and _plain(layout, rows) else None


def _split_rows(layout: Layout, value: dict[str, Any], bare: bool) -> Any:
    columns, rows = value.get("columns"), value.get("data")
    if columns != layout.names and not (bare and columns is None):
        return None
    known = len(value) - ("columns" in value) - ("data" in value)
    if known:
        index = value.get("index")
        if known > 1 or not isinstance(index, list) or not isinstance(rows, list) or len(index) != len(rows):
            return None
    return rows


def _listed_rows(layout: Layout, value: list[Any], bare: bool) -> Any:
    if value and isinstance(value[0], dict):
        names = layout.names or []
        try:
            return [[row[name] for name in names] if len(row) == len(names) else None for row in value]
        except (KeyError, TypeError):
            return None
    return value if bare else None


def _plain(layout: Layout, rows: Any) -> bool:
    if type(rows) is not list or not rows:
        return False
    width, same = layout.width, layout.same
    for row in rows:
        if type(row) is not list or len(row) != width:
            return False
        if same is not None:
            if not same.issuperset(map(type, row)):
                return False
        elif any(type(item) not in allowed for item, allowed in zip(row, layout.allowed)):
            return False
    return True


def numbers(layout: Layout) -> Callable[[list[list[Any]]], Any]:
    """From plain rows to the array that scikit-learn makes of their frame; for layouts without strings.

    check_array takes the common type of a frame's columns, and floats for booleans. A value still goes through its own
    column's type, so that an integer too large for it raises here too.
    """
    import numpy as np

    kinds = ["float64" if kind == "bool" else kind for kind in layout.dtypes]
    common = np.result_type(*set(kinds))
    if len(set(kinds)) == 1:
        return lambda rows: np.array(rows, dtype=common)

    def mixed(rows: list[list[Any]]) -> Any:
        found = np.empty((len(rows), layout.width), dtype=common)
        for number, values in enumerate(zip(*rows)):
            found[:, number] = np.array(values, dtype=kinds[number])
        return found

    return mixed


class FastPath:
    """Predicts many rows at once by the shortest way that was proved equal."""

    def __init__(self, layout: Layout, model: Any) -> None:
        import numpy as np
        import pandas as pd

        self._np, self._pd = np, pd
        self.layout = layout
        self._names = None if layout.names is None else pd.Index(layout.names)
        self._one_dtype = layout.dtypes[0] if len(set(layout.dtypes)) == 1 and layout.dtypes[0] != "str" else None
        self.way, self._call = self._choose(model)
        log.info("Rows of this model are batched; the way from JSON to predict: %s", self.way)

    def predict(self, rows: list[list[Any]]) -> Any:
        return self._call(rows)

    def array(self, rows: list[list[Any]]) -> Any:
        return self._np.array(rows, dtype=self._one_dtype)

    def frame(self, rows: list[list[Any]]) -> Any:
        if self._names is None:
            return self.array(rows)
        if self._one_dtype is not None:
            return self._pd.DataFrame(self.array(rows), columns=self._names, copy=False)
        columns = {}
        for name, dtype, values in zip(self._names, self.layout.dtypes, zip(*rows)):
            columns[name] = list(values) if dtype == "str" else self._np.array(values, dtype=dtype)
        return self._pd.DataFrame(columns)

    def _choose(self, model: Any) -> tuple[str, Callable[[Any], Any]]:
        direct = getattr(model, "_predict_fn", None)
        if direct is None or not self._equals_enforced(model):
            return "frame, enforced", lambda rows: model.predict(self.frame(rows))
        bare = self._from_array(model, direct)
        if bare is not None:
            return "array", lambda rows: bare(self.array(rows))
        return "frame", lambda rows: direct(self.frame(rows))

    def _equals_enforced(self, model: Any) -> bool:
        """Whether enforcement would leave our frame as it is; then it need not be asked each time."""
        from .mlflow_input import Reader

        try:
            from mlflow.models.utils import _enforce_schema

            rows = self.layout.samples
            key = "dataframe_split" if self.layout.names else "inputs"
            doc = {key: {"columns": self.layout.names, "data": rows} if self.layout.names else rows}
            enforced = _enforce_schema(Reader(model.metadata).read(doc).data, model.metadata.get_input_schema())
            ours = self.frame(rows)
            if self._names is None:
                return bool(enforced.dtype == ours.dtype and self._np.array_equal(enforced, ours))
            self._pd.testing.assert_frame_equal(enforced, ours, check_exact=True)
        except Exception as exc:  # noqa: BLE001 -- any doubt means the longer way
            log.info("Schema enforcement stays on for batches: %s", str(exc).splitlines()[:1])
            return False
        return True

    def _from_array(self, model: Any, direct: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
        """For scikit-learn and float64 columns: predict without feature names, which cost more than a small model."""
        if self._names is None or self._one_dtype != "float64" or rowwise.loader(model) != "mlflow.sklearn":
            return None
        try:
            bare = getattr(without_names(rowwise.raw_model(model)), rowwise.predict_function(model))
            width = self.layout.width
            noise = self._np.random.default_rng(7).normal(size=(5, width))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                for rows in (noise, noise * 100, noise[:1], self._np.zeros((2, width)), self._np.ones((2, width))):
                    named = direct(self.frame(rows.tolist()))
                    if type(named) is not self._np.ndarray or not _identical(named, bare(rows)):
                        return None
        except Exception as exc:  # noqa: BLE001 -- any doubt means the longer way
            log.debug("Predictions from bare arrays are not used: %s", exc)
            return None
        return bare  # type: ignore[no-any-return]


def _identical(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes())


def without_names(estimator: Any) -> Any:
    """A shallow copy that does not remember feature names, so it neither checks them nor warns."""
    bare = copy.copy(estimator)
    if type(bare).__name__ == "Pipeline":
        bare.steps = [
            (name, step if isinstance(step, str) or step is None else without_names(step)) for name, step in bare.steps
        ]
    elif "feature_names_in_" in vars(bare):
        del bare.feature_names_in_
    return bare

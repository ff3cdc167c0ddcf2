"""Request bodies of MLflow models: Azure's `input_data` and MLflow's own keys, as the data that pyfunc wants."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from . import jsonio
from .web import BadInputError, Request

MLFLOW_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ASK = (
    "The body must be a JSON object with exactly one of the keys input_data, dataframe_split, dataframe_records, "
    "instances, inputs."
)
_CSV = "text/csv"
# curl -d says form-urlencoded when nobody says otherwise; what counts is that the body is JSON, as on Azure.
_JSON_TYPES = frozenset({"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"})


class Parsed(NamedTuple):
    data: Any
    params: dict[str, Any] | None
    bare: bool  # Azure's callers get the list itself, MLflow's get {"predictions": ...}


def is_csv(request: Request) -> bool:
    """Whether the body is CSV; BadInputError 415 when it is neither that nor JSON."""
    kind = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if kind == _CSV:
        return True
    if kind in _JSON_TYPES or kind.endswith("+json"):
        return False
    raise BadInputError(f"The content type {kind!r} is not supported; send application/json or text/csv.", 415)


def document(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; BadInputError otherwise."""
    try:
        found = jsonio.loads(body)
    except (ValueError, RecursionError) as exc:
        if not body:
            raise BadInputError(f"The body is empty. {_ASK}") from None
        raise BadInputError(f"The body could not be decoded as JSON: {exc}") from None
    if not isinstance(found, dict):
        raise BadInputError(f"{_ASK} Received a JSON {type(found).__name__}.")
    return found


def column_types(schema: Any) -> dict[str, Any] | None:
    """What a CSV file's columns are by the model's signature; None when it names none."""
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    return dict(zip(schema.input_names(), schema.pandas_types()))


class Reader:
    """Turns documents into model input, by the model's signature."""

    def __init__(self, metadata: Any) -> None:
        from mlflow.utils import proto_json_utils

        self._mlflow: Any = proto_json_utils
        self._schema = metadata.get_input_schema()
        get_params = getattr(metadata, "get_params_schema", None)
        self._params_schema = get_params() if get_params else None
        typed = getattr(metadata, "_is_signature_from_type_hint", None)
        self._raw = bool(typed and typed())

    def read(self, doc: dict[str, Any]) -> Parsed:
        """Model input from a document; BadInputError or an MlflowException that says what is wrong."""
        params = doc.get("params")
        if params is not None and not isinstance(params, dict):
            raise BadInputError("params must be a JSON object.")
        keys = [key for key in ("input_data", *MLFLOW_KEYS) if key in doc]
        if not keys and _is_llm(doc):
            return self._llm(doc)
        if len(keys) != 1:
            raise BadInputError(f"{_ASK} Received {sorted(doc)[:20]}.")
        key = keys[0]
        if self._raw:
            return Parsed(doc[key], params, key == "input_data")
        if key == "input_data":
            return Parsed(self._azure(doc[key]), params, bare=True)
        if key.startswith("dataframe_"):
            data = self._frame(doc[key], key[len("dataframe_") :])
        else:
            data = self._mlflow.parse_tf_serving_input({key: doc[key]}, schema=self._schema)
        return Parsed(data, params, bare=False)

    def csv(self, body: bytes) -> Parsed:
        import pandas as pd

        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise BadInputError(f"The body cannot be decoded as UTF-8: {exc}") from None
        try:
            return Parsed(pd.read_csv(io.StringIO(text), dtype=column_types(self._schema)), None, bare=False)
        except Exception as exc:  # noqa: BLE001 -- pandas raises many kinds
            raise BadInputError(f"The body is not CSV that fits the model's signature: {exc}") from None

    def _frame(self, value: Any, orient: str) -> Any:
        return self._mlflow.dataframe_from_parsed_json(value, pandas_orient=orient, schema=self._schema)

    def _tensors(self, value: Any) -> Any:
        return self._mlflow.parse_tf_serving_input({"inputs": value}, schema=self._schema)

    def _azure(self, value: Any) -> Any:
        columns = self._schema is not None and not self._schema.is_tensor_spec()
        if isinstance(value, dict):
            named_tensors = self._schema is not None and not columns and self._schema.has_input_names()
            if "data" in value and not (named_tensors and "data" in self._schema.input_names()):
                return self._frame(self._with_names(value) if columns else value, "split")
            scalars = not any(isinstance(item, (list, dict)) for item in value.values())
            return self._frame([value], "records") if columns and scalars and value else self._tensors(value)
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            return self._frame(value, "records")
        if isinstance(value, list) and columns:
            return self._frame(self._with_names({"data": value}), "split")
        if value is None:
            raise BadInputError("input_data is null; send rows.")
        return self._tensors(value)

    def _with_names(self, split: dict[str, Any]) -> dict[str, Any]:
        """Rows without column names get the signature's, when they are as wide as it."""
        if split.get("columns") is not None or not self._schema.has_input_names():
            return split
        names = self._schema.input_names()
        rows = split["data"]
        if not isinstance(rows, list):
            raise BadInputError("data must be a list of rows.")
        for number, row in enumerate(rows):
            width = len(row) if isinstance(row, list) else 1
            if width != len(names):
                raise BadInputError(
                    f"Row {number} has {width} values; the model takes {len(names)}, in this order: "
                    f"{', '.join(map(str, names[:50]))}."
                )
        return {**split, "columns": names}

    def _llm(self, doc: dict[str, Any]) -> Parsed:
        """Chat-style bodies go to the model as they are, but for what its parameter schema claims."""
        known = {spec.name for spec in self._params_schema.params} if self._params_schema else set()
        params = {key: value for key, value in doc.items() if key in known}
        return Parsed({key: value for key, value in doc.items() if key not in known}, params or None, bare=True)


def _is_llm(doc: dict[str, Any]) -> bool:
    try:
        from mlflow.pyfunc.utils.serving_data_parser import is_unified_llm_input
    except ImportError:
        return False
    return bool(is_unified_llm_input(doc))

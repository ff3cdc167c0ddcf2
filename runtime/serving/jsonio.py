"""JSON out: what models return, numpy, pandas, dates and NaN included."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import decimal
import importlib
import json
import math
from collections.abc import Mapping
from typing import Any

orjson: Any = None
with contextlib.suppress(ImportError):  # used only when the model's own environment has it
    orjson = importlib.import_module("orjson")


def plain(value: Any) -> Any:  # noqa: PLR0911 -- one line for each kind
    """One step towards JSON for a value that the encoder does not know; TypeError when there is none."""
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        return _from_numpy(value)
    if module == "pandas":
        return _from_pandas(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    for method in ("model_dump", "toarray", "tolist"):
        if callable(getattr(value, method, None)) and not isinstance(value, type):
            return getattr(value, method)()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _from_numpy(value: Any) -> Any:
    if getattr(value, "dtype", None) is not None and value.dtype.kind in "mM":
        # tolist() of nanoseconds gives bare integers; the ISO text of numpy and None for NaT say what is meant.
        if getattr(value, "ndim", 0):
            return [_from_numpy(item) for item in value]
        text = str(value)
        return None if text == "NaT" else text
    if hasattr(value, "tolist"):
        found = value.tolist()
        if found is not value:
            return found
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _from_pandas(value: Any) -> Any:
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict(orient="records")
    if hasattr(value, "to_frame") and hasattr(value, "to_dict"):
        return value.to_frame().to_dict(orient="records")  # a Series: MLflow's server answers records too
    if hasattr(value, "isoformat"):
        text = value.isoformat()
        return None if text == "NaT" else text
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


_strict = json.JSONEncoder(allow_nan=False, default=plain).encode


def dumps(value: Any) -> bytes:
    """JSON with null for what JSON cannot say (NaN, infinity); TypeError when `value` holds something foreign."""
    if orjson is not None:
        try:
            return bytes(orjson.dumps(value, default=plain))
        except TypeError:  # odd keys, integers beyond 64 bits: the slow way knows them
            pass
    try:
        return _strict(value).encode()
    except (ValueError, TypeError):
        return _strict(_clean(value)).encode()


def _clean(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_key(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return _clean(plain(value))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, (bool, int, float)):
        return str(json.dumps(key))
    if hasattr(key, "isoformat"):
        return str(key.isoformat())
    return str(key)


def loads(body: bytes) -> Any:
    """Parse a JSON body; ValueError or RecursionError for what is none. NaN is read, as Python clients write it."""
    if orjson is not None:
        try:
            return orjson.loads(body)
        except ValueError:
            pass
    return json.loads(body)

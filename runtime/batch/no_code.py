"""MLflow models without code: predict once for each file, by the kind of the file."""

from __future__ import annotations

import csv
import io
import os
import traceback
from pathlib import Path
from typing import Any

from ..serving import pyfunc
from ..serving.failures import StartError
from ..serving.mlflow_input import column_types
from .results import ScoreError

TABLES = frozenset({".csv", ".parquet", ".pqt"})
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif"})
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""How Pillow calls images of so many channels."""
_IMAGE_AXES = 3  # height, width, channels


def load(path: Path) -> Model:
    """Load the model with MLflow; StartError(ModelLoadFailed) says why it cannot be."""
    if not (path / "MLmodel").is_file():
        raise StartError(
            "ModelLoadFailed",
            "The model folder has no MLmodel file; register a model of the type mlflow_model, or set a scoring script.",
            f"{path / 'MLmodel'}: no such file",
        )
    return pyfunc.load_model(path, Model)


class Model:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._schema = model.metadata.get_input_schema()

    def score(self, files: list[str], *, wants_text: bool) -> tuple[int, str]:
        """The number of predictions, and their rows in the order of the files."""
        for file in files:
            _check_kind(file)
        lines = io.StringIO()
        write = csv.writer(lines, lineterminator="\n").writerow
        total = 0
        for file in files:
            name = os.path.basename(file)
            if _suffix(file) in TABLES:
                found = _rows(self._predict(self._table(file), name))
                if wants_text:
                    for number, value in enumerate(found):
                        write((number, _cell(value), name))
                total += len(found)
            else:
                write((_cell(_alone(self._predict(self._image(file), name))), name))
                total += 1
        return total, lines.getvalue() if wants_text else ""

    def _predict(self, data: Any, name: str) -> Any:
        try:
            return self._model.predict(data)
        except Exception as exc:
            if _is_enforcement(exc):
                raise _mismatch(name, pyfunc.input_text(exc)) from exc
            raise

    def _table(self, file: str) -> Any:
        import pandas as pd

        if _suffix(file) != ".csv":
            return pd.read_parquet(file)
        types = column_types(self._schema) or {}
        # read_csv does not take times for a type.
        times = [name for name, kind in types.items() if getattr(kind, "kind", "") == "M"]
        try:
            frame = pd.read_csv(file, dtype={name: kind for name, kind in types.items() if name not in times})
            for name in times:
                if name in frame.columns:
                    frame[name] = pd.to_datetime(frame[name])
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
            raise  # a broken file, not one of wrong types
        except (ValueError, TypeError) as exc:
            raise _mismatch(os.path.basename(file), str(exc)) from exc
        return frame

    def _image(self, file: str) -> Any:
        """The pixels: bytes of height x width x channels, or what the signature's tensor asks for."""
        import numpy as np

        image = _opened(file)
        schema = self._schema
        if schema is None or not schema.is_tensor_spec() or len(schema.inputs) != 1:
            return np.asarray(_converted(image, None), dtype=np.uint8)
        spec = schema.inputs[0]
        shape = tuple(spec.shape)
        channels = shape[-1] if len(shape) >= _IMAGE_AXES else None
        pixels = np.asarray(_converted(image, _MODES.get(channels or 0)))
        try:
            tensor = pixels.astype(spec.type).reshape(shape)
        except (TypeError, ValueError) as exc:
            raise _mismatch(os.path.basename(file), f"{exc}; the model takes {spec.type} of the shape {shape}") from exc
        return {spec.name: tensor} if schema.has_input_names() else tensor


def _opened(file: str) -> Any:
    try:
        from PIL import Image
    except ImportError as exc:
        raise ScoreError(
            "RunFailed", "Images need Pillow; add pillow to the environment's packages.", f"{type(exc).__name__}: {exc}"
        ) from exc
    with Image.open(file) as image:
        image.load()
        return image


def _converted(image: Any, mode: str | None) -> Any:
    if mode is not None:
        return image if image.mode == mode else image.convert(mode)
    # The bytes of a palette or of single bits are no colours.
    return image if image.mode in _MODES.values() else image.convert("L" if image.mode == "1" else "RGB")


def _check_kind(file: str) -> None:
    suffix = _suffix(file)
    if suffix not in TABLES and suffix not in IMAGES:
        raise ScoreError("UnsupportedFile", f"File type '{suffix[1:]}' is not supported", os.path.basename(file))


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _mismatch(name: str, text: str) -> ScoreError:
    text = text.strip()[:1000]
    return ScoreError("SignatureMismatch", f"The file {name} does not fit the model's signature: {text}", name)


def _is_enforcement(exc: Exception) -> bool:
    """Whether MLflow found that the data break the signature; a model may raise MLflow's exceptions itself."""
    if type(exc).__name__ != "MlflowException":
        return False
    if str(exc).startswith("Failed to enforce schema"):
        return True
    return any(frame.name.startswith("_enforce_") for frame in traceback.extract_tb(exc.__traceback__))


def _rows(result: Any) -> list[Any]:
    """The predictions of a table, one for each of its rows."""
    if hasattr(result, "itertuples"):
        rows = list(result.itertuples(index=False, name=None))
        return [row[0] for row in rows] if len(result.columns) == 1 else [list(row) for row in rows]
    if hasattr(result, "toarray"):  # a sparse matrix
        result = result.toarray()
    if hasattr(result, "tolist"):
        result = result.tolist()
    if isinstance(result, dict) and result:
        columns = [_rows(value) for value in result.values()]
        if len({len(column) for column in columns}) == 1:
            return [dict(zip(result, row)) for row in zip(*columns)]
    return list(result) if isinstance(result, (list, tuple)) else [result]


def _alone(result: Any) -> Any:
    """The prediction of one image, taken out of the batch of one that a model may answer with."""
    found = _rows(result)
    return found[0] if len(found) == 1 else found


def _cell(value: Any) -> Any:
    return _plain(value) if isinstance(value, (str, int, float, type(None))) else str(_plain(value))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value

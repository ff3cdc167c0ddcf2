"""What the files of a model say of themselves: first and last bytes only, nothing is loaded."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 2000
MOST_S = 3.0
PIECE = 256 * 1024  # bytes read at each end of a pickle
POINTER_MOST = 1024
LONGEST_VERSION = 40
VERSION = re.compile(r"\d+\.\d+[\w.+]*", re.ASCII)
POINTER = b"version https://git-lfs.github.com/spec/v1"
PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".sav"})
WEIGHTS = PICKLES | frozenset(
    """
    .onnx .pt .pth .ckpt .bin .h5 .hdf5 .keras .safetensors .gguf .pb .tflite .npz .npy .model .cbm .ubj .bst .mlmodel
    .engine .plan .xml .cloudpickle .skops .parquet
    """.split()
)
# the key, then what memoizes it, then a short or a long text: three protocols of pickle
SKLEARN = re.compile(rb"_sklearn_version(?:\x94|q.|r.{4})?(?:\x8c(?P<short>.)|X(?P<long>.{4}))", re.DOTALL)


@dataclass(frozen=True)
class Pointers:
    """Files that git-lfs left in place of the real ones: those a model is loaded from, and others."""

    weights: tuple[str, ...]
    others: tuple[str, ...]


def files_of(root: Path) -> Iterator[tuple[str, int]]:
    """(path below `root`, bytes), in order; no more than can be looked at quickly."""
    deadline, count = time.monotonic() + MOST_S, 0
    if root.is_file():
        yield root.name, root.stat().st_size
        return
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MOST_FILES or time.monotonic() > deadline:
                return
            path = Path(folder, name)
            yield path.relative_to(root).as_posix(), path.stat().st_size


def pointers(root: Path) -> Pointers:
    """What git-lfs left behind below `root`."""
    weights: list[str] = []
    others: list[str] = []
    for name, size in files_of(root):
        if len(POINTER) <= size <= POINTER_MOST and _head(_at(root, name)).startswith(POINTER):
            (weights if Path(name).suffix.lower() in WEIGHTS else others).append(name)
    return Pointers(tuple(weights), tuple(others))


def _at(root: Path, name: str) -> Path:
    return root if root.is_file() else root / name


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(len(POINTER))


def sklearn_versions(root: Path) -> dict[str, str]:
    """Path → the scikit-learn that wrote it, for pickles that say so where we look."""
    found = {}
    for name, size in files_of(root):
        if Path(name).suffix.lower() in PICKLES and (version := _written_by(_ends(_at(root, name), size))):
            found[name] = version
    return found


def _written_by(pickled: bytes) -> str:
    match = SKLEARN.search(pickled)
    if match is None:
        return ""
    length = int.from_bytes(match["short"] or match["long"], "little")
    text = pickled[match.end() : match.end() + min(length, LONGEST_VERSION)].decode("ascii", "replace")
    return text if VERSION.fullmatch(text) else ""


def _ends(file: Path, size: int) -> bytes:
    with file.open("rb") as stream:
        first = stream.read(PIECE)
        if size > PIECE:
            stream.seek(max(PIECE, size - PIECE))
            first += stream.read(PIECE)
    return first

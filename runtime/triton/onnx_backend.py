"""A Python-based Triton backend that answers to the name `onnxruntime`, on CPU.

Triton finds it for a model with `model.onnx` or `platform: "onnxruntime_onnx"`. What a configuration leaves out is read
from the model, as Triton's own ONNX backend does (its "auto-complete").
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np  # type: ignore[import-not-found, unused-ignore]
import onnxruntime  # type: ignore[import-not-found, unused-ignore]
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found, unused-ignore]

DEFAULT_FILE = "model.onnx"
DEFAULT_BATCH = 4
TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int8)": "TYPE_INT8",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(bool)": "TYPE_BOOL",
    "tensor(string)": "TYPE_STRING",
}


def open_model(path: str | Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("PORTWAY_ONNX_THREADS") or 1)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def model_file() -> str:
    """The file that auto-completion is about: nobody passes it, but the stub's own command line names it."""
    return Path("/proc/self/cmdline").read_bytes().split(b"\0")[1].decode()


def dims_of(tensor: Any) -> list[int]:
    """Triton's dimensions: -1 where the model has a name or nothing."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape]


def describe(tensor: Any, *, batched: bool) -> dict[str, Any]:
    dims = dims_of(tensor)[1:] if batched else dims_of(tensor)
    described: dict[str, Any] = {"name": tensor.name, "data_type": TYPES[tensor.type], "dims": dims or [1]}
    if not dims:  # Triton has no empty shape: one value per row is told by a reshape
        described["reshape"] = {"shape": []}
    return described


class TritonPythonModel:
    """What Triton's Python backend calls."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        told = config.as_dict()
        session = open_model(_default_file(told, Path(model_file())))
        tensors = [*session.get_inputs(), *session.get_outputs()]
        silent = not told["input"] and not told["output"] and told["max_batch_size"] == 0
        if silent and all(tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors):
            config.set_max_batch_size(DEFAULT_BATCH)
            config.set_dynamic_batching()
        batched = config.as_dict()["max_batch_size"] > 0
        known = {each["name"] for each in told["input"]} | {each["name"] for each in told["output"]}
        for tensor in session.get_inputs():
            if tensor.name not in known:
                config.add_input(describe(tensor, batched=batched))
        if not told["output"]:
            for tensor in session.get_outputs():
                described = describe(tensor, batched=batched)
                if (
                    "reshape" not in described
                ):  # auto-completion cannot say it; the output then is asked for by name only
                    config.add_output(described)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        import json

        told = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = open_model(folder / (told.get("default_model_filename") or DEFAULT_FILE))
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.ranks = {each.name: len(each.shape) for each in self.session.get_inputs()}
        self.outputs = [each.name for each in self.session.get_outputs()]
        self.batched = told["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        fed = [self._feed(request) for request in requests]
        if self.batched and len(requests) > 1 and self._alike(fed) and self._same_outputs(requests):
            return self._together(requests, fed)
        return [self._alone(request, inputs) for request, inputs in zip(requests, fed)]

    def _feed(self, request: Any) -> dict[str, Any]:
        found = {}
        for name in self.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                values = tensor.as_numpy()
                found[name] = values.astype(str).astype(object) if values.dtype == object else values
        return found

    @staticmethod
    def _alike(fed: list[dict[str, Any]]) -> bool:
        shapes = {tuple((name, values.shape[1:]) for name, values in sorted(each.items())) for each in fed}
        return len(shapes) == 1

    @staticmethod
    def _same_outputs(requests: list[Any]) -> bool:
        return len({tuple(request.requested_output_names()) for request in requests}) == 1

    def _together(self, requests: list[Any], fed: list[dict[str, Any]]) -> list[Any]:
        rows = [len(next(iter(each.values()))) for each in fed]
        joined = {name: np.concatenate([each[name] for each in fed]) for name in fed[0]}
        try:
            names, values = self._run(requests[0], joined)
        except Exception:  # noqa: BLE001 -- one bad request among them must not fail the others
            return [self._alone(request, inputs) for request, inputs in zip(requests, fed)]
        answers, start = [], 0
        for count in rows:
            answers.append(self._response(names, [each[start : start + count] for each in values]))
            start += count
        return answers

    def _alone(self, request: Any, inputs: dict[str, Any]) -> Any:
        try:
            return self._response(*self._run(request, inputs))
        except Exception as error:  # noqa: BLE001 -- whatever the model says is its answer to this request
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _run(self, request: Any, inputs: dict[str, Any]) -> tuple[list[str], list[Any]]:
        names = [name for name in request.requested_output_names() if name in self.outputs] or self.outputs
        return names, self.session.run(names, inputs)

    @staticmethod
    def _response(names: list[str], values: list[Any]) -> Any:
        tensors = [
            pb_utils.Tensor(name, np.asarray(each, dtype=object) if each.dtype.kind in "UO" else each)
            for name, each in zip(names, values)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _default_file(told: dict[str, Any], found: Path) -> Path:
    """The model's file; by its version, Triton's stub names that one or another in the model's folder."""
    name = told.get("default_model_filename") or DEFAULT_FILE
    if found.suffix == ".onnx" or found.name == name:
        return found
    versions = sorted((each for each in found.parent.iterdir() if each.name.isdigit()), key=lambda each: int(each.name))
    return versions[-1] / name

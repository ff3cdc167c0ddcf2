"""What NVIDIA's own client sees, as JSON on stdout; runs in an environment of its own, whose pins are not ours.

triton_client.py model <folder>          write a repository with two ONNX models
triton_client.py http|grpc <host:port> <prefix> <key> [ca.pem]
"""

import json
import ssl
import sys
from pathlib import Path

import numpy as np

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def half_model(path, rows):
    """An ONNX model that halves [rows, 3] floats."""
    import onnx
    from onnx import TensorProto
    from onnx import helper as make

    constant = make.make_tensor("c", TensorProto.FLOAT, [1], [0.5])
    inputs = [make.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])]
    outputs = [make.make_tensor_value_info("half", TensorProto.FLOAT, [rows, 3])]
    graph = make.make_graph([make.make_node("Mul", ["x", "c"], ["half"])], "g", inputs, outputs, [constant])
    path.parent.mkdir(parents=True)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)


CONFIG = """name: "fixed"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [{name: "x" data_type: TYPE_FP32 dims: [2, 3]}]
output [{name: "half" data_type: TYPE_FP32 dims: [2, 3]}]
instance_group [{count: 1 kind: KIND_CPU}]
"""


def write_repository(folder):
    half_model(folder / "half" / "1" / "model.onnx", "rows")
    half_model(folder / "fixed" / "1" / "model.onnx", 2)
    (folder / "fixed" / "config.pbtxt").write_text(CONFIG)


def refusal(call):
    from tritonclient.utils import InferenceServerException

    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"  # its own text fails on an error that is an object
    return ""


def over_http(address, prefix, key, ca=None):
    from tritonclient import http

    context = {"ssl": True, "ssl_context_factory": lambda: ssl.create_default_context(cafile=ca)} if ca else {}
    client = http.InferenceServerClient(address + prefix, **context)
    headers = {"Authorization": f"Bearer {key}"}

    def ask(model, **more):
        tensor = http.InferInput("x", [2, 3], "FP32")
        tensor.set_data_from_numpy(ROWS)  # binary is its default
        return client.infer(model, [tensor], **more)

    return {
        "live": client.is_server_live(headers=headers),
        "ready": client.is_server_ready(headers=headers) and client.is_model_ready("half", headers=headers),
        "name": client.get_server_metadata(headers=headers)["name"],
        "inputs": client.get_model_metadata("half", headers=headers)["inputs"],
        "batch": client.get_model_config("half", headers=headers)["max_batch_size"],
        "index": sorted(each["name"] for each in client.get_model_repository_index(headers=headers)),
        "answers": [ask(model, headers=headers).as_numpy("half").tolist() for model in ("half", "fixed")],
        "counted": int(client.get_inference_statistics("half", headers=headers)["model_stats"][0]["inference_count"]),
        "unknown": refusal(lambda: ask("nowhere", headers=headers)),
        "no_key": refusal(lambda: ask("half")),
    }


def over_grpc(address, endpoint, key, ca=None):
    from tritonclient import grpc

    secure = {"ssl": True, "root_certificates": ca} if ca else {}
    client = grpc.InferenceServerClient(address, **secure)
    headers = {"authorization": f"Bearer {key}", "azureml-endpoint": endpoint}

    def ask(model, **more):
        tensor = grpc.InferInput("x", [2, 3], "FP32")
        tensor.set_data_from_numpy(ROWS)
        return client.infer(model, [tensor], client_timeout=20, **more)

    metadata = client.get_model_metadata("half", headers=headers).inputs[0]
    return {
        "live": client.is_server_live(headers=headers),
        "ready": client.is_server_ready(headers=headers) and client.is_model_ready("half", headers=headers),
        "name": client.get_server_metadata(headers=headers).name,
        "inputs": [{"name": metadata.name, "datatype": metadata.datatype, "shape": list(metadata.shape)}],
        "batch": client.get_model_config("half", headers=headers).config.max_batch_size,
        "index": sorted(each.name for each in client.get_model_repository_index(headers=headers).models),
        "answers": [ask(model, headers=headers).as_numpy("half").tolist() for model in ("half", "fixed")],
        "counted": client.get_inference_statistics("half", headers=headers).model_stats[0].inference_count,
        "unknown": refusal(lambda: ask("nowhere", headers=headers)),
        "no_key": refusal(lambda: ask("half", headers={"azureml-endpoint": endpoint})),
    }


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    if kind == "model":
        write_repository(Path(given[0]))
    else:
        print(json.dumps({"http": over_http, "grpc": over_grpc}[kind](*given)))

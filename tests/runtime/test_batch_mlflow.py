"""Spec 7.3: MLflow models without code, file by file."""

from __future__ import annotations

import csv
import io
import sys
import warnings

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LinearRegression

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns about its own type hints while it is imported
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore")

FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.5, 0.25, 4.0]})


class Describe(mlflow.pyfunc.PythonModel):
    """Says what it was given."""

    def predict(self, context, model_input, params=None):
        if isinstance(model_input, dict):
            model_input = model_input["pixels"]
        return [f"{model_input.dtype} {model_input.shape} {float(model_input.max())}"]


class Shapes(mlflow.pyfunc.PythonModel):
    """Answers in the way its input names."""

    def predict(self, context, model_input, params=None):
        how, n = model_input["how"].iloc[0], len(model_input)
        return {
            "types": lambda: [str(kind.kind) for kind in model_input.dtypes],
            "frame": lambda: pd.DataFrame({"p": range(n), "q": ["x"] * n}),
            "column": lambda: pd.DataFrame({"p": range(n)}),
            "matrix": lambda: np.arange(2 * n).reshape(n, 2),
            "dicts": lambda: [{"label": np.int64(1), "scores": np.array([0.5, 0.5])}] * n,
            "columns": lambda: {"x": np.arange(n), "y": list("abcdefgh")[:n]},
            "text": lambda: ['say "hi", you\nthere'] * n,
            "raise": lambda: {}["nothing"],
            "exception": mlflow_exception,
        }[how]()


def mlflow_exception():
    from mlflow.exceptions import MlflowException

    raise MlflowException("the model's own")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("batch-mlflow")


def pyfunc(folder, name, model, signature=None):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        mlflow.pyfunc.save_model(folder / name, python_model=model, signature=signature, pip_requirements=[])
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return folder / name


@pytest.fixture(scope="module")
def linear(nodes, folder):
    model = LinearRegression().fit(FRAME, FRAME["a"] * 2 + FRAME["b"])
    signature = infer_signature(FRAME, model.predict(FRAME))
    path = folder / "linear"
    mlflow.sklearn.save_model(model, path, signature=signature, pip_requirements=[], serialization_format="cloudpickle")
    with nodes.mlflow(path).ready().client() as client:
        assert client.first.get("ready"), client.first
        yield client


@pytest.fixture(scope="module")
def shapes(nodes, folder):
    with nodes.mlflow(pyfunc(folder, "shapes", Shapes())).ready().client() as client:
        yield client


def rows(answer):
    found, text = answer
    assert found["ok"], found
    assert found["rows"] == len(list(csv.reader(io.StringIO(text))))
    return list(csv.reader(io.StringIO(text)))


def write(path, text):
    path.write_text(text)
    return str(path)


def test_tables_in_the_order_of_the_files(linear, folder):
    FRAME.to_csv(folder / "z é.csv", index=False)
    FRAME.head(2).to_parquet(folder / "a.parquet")
    FRAME.tail(1).to_parquet(folder / "B.PQT")
    found = rows(linear.run(*(str(folder / name) for name in ("z é.csv", "a.parquet", "B.PQT"))))
    assert [(row[0], row[2]) for row in found] == [
        ("0", "z é.csv"),
        ("1", "z é.csv"),
        ("2", "z é.csv"),
        ("0", "a.parquet"),
        ("1", "a.parquet"),
        ("0", "B.PQT"),
    ]
    assert [float(row[1]) for row in found] == pytest.approx([2.5, 4.25, 10, 2.5, 4.25, 10])


def test_other_columns_and_other_order(linear, folder):
    file = write(folder / "extra.csv", "b,more,a\n0.5,x,1\n")
    assert float(rows(linear.run(file))[0][1]) == pytest.approx(2.5)


@pytest.mark.parametrize(("text", "word"), [("a,b\n1,two\n", "two"), ("a\n1\n", "b"), ("a,b\n1,2\n3,\n4,x\n", "x")])
def test_wrong_types_are_told(linear, folder, text, word):
    error = linear.run(write(folder / "wrong.csv", text))[0]["error"]
    assert error["code"] == "SignatureMismatch"
    assert "wrong.csv" in error["message"]
    assert word in error["message"]


def test_a_parquet_file_of_wrong_types(linear, folder):
    pd.DataFrame({"a": ["x"], "b": [1.0]}).to_parquet(folder / "wrong.parquet")
    assert linear.run(folder / "wrong.parquet")[0]["error"]["code"] == "SignatureMismatch"


@pytest.mark.parametrize(("name", "kind"), [("x.avro", "avro"), ("X.TXT", "txt"), ("none", "")])
def test_unknown_kinds(linear, folder, name, kind):
    error = linear.run(str(folder / "z.csv"), str(folder / name))[0]["error"]
    assert (error["code"], error["message"]) == ("UnsupportedFile", f"File type '{kind}' is not supported")


@pytest.mark.parametrize(
    ("name", "data"),
    [("empty.csv", b""), ("binary.csv", b"\xff\xfe\x00"), ("bad.parquet", b"abc"), ("bad.png", b"abc")],
)
def test_broken_files_may_be_tried_again(linear, folder, name, data):
    (folder / name).write_bytes(data)
    error = linear.run(folder / name)[0]["error"]
    assert error["code"] == "RunFailed", error
    assert linear.run(folder / "not there.csv")[0]["error"]["code"] == "RunFailed"


def test_types_come_from_the_signature(nodes, folder):
    schema = Schema(
        [ColSpec("string", "how"), ColSpec("string", "code"), ColSpec("long", "n"), ColSpec("datetime", "at")]
    )
    node = nodes.mlflow(pyfunc(folder, "typed", Shapes(), ModelSignature(schema))).ready()
    file = write(folder / "typed.csv", "how,code,n,at\ntypes,007,1,2024-01-02\n")
    bad = write(folder / "times.csv", "how,code,n,at\ntypes,007,1,noon\n")
    with node.client() as client:
        assert [row[1] for row in rows(client.run(file))] == ["O", "O", "i", "M"]
        assert client.run(bad)[0]["error"]["code"] == "SignatureMismatch"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("types", ["O"]),
        ("frame", ["[0, 'x']", "[1, 'x']"]),
        ("column", ["0", "1"]),
        ("matrix", ["[0, 1]", "[2, 3]"]),
        ("dicts", ["{'label': 1, 'scores': [0.5, 0.5]}"] * 2),
        ("columns", ["{'x': 0, 'y': 'a'}", "{'x': 1, 'y': 'b'}"]),
        ("text", ['say "hi", you\nthere'] * 2),
    ],
)
def test_kinds_of_predictions(shapes, folder, how, expected):
    found = rows(shapes.run(write(folder / f"{how}.csv", f"how\n{how}\n{how}\n")))
    assert [row[1] for row in found] == expected
    assert [row[0] for row in found] == [str(number) for number in range(len(expected))]


@pytest.mark.parametrize("how", ["raise", "exception"])
def test_what_the_model_raises_is_no_mismatch(shapes, folder, how):
    error = shapes.run(write(folder / "raise.csv", f"how\n{how}\n"))[0]["error"]
    assert error["code"] == "RunFailed"
    assert error["trace"]


def picture(folder, name, mode="RGB", size=(4, 3), colour=200):
    Image.new(mode, size, colour if mode in "L1P" else (colour,) * len(mode)).save(folder / name)
    return str(folder / name)


def test_images_are_bytes_without_a_signature(nodes, folder):
    node = nodes.mlflow(pyfunc(folder, "describe", Describe())).ready()
    files = [picture(folder, f"i.{kind}") for kind in ("png", "jpg", "JPEG", "tiff", "bmp", "gif")]
    files += [
        picture(folder, "g.png", "L"),
        picture(folder, "alpha.png", "RGBA"),
        picture(folder, "one.png", "1", colour=1),
    ]
    with node.client() as client:
        found = rows(client.run(*files))
    assert [row[1] for row in found] == [file.rpartition("/")[2] for file in files]
    shapes = [row[0].rpartition(" ")[0] for row in found]
    assert shapes == ["uint8 (3, 4, 3)"] * 5 + ["uint8 (3, 4, 3)", "uint8 (3, 4)", "uint8 (3, 4, 4)", "uint8 (3, 4)"]
    assert found[0][0].endswith("200.0")
    assert found[-1][0].endswith("255.0")


@pytest.mark.parametrize("name", [None, "pixels"])
def test_images_as_the_signature_asks(nodes, folder, name):
    schema = Schema([TensorSpec(np.dtype("float32"), (-1, 3, 4, 1), name)])
    node = nodes.mlflow(pyfunc(folder, f"tensor-{name}", Describe(), ModelSignature(schema))).ready()
    with node.client() as client:
        found = rows(client.run(picture(folder, "colour.png"), picture(folder, "grey.png", "L")))
        assert found == [["float32 (1, 3, 4, 1) 200.0", "colour.png"], ["float32 (1, 3, 4, 1) 200.0", "grey.png"]]
        error = client.run(picture(folder, "large.png", size=(7, 5)))[0]["error"]
        assert error["code"] == "SignatureMismatch"
        assert "(-1, 3, 4, 1)" in error["message"]


def test_summary_only(nodes, folder):
    node = nodes.mlflow(folder / "shapes", PORTWAY_BATCH_OUTPUT="summary_only").ready()
    with node.client() as client:
        answer, text = client.run(write(folder / "three.csv", "how\ncolumn\ncolumn\ncolumn\n"))
    assert (answer["rows"], answer["size"], text) == (3, 0, "")


def test_models_that_cannot_be_loaded(nodes, folder):
    (folder / "nothing").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "MLmodel").write_text("flavors: {python_function: {loader_module: nothing_like_it}}")
    for name in ("nothing", "broken"):
        with nodes.mlflow(folder / name).ready().client() as client:
            assert client.first["failed"]["code"] == "ModelLoadFailed"
            assert client.first["failed"]["evidence"]

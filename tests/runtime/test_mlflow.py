"""Spec 6.2: MLflow models without code."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
import warnings

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns about its own type hints while it is imported
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(3)
NAMES = ["a", "b", "c"]
FRAME = pd.DataFrame(RNG.normal(size=(60, 3)), columns=NAMES)
TARGET = FRAME["a"] * 2 - FRAME["b"] + 0.5


def save(folder, model, signature, **more):
    mlflow.sklearn.save_model(
        model, folder, signature=signature, pip_requirements=[], serialization_format="cloudpickle", **more
    )
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def linear(models):
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(FRAME, TARGET)
    example = FRAME.head(2)
    return model, save(models / "linear", model, infer_signature(FRAME, model.predict(FRAME)), input_example=example)


@pytest.fixture(scope="module")
def server(launch, linear):
    return launch.mlflow(linear[1]).ready()


ROWS = [[1, 2.5, -3.0], [0.1, 0.2, 0.3]]


def expect(linear, rows=ROWS):
    return linear[0].predict(pd.DataFrame(rows, columns=NAMES, dtype=float)).tolist()


@pytest.mark.parametrize(
    "body",
    [
        {"input_data": {"columns": NAMES, "index": [0, 1], "data": ROWS}},
        {"input_data": {"columns": NAMES, "data": ROWS}},
        {"input_data": {"data": ROWS}},
        {"input_data": {"columns": ["c", "a", "b"], "data": [[r[2], r[0], r[1]] for r in ROWS]}},
        {"input_data": {"columns": [*NAMES, "extra"], "data": [[*r, 9] for r in ROWS]}},
        {"input_data": ROWS},
        {"input_data": [dict(zip(NAMES, row, strict=True)) for row in ROWS]},
        {"input_data": {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}},
        {"input_data": {"columns": NAMES, "data": ROWS}, "params": {"x": 1}},
    ],
)
@pytest.mark.parametrize("path", ["/score", "/invocations"])
def test_azure_shapes_give_the_bare_list(server, linear, body, path):
    answer = server.post(body, path)
    assert answer.status == 200, answer.body
    assert answer.json == pytest.approx(expect(linear), rel=1e-12)
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_one_record(server, linear):
    answer = server.post({"input_data": dict(zip(NAMES, ROWS[0], strict=True))})
    assert answer.json == pytest.approx(expect(linear, ROWS[:1]))


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": NAMES, "data": ROWS}},
        {"dataframe_records": [dict(zip(NAMES, row, strict=True)) for row in ROWS]},
        {"instances": [dict(zip(NAMES, row, strict=True)) for row in ROWS]},
        {"inputs": {name: [row[i] for row in ROWS] for i, name in enumerate(NAMES)}},
    ],
)
def test_mlflow_shapes_give_predictions(server, linear, body):
    answer = server.post(body)
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"predictions"}
    assert answer.json["predictions"] == pytest.approx(expect(linear), rel=1e-12)


def test_csv(server, linear):
    text = pd.DataFrame(ROWS, columns=NAMES).to_csv(index=False)
    answer = server.request("POST", "/invocations", text, {"Content-Type": "text/csv"})
    assert answer.json["predictions"] == pytest.approx(expect(linear))
    assert server.request("POST", "/score", "a\nx\n", {"Content-Type": "text/csv"}).status == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input_data": {"columns": ["a", "b"], "data": [[1, 2]]}}, "missing inputs ['c']"),
        ({"input_data": {"columns": NAMES, "data": [[1, "x", 2]]}}, "column b"),
        ({"input_data": {"columns": NAMES, "data": [[1, 2]]}}, "3 columns passed"),
        ({"input_data": [[1, 2]]}, "Row 0 has 2 values; the model takes 3, in this order: a, b, c."),
        ({"input_data": 5}, ""),
        ({"input_data": None}, "null"),
        ({"input_data": {"columns": NAMES, "data": [[1, None, 2]]}}, "NaN"),
        ({"x": 1}, "exactly one of the keys"),
        ({"inputs": [], "instances": []}, "exactly one of the keys"),
        ([1], "Received a JSON list"),
        ({"input_data": ROWS, "params": [1]}, "params must be a JSON object"),
    ],
)
def test_wrong_input_is_400_and_says_where(server, body, words):
    answer = server.post(body)
    assert answer.status == 400
    assert set(answer.json) == {"message"}
    assert words in answer.json["message"]
    assert len(answer.json["message"]) <= 1000


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"input_data": "\xff"}', b'{"input_data":' + b"[" * 200_000, b'{"input_data": [[NaN, 1, 2]]}']
)
def test_hostile_bodies_are_400(server, body):
    answer = server.post(body)
    assert answer.status == 400
    assert set(answer.json) == {"message"}


def test_content_types(server, linear):
    for kind in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"):
        answer = server.request("POST", "/score", json.dumps({"input_data": ROWS}), {"Content-Type": kind})
        assert answer.json == pytest.approx(expect(linear))
    assert server.request("POST", "/score", b"PAR1", {"Content-Type": "application/vnd.apache.parquet"}).status == 415
    assert server.get("/score").status == 405


def test_large_body(server, linear):
    rows = ROWS * 40_000
    answer = server.post({"input_data": rows})
    assert answer.status == 200
    assert len(answer.json) == 80_000
    assert answer.json[-1] == pytest.approx(expect(linear)[1])


def test_swagger_has_columns_and_example(server):
    found = server.get("/swagger.json?version=3").json["components"]["schemas"]["ServiceInput"]
    assert found["properties"]["input_data"]["properties"]["columns"]["example"] == NAMES
    assert found["properties"]["input_data"]["properties"]["data"]["items"]["items"]["type"] == "number"
    assert server.post(found["example"]).status == 200
    assert server.get("/swagger.json").json["definitions"]["ServiceInput"] == found


def storm(server, bodies, threads=12):
    """Answers in the order of `bodies`, sent from many connections at once."""
    answers: list = [None] * len(bodies)
    todo = iter(enumerate(bodies))
    lock = threading.Lock()

    def work():
        connection = server.connection()
        while True:
            with lock:
                at, body = next(todo, (None, None))
            if at is None:
                connection.close()
                return
            connection.request("POST", "/score", json.dumps(body), {"Content-Type": "application/json"})
            got = connection.getresponse()
            answers[at] = (got.status, json.loads(got.read()))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return answers


def test_batched_answers_equal_single_ones_and_bad_rows_hurt_only_themselves(server):
    bodies = []
    for number in range(400):
        rows = RNG.normal(size=(1 + number % 4, 3)).tolist()
        if number % 7 == 3:
            rows[0][1] = "x" if number % 2 else math.nan
        bodies.append({"input_data": rows} if number % 3 else {"dataframe_split": {"columns": NAMES, "data": rows}})
    alone = [storm(server, [body], threads=1)[0] for body in bodies[:120]]
    together = storm(server, bodies)
    for body, (status, answer), single in zip(bodies, together, [*alone, *[None] * 280], strict=True):
        rows = body["input_data"] if "input_data" in body else body["dataframe_split"]["data"]
        bad = any(not isinstance(v, float) or math.isnan(v) for row in rows for v in row)
        assert status == (400 if bad else 200)
        if not bad:
            values = answer if "input_data" in body else answer["predictions"]
            assert len(values) == len(rows)
            if single is not None:
                one = single[1] if "input_data" in body else single[1]["predictions"]
                assert values == pytest.approx(one, rel=1e-12, abs=1e-12)
        elif single is not None:
            assert (status, answer) == single


def test_bare_arrays_are_used_for_plain_scikit_models(server):
    assert "the way from JSON to predict: array" in server.log()


def test_mixed_columns(launch, models):
    frame = pd.DataFrame(
        {"n": [1, 2, 3, 4], "x": [0.5, 1.5, 2.5, 3.5], "s": ["u", "v", "u", "v"], "f": [True, False] * 2}
    )
    coder = ColumnTransformer([("s", OneHotEncoder(), ["s"])], remainder="passthrough")
    model = make_pipeline(coder, RandomForestClassifier(5, random_state=0)).fit(frame, ["no", "yes", "no", "yes"])
    server = launch.mlflow(save(models / "mixed", model, infer_signature(frame, model.predict(frame)))).ready()
    assert "the way from JSON to predict: frame" in server.log()
    rows = frame.to_numpy().tolist()
    body = {"input_data": {"columns": list(frame), "data": rows}}
    assert server.post(body).json == ["no", "yes", "no", "yes"]
    answers = storm(server, [{"input_data": {"columns": list(frame), "data": [row]}} for row in rows * 20])
    assert [a[1] for a in answers] == [["no"], ["yes"], ["no"], ["yes"]] * 20
    bad = [1, 0.5, "nowhere", True]
    answer = server.post({"input_data": {"columns": list(frame), "data": [bad]}})
    assert answer.status == 400
    assert "nowhere" in answer.json["message"]
    answer = server.post({"input_data": {"columns": list(frame), "data": [[1.5, 0.5, "u", True]]}})
    assert answer.status in {200, 400}  # MLflow's cast decides
    assert server.post({"input_data": {"columns": list(frame), "data": [[2**70, 0.5, "u", True]]}}).status == 400


def test_tensor_signature(launch, models):
    data = FRAME.to_numpy()
    model = LinearRegression().fit(data, TARGET)
    server = launch.mlflow(save(models / "tensor", model, infer_signature(data, model.predict(data)))).ready()
    wanted = model.predict(np.array(ROWS)).tolist()
    for body in (
        {"input_data": ROWS},
        {"inputs": ROWS},
        {"instances": ROWS},
        {"input_data": {"columns": NAMES, "data": ROWS}},
    ):
        answer = server.post(body)
        assert answer.status == 200, answer.body
        found = answer.json if "input_data" in body else answer.json["predictions"]
        assert found == pytest.approx(wanted)
    answer = server.post({"input_data": [[1.0, 2.0]]})
    assert answer.status == 400
    assert "shape" in answer.json["message"]


def test_predict_proba(launch, models):
    model = RandomForestClassifier(5, random_state=0).fit(FRAME, TARGET > 0)
    signature = infer_signature(FRAME, model.predict_proba(FRAME))
    server = launch.mlflow(save(models / "proba", model, signature, pyfunc_predict_fn="predict_proba")).ready()
    assert server.post({"input_data": ROWS}).json == model.predict_proba(pd.DataFrame(ROWS, columns=NAMES)).tolist()


class Custom(mlflow.pyfunc.PythonModel):
    """Not row-wise: subtracts the batch's mean. Also echoes params, sleeps, fails, and returns odd types."""

    def predict(self, context, model_input, params=None):
        del context
        ask = (params or {}).get("ask", "")
        if ask == "frame":
            return pd.DataFrame(
                {
                    "d": pd.to_datetime(["2024-01-02", None]),
                    "x": [1.0, math.nan],
                    "n": np.array([1, 2]),
                    "s": ["a", None],
                }
            )
        if ask == "boom":
            raise RuntimeError("a secret path")
        if ask == "slow":
            time.sleep(0.4)
        if ask == "params":
            return params
        return (model_input["a"] - model_input["a"].mean()).to_numpy()


@pytest.fixture(scope="module")
def custom(launch, models):
    signature = ModelSignature(
        Schema([ColSpec("double", "a")]),
        params=ParamSchema([ParamSpec("ask", "string", ""), ParamSpec("k", "long", 3)]),
    )
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the server cannot import this file
    mlflow.pyfunc.save_model(models / "custom", python_model=Custom(), signature=signature, pip_requirements=[])
    return launch.mlflow(models / "custom").ready()


def test_unknown_models_are_never_batched(custom):
    assert "batched" not in custom.log()
    answers = storm(custom, [{"input_data": [[float(n)]]} for n in range(60)])
    assert answers == [(200, [0.0])] * 60


def test_params_and_odd_outputs(custom):
    assert custom.post({"input_data": [[1.0], [3.0]]}).json == [-1.0, 1.0]
    body = {"input_data": [[1.0]], "params": {"ask": "params", "k": 5}}
    assert custom.post(body).json == {"ask": "params", "k": 5}
    answer = custom.post({"input_data": [[1.0]], "params": {"ask": "frame"}})
    assert answer.json == [
        {"d": "2024-01-02T00:00:00", "x": 1.0, "n": 1, "s": "a"},
        {"d": None, "x": None, "n": 2, "s": None},
    ]
    answer = custom.post({"input_data": [[1.0]], "params": {"k": "x"}})
    assert answer.status == 400
    assert "k" in answer.json["message"]


def test_a_models_own_error_is_500_without_its_text(custom):
    answer = custom.post({"input_data": [[1.0]], "params": {"ask": "boom"}})
    assert answer.status == 500
    assert "secret" not in answer.body.decode()
    assert answer.headers["x-ms-run-function-failed"] == "True"


def test_health_answers_while_predict_is_long(custom):
    thread = threading.Thread(target=custom.post, args=({"input_data": [[1.0]], "params": {"ask": "slow"}},))
    thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    assert custom.get("/").status == 200
    assert time.monotonic() - began < 0.15
    thread.join()


def test_user_code_inside_scikit_is_not_batched(launch, models):
    model = make_pipeline(FunctionTransformer(lambda x: x - x.mean()), LinearRegression()).fit(FRAME, TARGET)
    server = launch.mlflow(save(models / "function", model, infer_signature(FRAME, TARGET))).ready()
    assert "batched" not in server.log()
    assert server.post({"input_data": ROWS}).status == 200


def test_without_signature(launch, models):
    model = LinearRegression().fit(FRAME.to_numpy(), TARGET)
    server = launch.mlflow(save(models / "unsigned", model, None)).ready()
    for body in ({"input_data": ROWS}, {"input_data": {"columns": NAMES, "data": ROWS}}):
        assert server.post(body).json == pytest.approx(model.predict(np.array(ROWS)).tolist())


def test_broken_pickle(launch, models, linear):
    import shutil

    shutil.copytree(linear[1], models / "broken")
    next((models / "broken").glob("model.*")).write_bytes(b"nonsense")
    server = launch.mlflow(models / "broken")
    assert server.wait() == 3
    failure = server.failure()
    assert failure["code"] == "ModelLoadFailed"
    assert "could not be loaded" in failure["message"]
    assert failure["evidence"]

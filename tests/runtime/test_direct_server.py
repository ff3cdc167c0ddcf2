"""A replica that starts without MLflow, and what happens when a request needs it."""

from __future__ import annotations

import re
import shutil
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.sklearn
    from mlflow.models import infer_signature

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = ["a", "b", "c"]
FRAME = pd.DataFrame(np.random.default_rng(3).normal(size=(60, 3)), columns=NAMES)
ROWS = [[1, 2.5, -3.0], [0.1, 0.2, 0.3]]
MISSING = {"input_data": {"columns": ["a", "b"], "data": [[1, 2]]}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    fitted = make_pipeline(StandardScaler(), Ridge()).fit(FRAME, FRAME["a"] * 2)
    folder = tmp_path_factory.mktemp("models") / "m"
    signature = infer_signature(FRAME, fitted.predict(FRAME))
    mlflow.sklearn.save_model(
        fitted, folder, signature=signature, serialization_format="cloudpickle", input_example=FRAME.head(2)
    )
    return fitted, folder


@pytest.fixture
def server(launch, model):
    server = launch.mlflow(model[1], PYTHONPROFILEIMPORTTIME="1").ready()
    yield server
    server.stop()


def expected(model, rows=ROWS):
    return pytest.approx(model[0].predict(pd.DataFrame(rows, columns=NAMES, dtype=float)).tolist())


def imported(server, package):
    maps = Path(f"/proc/{server.child.pid}/maps").read_text()
    return bool(re.search(rf"\| +{package}$", server.log(), re.MULTILINE)) or f"/{package}/" in maps


def test_plain_requests_never_import_mlflow_or_pandas(server, model):
    assert "array, without MLflow" in server.log()
    assert server.post({"input_data": ROWS}).json == expected(model)
    big = server.post({"dataframe_split": {"columns": NAMES, "data": ROWS * 4000}})
    assert big.json["predictions"][:2] == expected(model)
    assert server.post(b"{").status == 400
    assert server.request("POST", "/score", b"x", {"Content-Type": "application/parquet"}).status == 415
    found = server.get("/swagger.json?version=3").json["components"]["schemas"]["ServiceInput"]
    assert server.post(found["example"]).status == 200
    assert imported(server, "sklearn")
    assert not imported(server, "mlflow")
    assert not imported(server, "pandas")


def test_while_mlflow_is_loaded_others_are_answered(server, model):
    slow = []
    threads = [threading.Thread(target=lambda: slow.append(server.post(MISSING))) for _ in range(3)]
    for thread in threads:
        thread.start()
    served, worst = 0, 0.0
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert server.get("/").status == 200
        worst = max(worst, time.monotonic() - began)
        assert server.post({"input_data": ROWS}).json == expected(model)
        served += not slow
    assert served > 3
    assert worst < 1
    assert [answer.status for answer in slow] == [400] * 3
    assert "missing inputs ['c']" in slow[0].json["message"]
    assert server.log().count("it is loaded now") == 1
    assert imported(server, "mlflow")
    assert "answered differently" not in server.log()
    assert "the way from JSON to predict: array\n" in server.log()
    assert server.post({"input_data": ROWS}).json == expected(model)
    reordered = {"columns": ["c", "a", "b"], "data": [[r[2], r[0], r[1]] for r in ROWS]}
    assert server.post({"input_data": reordered}).json == expected(model)


def test_a_large_body_can_be_the_one_that_needs_mlflow(server, model):
    text = pd.DataFrame(ROWS * 3000, columns=NAMES).to_csv(index=False)
    answer = server.request("POST", "/score", text, {"Content-Type": "text/csv"})
    assert answer.json["predictions"][:2] == expected(model)
    answer = server.post({"input_data": [*ROWS * 3000, [1, None, 2]]})
    assert answer.status == 400
    assert "NaN" in answer.json["message"]


def test_a_value_that_the_model_refuses_is_refused_in_mlflows_words(server):
    answer = server.post(b'{"input_data": [[NaN, 1, 2]]}')
    assert answer.status == 400
    assert "NaN" in answer.json["message"]


def test_a_broken_mlflow_fails_only_what_needs_it(launch, model, tmp_path):
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text("raise ImportError('half installed')")
    server = launch.mlflow(model[1], PYTHONPATH=str(tmp_path)).ready()
    for _ in range(2):
        answer = server.post(MISSING)
        assert answer.status == 500
        assert "half installed" not in answer.body.decode()
        assert server.post({"input_data": ROWS}).json == expected(model)
    assert "half installed" in server.log()
    assert "fail from now on" in server.log()


def test_several_workers(launch, model):
    server = launch.mlflow(model[1], WORKER_COUNT="2", PORTWAY_MAX_CONCURRENCY="2").ready()
    assert server.post({"input_data": ROWS}).json == expected(model)
    assert server.post(MISSING).status == 400


def test_packages_that_differ_are_named(launch, model, tmp_path):
    shutil.copytree(model[1], tmp_path / "m")
    (tmp_path / "m" / "requirements.txt").write_text("numpy==0.1\n")
    server = launch.mlflow(tmp_path / "m").ready()
    assert "required: numpy==0.1" in server.log()
    assert server.post({"input_data": ROWS}).json == expected(model)

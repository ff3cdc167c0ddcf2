"""What is served without MLflow, and that nobody can tell by the answers. In this process: no server is needed."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.spatial
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR

from runtime.serving import direct, mlflow_schema, mlmodel, pins, pyfunc
from runtime.serving.mlflow_input import Reader

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.sklearn
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(5)
NAMES = ["a", "b", "c"]
DATA = RNG.normal(size=(80, 3)) * 20
FRAME = pd.DataFrame(DATA, columns=NAMES)
TARGET = FRAME["a"] * 2 - FRAME["b"] + 0.5
CLASS = np.where(TARGET > 0, "yes", "no")

COLUMNS = {
    "double": FRAME,
    "float": FRAME.astype("float32"),
    "long": FRAME.round().astype("int64"),
    "boolean": FRAME > 0,
    "double+long": FRAME.assign(b=FRAME["b"].round().astype("int64")),
    "float+long": FRAME.astype("float32").assign(b=FRAME["b"].round().astype("int64")),
    "float+double+boolean": FRAME.assign(a=FRAME["a"].astype("float32"), c=FRAME["c"] > 0),
    "long+boolean": FRAME.round().astype("int64").assign(c=FRAME["c"] > 0),
}


def save(folder, model, data=FRAME, **more):
    signature = more.pop("signature", None)
    if signature is None:
        signature = infer_signature(data, model.predict(data))
    more = {"serialization_format": "cloudpickle", "pip_requirements": [], **more}
    mlflow.sklearn.save_model(model, folder, signature=signature, **more)
    return folder


def by_mlflow(model, rows):
    schema = model.metadata.get_input_schema()
    columns = None if schema.is_tensor_spec() else schema.input_names()
    body = rows if columns is None else {"columns": columns, "data": rows}
    return model.predict(Reader(model.metadata).read({"input_data": body}).data)


def rows_of(data, count=12):
    return (data.iloc[:count].astype(object).to_numpy() if hasattr(data, "iloc") else data[:count]).tolist()


def assert_same(ours, theirs):
    assert type(ours) is type(theirs) is np.ndarray
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    if ours.dtype.kind == "f":
        # The order of columns in memory, which MLflow leaves to pandas, moves the last bits of a sum.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5 if ours.dtype == np.float32 else 1e-10, atol=1e-12)
    else:
        assert ours.tolist() == theirs.tolist()


MODELS = [
    (LinearRegression(), TARGET),
    (Ridge(), TARGET),
    (LogisticRegression(), CLASS),
    (RandomForestClassifier(5, random_state=0), CLASS),
    (GradientBoostingRegressor(n_estimators=5), TARGET),
    (KMeans(3, n_init=1, random_state=0), None),
    (KNeighborsRegressor(3), TARGET),
    (make_pipeline(StandardScaler(), LinearRegression()), TARGET),
]


@pytest.mark.parametrize("kinds", COLUMNS)
@pytest.mark.parametrize("case", MODELS, ids=lambda case: type(case[0]).__name__)
def test_direct_equals_pyfunc(tmp_path, case, kinds):
    data = COLUMNS[kinds]
    folder = save(tmp_path / "m", case[0].fit(data, case[1]), data)
    found = direct.load(folder)
    theirs = mlflow.pyfunc.load_model(str(folder))
    for rows in (rows_of(data), rows_of(data, 1)):
        assert_same(found.predict(rows), by_mlflow(theirs, rows))
    assert direct.difference(found, pyfunc.Pyfunc(theirs).fast()) == ""


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (HistGradientBoostingClassifier(max_iter=5), CLASS),
        (SVC(), CLASS),
        (SVR(), TARGET),
        (KNeighborsClassifier(3), TARGET > 0),
        (make_pipeline(SimpleImputer(), PolynomialFeatures(2), PCA(4, random_state=0), Ridge()), TARGET),
        (make_pipeline(StandardScaler(), "passthrough", KMeans(2, n_init=1, random_state=0)), None),
        (LinearRegression(), np.column_stack([TARGET, -TARGET])),
        (LogisticRegression(class_weight={"yes": 2, "no": 1}), CLASS),
    ],
    ids=str,
)
def test_more_estimators(tmp_path, model, target):
    folder = save(tmp_path / "m", model.fit(FRAME, target))
    assert_same(
        direct.load(folder).predict(rows_of(FRAME)), by_mlflow(mlflow.pyfunc.load_model(str(folder)), rows_of(FRAME))
    )


@pytest.mark.parametrize("name", ["predict_proba", "predict_log_proba"])
def test_probabilities(tmp_path, name):
    folder = save(tmp_path / "m", LogisticRegression().fit(FRAME, CLASS), pyfunc_predict_fn=name)
    assert_same(
        direct.load(folder).predict(rows_of(FRAME)), by_mlflow(mlflow.pyfunc.load_model(str(folder)), rows_of(FRAME))
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("way", ["pickle", "cloudpickle", "skops"])
def test_tensors_and_formats(tmp_path, way, dtype):
    data = DATA.astype(dtype)
    folder = save(tmp_path / "m", Ridge().fit(data, TARGET), data, serialization_format=way)
    assert_same(
        direct.load(folder).predict(rows_of(data)), by_mlflow(mlflow.pyfunc.load_model(str(folder)), rows_of(data))
    )


class Own(LinearRegression):
    pass


class Renamed(LinearRegression):
    __module__ = "sklearn.linear_model._base"


def renamed():
    model = Renamed().fit(FRAME, TARGET)
    Renamed.__name__ = Renamed.__qualname__ = "LinearRegression"
    return model


STRINGS = FRAME.assign(b=CLASS)
REFUSED = {
    "subclass": (Own().fit(FRAME, TARGET), FRAME, {}, "pickle names"),
    "column transformer": (
        make_pipeline(ColumnTransformer([("s", StandardScaler(), ["a"])]), Ridge()).fit(FRAME, TARGET),
        FRAME,
        {},
        "ColumnTransformer",
    ),
    "function": (make_pipeline(FunctionTransformer(), Ridge()).fit(FRAME, TARGET), FRAME, {}, "FunctionTransformer"),
    "lambda": (
        make_pipeline(FunctionTransformer(lambda x: x * 2), Ridge()).fit(FRAME, TARGET),
        FRAME,
        {},
        "pickle names",
    ),
    "search": (GridSearchCV(Ridge(), {"alpha": [1, 2]}).fit(FRAME, TARGET), FRAME, {}, "GridSearchCV"),
    "voting": (VotingRegressor([("r", Ridge())]).fit(FRAME, TARGET), FRAME, {}, "VotingRegressor"),
    "stacking": (StackingRegressor([("r", Ridge())]).fit(FRAME, TARGET), FRAME, {}, "StackingRegressor"),
    "target": (TransformedTargetRegressor(Ridge()).fit(FRAME, TARGET), FRAME, {}, "TransformedTargetRegressor"),
    "metric": (
        KNeighborsRegressor(metric=scipy.spatial.distance.cityblock).fit(FRAME, TARGET),
        FRAME,
        {},
        "parameter that is not plain",
    ),
    "nested": (make_pipeline(make_pipeline(StandardScaler()), Ridge()).fit(FRAME, TARGET), FRAME, {}, "Pipeline"),
    "cached": (make_pipeline(StandardScaler(), Ridge(), memory="cache").fit(FRAME, TARGET), FRAME, {}, "cache"),
    "frames between steps": (
        make_pipeline(StandardScaler(), Ridge()).set_output(transform="pandas").fit(FRAME, TARGET),
        FRAME,
        {},
        "output configuration",
    ),
    "other order": (Ridge().fit(FRAME[["c", "b", "a"]], TARGET), FRAME, {"unfit": True}, "other names"),
    "too wide": (Ridge().fit(DATA[:, :2], TARGET), FRAME, {"unfit": True}, "not as wide"),
    "strings": (Ridge().fit(FRAME, TARGET), STRINGS, {"unfit": True}, "plain numbers"),
    "dates": (
        Ridge().fit(FRAME, TARGET),
        FRAME.assign(b=pd.to_datetime("2024-01-01")),
        {"unfit": True},
        "plain numbers",
    ),
    "no signature": (Ridge().fit(FRAME, TARGET), FRAME, {"signature": False}, "signature"),
    "optional": (
        Ridge().fit(FRAME, TARGET),
        FRAME,
        {"signature": ModelSignature(Schema([ColSpec("double", n, required=n != "b") for n in NAMES]))},
        "plain numbers",
    ),
    "params": (
        Ridge().fit(FRAME, TARGET),
        FRAME,
        {
            "signature": ModelSignature(
                Schema([ColSpec("double", n) for n in NAMES]), params=ParamSchema([ParamSpec("k", "long", 3)])
            )
        },
        "params",
    ),
    "joint probability": (Ridge().fit(FRAME, TARGET), FRAME, {"pyfunc_predict_fn": "score"}, "score"),
    "metadata": (Ridge().fit(FRAME, TARGET), FRAME, {"metadata": {"x": 1}}, "metadata"),
    "code paths": (Ridge().fit(FRAME, TARGET), FRAME, {"code_paths": [__file__]}, "sets code"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_never_goes_direct(tmp_path, name):
    model, data, more, words = REFUSED[name]
    more = dict(more)
    if more.pop("unfit", False):
        more["signature"] = infer_signature(data, TARGET)
    try:
        save(tmp_path / "m", model, data, **more)
    except mlflow.MlflowException as exc:
        pytest.skip(f"MLflow itself saves no such model: {exc}")
    with pytest.raises(Exception, match=words):
        direct.load(tmp_path / "m")


def test_a_class_that_only_claims_to_be_scikits_is_refused():
    assert not direct._is_own(renamed(), direct._CLASSES)
    assert direct._is_own(Ridge(), direct._CLASSES)


class Bomb:
    def __reduce__(self):
        return (open, (Bomb.path, "w"))


def test_nothing_of_a_foreign_pickle_runs(tmp_path, monkeypatch):
    import pickle

    folder = save(tmp_path / "m", Ridge().fit(FRAME, TARGET))
    monkeypatch.setattr(Bomb, "path", str(tmp_path / "ran"), raising=False)
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(mlmodel.NotPlainError, match="its pickle names"):
        direct.load(folder)
    assert not (tmp_path / "ran").exists()


def edited(folder, change):
    document = yaml.safe_load((folder / "MLmodel").read_text())
    change(document)
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["flavors"]["sklearn"].update(sklearn_version="0.1"),
        lambda d: d["flavors"]["python_function"].update(python_version="3.1.0"),
        lambda d: d["flavors"]["python_function"].update(model_path="../outside.pkl"),
        lambda d: d["flavors"]["python_function"].update(loader_module="other"),
        lambda d: d["flavors"]["python_function"].update(config={"x": 1}),
        lambda d: d["flavors"]["python_function"].update(data="model"),
        lambda d: d["flavors"]["sklearn"].update(serialization_format="strange"),
        lambda d: d["flavors"].pop("python_function"),
        lambda d: d["flavors"].update(sklearn=5),
        lambda d: d.update(flavors=[]),
        lambda d: d.update(signature="x"),
        lambda d: d["signature"].update(inputs="["),
        lambda d: d["signature"].update(inputs="[]"),
        lambda d: d["signature"].update(inputs="[3]"),
        lambda d: d["signature"].update(inputs='[{"type": {"a": 1}, "name": "a"}]'),
        lambda d: d["signature"].update(inputs='[{"type": "double", "name": 3}]'),
        lambda d: d.update(is_signature_from_type_hint=True),
    ],
)
def test_unexpected_files_are_left_to_mlflow(tmp_path, change):
    folder = save(tmp_path / "m", Ridge().fit(FRAME, TARGET))
    (tmp_path / "outside.pkl").write_bytes((folder / "model.pkl").read_bytes())
    direct.load(folder)
    with pytest.raises(Exception, match=""):
        direct.load(edited(folder, change))


@pytest.mark.parametrize("text", [b"", b"[1]", b"\xff\xfe\x00", b"a: [", b"{}"])
def test_garbage_is_left_to_mlflow(tmp_path, text):
    (tmp_path / "MLmodel").write_bytes(text)
    with pytest.raises(Exception, match=""):
        direct.load(tmp_path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    found = {}
    for kinds in ("double", "float", "long", "double+long"):
        data = COLUMNS[kinds]
        model = make_pipeline(StandardScaler(), Ridge()).fit(data, TARGET)
        folder = save(tmp_path_factory.mktemp("pair") / "m", model, data)
        found[kinds] = (direct.load(folder), mlflow.pyfunc.load_model(str(folder)))
    return found


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 2**53 + 1]),
    st.integers(-(2**70), 2**70),
    st.integers(-100, 100),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=4), data=st.data())
def test_random_rows(pairs, rows, data):
    """What the direct way answers, MLflow answers too and alike; what it refuses is MLflow's to answer."""
    kinds = data.draw(st.sampled_from(sorted(pairs)))
    if "long" in kinds:
        whole = [0, 1, 2] if kinds == "long" else [1]
        rows = [[int(v) if i in whole and abs(v) < 1e300 else v for i, v in enumerate(row)] for row in rows]
    ours, theirs = pairs[kinds]
    from runtime.serving import fastpath

    found = fastpath.rows_in(ours.layout, {"input_data": rows})
    if found is None:
        return
    try:
        answer = ours.predict(found[0])
    except Exception:  # noqa: BLE001 -- MLflow is asked then
        return
    wanted = by_mlflow(theirs, rows)
    scale = max(1.0, float(np.max(np.abs(np.nan_to_num(wanted)))))
    # at the end of the floats the order of additions decides between the largest number and infinity
    answer, wanted = (np.nan_to_num(each, nan=np.nan) for each in (answer, wanted))
    np.testing.assert_allclose(answer, wanted, rtol=1e-5 if kinds == "float" else 1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("data", [FRAME, DATA], ids=["frame", "array"])
def test_the_document_is_the_one_that_mlflow_gives(tmp_path, data):
    folder = save(tmp_path / "m", Ridge().fit(data, TARGET), data, input_example=data[:2])
    ours = mlflow_schema.schemas(mlmodel.read(folder), folder)
    theirs = mlflow_schema.schemas(mlflow.pyfunc.load_model(str(folder)).metadata, folder)
    assert json.dumps(ours) == json.dumps(theirs)
    assert "example" in ours.service_input


def test_pins_that_are_not_met(tmp_path):
    text = f"numpy=={np.__version__}\nScikit_Learn==0.1\nnowhere-at-all==1.0\npandas>=9\n# x\nscipy==1 ; a\n"
    (tmp_path / "requirements.txt").write_text(text)
    found = pins.mismatches(tmp_path / "requirements.txt")
    assert [line.split(" ")[0] for line in found] == ["Scikit_Learn", "nowhere-at-all"]
    assert "uninstalled" in found[1]
    assert pins.mismatches(tmp_path / "none") == []
    assert pins._same("1.2.0+cpu", "1.2")
    assert not pins._same("1.2", "1.2.1")


def test_a_postponed_module_is_real_when_it_is_used(monkeypatch, tmp_path):
    from runtime.serving.imports import postponed

    (tmp_path / "pw_late.py").write_text("import sys\nvalue = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with postponed("pw_late"):
        import pw_late

        assert not hasattr(pw_late, "__file__")
        stand_in = pw_late
    assert "pw_late" not in sys.modules
    assert stand_in.value == 7
    assert sys.modules["pw_late"] is not stand_in
    with postponed("pw_late"):
        import pw_late

        assert pw_late.value == 7
        assert pw_late is not stand_in
    del sys.modules["pw_late"]


def test_a_difference_is_told(tmp_path):
    folder = save(tmp_path / "m", Ridge().fit(FRAME, TARGET))
    found = direct.load(folder)
    proved = pyfunc.load(folder).fast()
    assert proved is not None
    assert proved.way == "array"
    wrong = direct.Direct(found.metadata, found.layout, lambda rows: rows[:, 0])
    assert "instead of" in direct.difference(wrong, proved)
    other = direct.Direct(found.metadata, found.layout, lambda rows: rows)
    assert "float64(3,) instead of float64(3, 3)" in direct.difference(other, proved)


@pytest.mark.parametrize("package", ["mlflow", "pandas"])
def test_a_missing_package_is_left_to_mlflow_to_tell(tmp_path, monkeypatch, package):
    folder = save(tmp_path / "m", Ridge().fit(FRAME, TARGET))
    real = direct.importlib.util.find_spec
    monkeypatch.setattr(direct.importlib.util, "find_spec", lambda name: None if name == package else real(name))
    with pytest.raises(mlmodel.NotPlainError, match=f"{package} is not in the environment"):
        direct.load(folder)


def test_mlflows_own_gate_is_asked(tmp_path, monkeypatch):
    folder = save(tmp_path / "m", Ridge().fit(FRAME, TARGET))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    with pytest.raises(mlmodel.NotPlainError, match="MLFLOW_ALLOW"):
        direct.load(folder)

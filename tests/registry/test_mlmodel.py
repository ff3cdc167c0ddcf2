"""MLmodel files made to hurt whoever reads them."""

import json
import time

import pytest

from apps.core.errors import Problem
from apps.registry import domain, mlmodel
from tests.mlflow_parts import MLMODEL
from tests.world import tree_of

GOOD = "flavors:\n  python_function: {loader_module: m}\n"
LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty or not a mapping"),
        ("- a\n- b", "empty or not a mapping"),
        ("just words", "empty or not a mapping"),
        ("a: [", "not YAML"),
        ("a: \x01", "not YAML"),
        ("flavors: 1", "python_function"),
        ("flavors: {sklearn: {}}", "python_function"),
        (GOOD + "x: !!python/object/apply:os.system ['touch /tmp/pwned']", "not YAML"),
        (GOOD + "x: !!python/name:os.system", "not YAML"),
        (GOOD + "x: 2024-99-99", "not YAML"),
        (GOOD + "x: " + "9" * 5000, "not YAML"),
        (GOOD + "? [a, b]\n: c", "not YAML"),
        (GOOD + LAUGHS, "aliases"),
        (GOOD + LAUGHS + "<<: *a11\n", "aliases"),
        (GOOD + "x: &x [*x]", "contains itself"),
        (GOOD + "x: " + "[" * 200_000 + "]" * 200_000, "nested too deeply"),
        (GOOD + "x: " + "{a: " * 5_000 + "}" * 5_000, "nested too deeply"),
        (GOOD + "x: " + "y" * 2_100_000, "unreasonably large"),
        (GOOD + "x: [" + "1," * 300_000 + "]", "unreasonably large"),
        ("flavors: {python_function: {data: ../../../etc}}", "leads out of the model"),
        ("flavors: {python_function: {data: /etc/passwd}}", "leads out of the model"),
        ("flavors: {python_function: {env: {conda: ../../x}}}", "leads out of the model"),
        ("flavors: {python_function: {}, sklearn: {pickled_model: '..\\..\\x'}}", "leads out of the model"),
    ],
)
def test_refused_with_a_reason_and_soon(db, text, words):
    started = time.monotonic()
    with pytest.raises(Problem) as caught:
        mlmodel.read(tree_of(MLmodel=text), "")
    assert caught.value.code == "model-invalid"
    assert words in caught.value.message
    assert time.monotonic() - started < 5


def test_no_mlmodel_at_all(db):
    for tree, path in ((tree_of(x="y"), ""), (tree_of(x="y"), "x"), (tree_of(a__MLmodel="x", b__MLmodel="y"), "")):
        with pytest.raises(Problem, match="no file MLmodel"):
            mlmodel.read(tree, path)


def test_found_one_folder_below(db):
    assert mlmodel.read(tree_of(model__MLmodel=MLMODEL), "")["path"] == "model"


@pytest.mark.parametrize("garbage", ["not json", "[[[", "[" * 100_000, "1", "null", '{"a": NaN}', '"\\ud800\\u0000"'])
def test_a_garbage_signature_does_no_harm(workspace, garbage):
    text = GOOD + f"signature:\n  inputs: {json.dumps(garbage)}\n  outputs: 2020-01-01\n  params: .nan\n"
    version, _ = domain.register_model(
        workspace=workspace, name="m", tree=tree_of(MLmodel=text), path="", actor=None, type="mlflow_model"
    )
    version.refresh_from_db()
    assert version.signature["params"] == "nan"
    assert "\x00" not in json.dumps(version.signature)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("input_example.json", '{"inputs": [1, NaN]}', {"inputs": [1, "nan"]}),
        ("input_example.json", "no json", None),
        ("input_example.json", "[" * 200_000, None),
        ("input_example.json", "[" + "1," * 300_000 + "1]", None),
        ("../MLmodel", "{}", None),
        ("a/b", "{}", None),
        ("..", "{}", None),
        ("x" * 300, "{}", None),
        ("missing", "{}", None),
    ],
)
def test_input_examples(db, name, content, found):
    text = GOOD + f"saved_input_example_info: {{artifact_path: {json.dumps(name)}}}\n"
    tree = tree_of(**{"MLmodel": text, "input_example.json": content})
    assert mlmodel.read(tree, "")["input_example"] == found


def test_odd_values_become_plain(workspace):
    text = (
        "flavors:\n  python_function:\n    when: 2020-01-01\n    bad: .inf\n    1: one\n    2020-02-02: day\n"
        '    nul: "a\\0b"\n    set: !!set {a, b}\n    bytes: !!binary aGVsbG8=\nrun_id: [1]\n'
    )
    version, _ = domain.register_model(
        workspace=workspace, name="m", tree=tree_of(MLmodel=text), path="", actor=None, type="mlflow_model", run_id="r1"
    )
    version.refresh_from_db()
    assert version.run_id == "r1"
    flavor = version.flavors["python_function"]
    assert (flavor["when"], flavor["bad"], flavor["1"], flavor["nul"]) == ("2020-01-01", "inf", "one", "ab")


def test_triton_needs_a_folder(db):
    with pytest.raises(Problem, match="model repository"):
        mlmodel.check_triton(tree_of(file="x"), "file")


def test_pickles_are_allowed(workspace):
    tree = tree_of(MLmodel=MLMODEL, **{"model.pkl": "pickle"})
    version, new = domain.register_model(
        workspace=workspace, name="m", tree=tree, path="", actor=None, type="mlflow_model"
    )
    assert (new, version.version) == (True, "1")

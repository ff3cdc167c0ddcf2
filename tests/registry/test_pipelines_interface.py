"""Values bound to declarations: converted, or refused with a reason and their place."""

import pytest

from apps.core.errors import Problem
from apps.registry.pipelines.identity import key_of
from apps.registry.pipelines.interface import Data, bind, declared_by, read_inputs, read_outputs

FOLDER = {"type": "uri_folder", "path": "azureml:data:1"}


@pytest.mark.parametrize(
    ("declaration", "given", "expected"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, 3.0, 3),
        ({"type": "number"}, "0.5", 0.5),
        ({"type": "number"}, 3, 3),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, False, False),
        ({"type": "string"}, 3, "3"),
        ({"type": "string"}, "", ""),
        ({"type": "string", "default": "append"}, None, "append"),
        ({"type": "boolean", "default": False}, None, False),
        ({"type": "integer", "optional": True}, None, None),
        ({"type": "integer", "optional": "True"}, None, None),
        ({"type": "string"}, {"type": "string", "default": "a"}, "a"),
        ({"type": "number"}, {"jobInputType": "Literal", "value": 0.5}, 0.5),
        ({"type": "number"}, {"JobInputType": "Literal", "Value": "0.5"}, 0.5),
        ({"type": "uri_folder"}, FOLDER, Data("azureml:data:1", "uri_folder")),
        ({"type": "uri_folder"}, {"path": "azureml:data:1"}, Data("azureml:data:1", "uri_folder")),
        ({"type": "uri_folder"}, {"type": "mlflow_model", "path": "azureml:m:1"}, Data("azureml:m:1", "mlflow_model")),
        (
            {"type": "uri_folder", "mode": "ro_mount"},
            {"jobInputType": "UriFolder", "uri": "https://x/y", "mode": "Download"},
            Data("https://x/y", "uri_folder", "download"),
        ),
    ],
)
def test_values_become_what_is_declared(declaration, given, expected):
    bound = bind(read_inputs({"x": declaration}), {} if given is None else {"x": given})
    assert bound == {"x": expected}
    assert type(bound["x"]) is type(expected)


@pytest.mark.parametrize(
    ("declaration", "given", "reason"),
    [
        ({"type": "integer"}, "3.5", "no integer"),
        ({"type": "integer"}, True, "no integer"),
        ({"type": "integer"}, 10**200, "no integer"),
        ({"type": "integer"}, "9" * 5000, "no integer"),
        ({"type": "number"}, "nan", "no number"),
        ({"type": "number"}, "1e999", "no number"),
        ({"type": "boolean"}, 1, "no boolean"),
        ({"type": "boolean"}, "yes", "no boolean"),
        ({"type": "integer", "min": 1, "max": 5}, 0, "less than 1"),
        ({"type": "integer", "min": 1, "max": 5}, "6", "more than 5"),
        ({"type": "string", "enum": ["a", "b"]}, "c", "one of a, b"),
        ({"type": "integer"}, None, "required"),
        ({"type": "integer"}, FOLDER, "not data"),
        ({"type": "uri_folder"}, "3", "takes data"),
        ({"type": "uri_file"}, FOLDER, "not uri_folder"),
        ({"type": "uri_folder"}, {"path": "a", "uri": "b"}, "just one"),
        ({"type": "string"}, [1], "object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(declaration, given, reason):
    with pytest.raises(Problem) as refused:
        bind(read_inputs({"x": declaration}), {} if given is None else {"x": given})
    assert reason in refused.value.message
    assert refused.value.target == "inputs.x"


def test_an_unknown_input_is_refused_and_says_what_there_is():
    with pytest.raises(Problem, match="there are: x"):
        bind(read_inputs({"x": {"type": "string", "optional": True}}), {"y": 1})


@pytest.mark.parametrize(
    ("declaration", "target"),
    [
        ({"x": {"type": "tensor"}}, "inputs.x.type"),
        ({"x": {}}, "inputs.x.type"),
        ({"PATH": {"type": "string"}}, "inputs.PATH"),
        ({"a-b": {"type": "string"}}, "inputs"),
        ({"x": {"type": "string", "min": 1}}, "inputs.x"),
        ({"x": {"type": "integer", "min": 3, "max": 2}}, "inputs.x.min"),
        ({"x": {"type": "integer", "min": 3, "default": 2}}, "inputs.x.default"),
        ({"x": {"type": "integer", "enum": [1, "two"]}}, "inputs.x.enum"),
        ({"x": {"type": "uri_file", "default": "a"}}, "inputs.x.default"),
        ({"x": {"type": "string", "colour": "red"}}, "inputs.x.colour"),
        ({"x": {"type": "uri_file", "mode": "upload"}}, "inputs.x.mode"),
        ({"x": {"type": "string", "optional": "maybe"}}, "inputs.x.optional"),
    ],
)
def test_a_declaration_that_means_nothing_is_refused(declaration, target):
    with pytest.raises(Problem) as refused:
        read_inputs(declaration)
    assert refused.value.target == target


def test_an_output_is_a_folder_unless_it_says_otherwise():
    outputs = read_outputs({"a": None, "b": {"type": "uri_file", "mode": "Upload"}})
    assert [(each.type, each.mode) for each in outputs.values()] == [("uri_folder", ""), ("uri_file", "upload")]
    with pytest.raises(Problem):
        read_outputs({"a": {"type": "string"}})


def test_a_job_declares_what_it_gives():
    declared = declared_by({"data": FOLDER, "n": 3, "f": 0.5, "s": "a", "b": True})
    assert [each.type for each in declared.values()] == ["uri_folder", "integer", "number", "string", "boolean"]
    assert declared["data"].is_required
    assert bind(declared, {"data": FOLDER})["n"] == 3


def test_steps_are_the_same_by_content():
    one = key_of("d", {"a": 1, "data": Data("x", "uri_file", "download")})
    assert one == key_of("d", {"data": Data("x", "uri_file"), "a": 1})
    others = [("e", {"a": 1}), ("d", {"a": 2}), ("d", {"a": "1"}), ("d", {"a": None}), ("d", {"b": 1})]
    assert len({one, *(key_of(*each) for each in others)}) == 6

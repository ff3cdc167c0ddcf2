"""Pipelines as graphs: bindings, nesting, order, what can run after what."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Problem
from apps.registry.pipelines.documents import normalise
from apps.registry.pipelines.graph import Graph, Literal, Output, ParentInput, Step, StepOutput, parse
from apps.registry.pipelines.interface import Data

DATA = {"type": "uri_folder"}
PREPARE = normalise(
    {
        "type": "command",
        "command": "prepare ${{inputs.data}} ${{outputs.prepared}}",
        "environment": "azureml:e:1",
        "inputs": {"data": DATA},
        "outputs": {"prepared": None},
    }
)
SCORE = normalise(
    {
        "type": "command",
        "command": "score ${{inputs.data}} ${{inputs.n}} ${{outputs.scores}} $[[${{inputs.model}}]]",
        "environment": "azureml:e:1",
        "inputs": {
            "data": DATA,
            "n": {"type": "integer", "default": 1},
            "model": {"type": "mlflow_model", "optional": True},
        },
        "outputs": {"scores": {"type": "uri_folder", "mode": "upload"}},
    }
)
COMPONENTS = {"azureml:prepare:1": PREPARE, "azureml:score:1": SCORE}


def find(reference, field):
    if reference not in COMPONENTS:
        raise Problem("bad-field", field=field, reason="there is none", target=field)
    return COMPONENTS[reference]


def pipeline(**changes):
    return {
        "type": "pipeline",
        "inputs": {"input_data": DATA, "n": {"type": "integer", "default": 2}},
        "outputs": {"scores": {"type": "uri_folder", "mode": "upload"}},
        "jobs": {
            "score": {
                "type": "command",
                "component": "azureml:score:1",
                "inputs": {
                    "data": "${{parent.jobs.prep.outputs.prepared}}",
                    "model": {"type": "mlflow_model", "path": "azureml:heart@latest"},
                    "n": "${{parent.inputs.n}}",
                },
                "outputs": {"scores": "${{parent.outputs.scores}}"},
            },
            "prep": {
                "type": "command",
                "component": "azureml:prepare:1",
                "inputs": {"data": "${{parent.inputs.input_data}}"},
                "outputs": {"prepared": None},
            },
        },
        **changes,
    }


def read(document, components=None):
    def search(reference, field):
        return (components or {}).get(reference) or find(reference, field)

    return parse(normalise(document), search)


def with_step(name, step, **changes):
    document = pipeline(**changes)
    document["jobs"] = {**document["jobs"], name: step}
    return document


def test_the_canonical_pipeline():
    graph = read(pipeline())
    assert graph.order() == ("prep", "score")
    prep, score = graph.steps["prep"], graph.steps["score"]
    assert prep.inputs == {"data": ParentInput("input_data")}
    assert prep.outputs == {"prepared": Output("uri_folder")}
    assert score.inputs == {
        "data": StepOutput("prep", "prepared"),
        "model": Data("azureml:heart@latest", "mlflow_model"),
        "n": ParentInput("n"),
    }
    assert score.outputs == {"scores": Output("uri_folder", "upload", parent="scores")}


def test_the_shape_of_the_wire_is_the_same_graph():
    document = pipeline()
    score = document["jobs"]["score"]
    document["jobs"]["score"] = {
        "name": "score",
        "type": "command",
        "_source": "YAML.JOB",
        "componentId": score["component"],
        "inputs": {
            "data": {"job_input_type": "literal", "value": score["inputs"]["data"]},
            "n": {"job_input_type": "literal", "value": "${{parent.inputs.n}}"},
            "model": {"job_input_type": "mlflow_model", "uri": "azureml:heart@latest"},
        },
        "outputs": {"scores": {"type": "literal", "value": "${{parent.outputs.scores}}"}},
        "environment_variables": {},
    }
    assert normalise(document) == normalise(pipeline())
    assert read(document) == read(pipeline())


def test_modes_travel_with_bindings():
    document = pipeline()
    document["jobs"]["prep"]["inputs"]["data"] = {"path": "${{parent.inputs.input_data}}", "mode": "download"}
    wire = pipeline()
    wire["jobs"]["prep"]["inputs"]["data"] = {
        "job_input_type": "literal",
        "value": "${{parent.inputs.input_data}}",
        "mode": "Download",
    }
    assert read(document).steps["prep"].input_modes == {"data": "download"}
    assert normalise(wire) == normalise(document)


def test_what_a_step_says_of_itself():
    document = pipeline()
    document["jobs"]["prep"] |= {
        "compute": "azureml:cpu",
        "environment_variables": {"A": 1},
        "resources": {"instance_count": 2},
        "display_name": "Prepare",
    }
    step = read(document).steps["prep"]
    assert (step.compute, step.environment_variables, step.instance_count) == ("azureml:cpu", {"A": "1"}, 2)


STEP = {"component": "azureml:score:1"}


@pytest.mark.parametrize(
    ("step", "target", "reason"),
    [
        ({**STEP}, "jobs.x.inputs.data", "required"),
        ({**STEP, "inputs": {"data": "${{parent.inputs.z}}"}}, "jobs.x.inputs.data", "no input z"),
        ({**STEP, "inputs": {"data": "${{parent.inputs.n}}"}}, "jobs.x.inputs.data", "bound to integer"),
        ({**STEP, "inputs": {"data": "${{parent.jobs.z.outputs.a}}"}}, "jobs.x.inputs.data", "no step z"),
        ({**STEP, "inputs": {"data": "${{parent.jobs.prep.outputs.a}}"}}, "jobs.x.inputs.data", "no output a"),
        ({**STEP, "inputs": {"data": "a/${{parent.inputs.input_data}}"}}, "jobs.x.inputs.data", "around"),
        ({**STEP, "inputs": {"data": "text"}}, "jobs.x.inputs.data", "takes data"),
        ({**STEP, "inputs": {"data": {"path": "a", "type": "uri_file"}}}, "jobs.x.inputs.data", "not uri_file"),
        ({**STEP, "inputs": {"data": {"path": "a"}, "n": "x"}}, "jobs.x.inputs.n", "no integer"),
        ({**STEP, "inputs": {"data": {"path": "a"}, "z": 1}}, "jobs.x.inputs.z", "no such input"),
        (
            {**STEP, "inputs": {"data": {"path": "a"}}, "outputs": {"y": None}},
            "jobs.x.outputs.y",
            "no such output",
        ),
        (
            {**STEP, "inputs": {"data": {"path": "a"}}, "outputs": {"scores": "${{parent.outputs.scores}}"}},
            "jobs.x.outputs.scores",
            "already",
        ),
        (
            {**STEP, "inputs": {"data": {"path": "a"}}, "outputs": {"scores": "${{parent.outputs.z}}"}},
            "jobs.x.outputs.scores",
            "no output z",
        ),
        ({"component": "azureml:none:1"}, "jobs.x.component", "none"),
        ({"inputs": {}}, "jobs.x.component", "required"),
        ({"type": "pipeline", **STEP, "inputs": {"data": {"path": "a"}}}, "jobs.x.type", "command"),
        ({"type": "sweep", "trial": "a"}, "jobs.x.type", "not supported"),
        ({"type": "parallel"}, "jobs.x.type", "not supported"),
        ({**STEP, "limits": {"timeout": 3}}, "jobs.x.limits", "ignore"),
        ({**STEP, "colour": "red"}, "jobs.x.colour", "Unknown"),
        ({**STEP, "resources": {"instance_count": 0}}, "jobs.x.resources.instance_count", "whole number"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_place(step, target, reason):
    with pytest.raises(Problem) as refused:
        read(with_step("x", step))
    assert reason in refused.value.message
    assert refused.value.target == target


def test_an_output_that_nobody_writes_is_refused():
    with pytest.raises(Problem, match="no step writes it"):
        read(pipeline(outputs={"scores": DATA, "other": DATA}))


def test_an_optional_input_cannot_feed_a_required_one():
    with pytest.raises(Problem, match="optional"):
        read(pipeline(inputs={"input_data": {**DATA, "optional": True}, "n": {"type": "integer", "default": 1}}))


def test_a_cycle_is_named():
    document = pipeline(outputs={}, inputs={})
    document["jobs"] = {
        name: {"component": "azureml:prepare:1", "inputs": {"data": f"${{{{parent.jobs.{other}.outputs.prepared}}}}"}}
        for name, other in (("a", "b"), ("b", "c"), ("c", "b"))
    }
    with pytest.raises(Problem) as refused:
        read(document)
    assert "b → c → b" in refused.value.message or "c → b → c" in refused.value.message


OUTER = {
    "type": "pipeline",
    "inputs": {"raw": DATA},
    "outputs": {"result": DATA},
    "jobs": {
        "prep": {"component": "azureml:prepare:1", "inputs": {"data": "${{parent.inputs.raw}}"}},
        "inner": {
            "type": "pipeline",
            "component": "azureml:inner:1",
            "inputs": {"input_data": "${{parent.jobs.prep.outputs.prepared}}"},
            "outputs": {"scores": "${{parent.outputs.result}}"},
            "compute": "azureml:big",
        },
        "again": {
            "type": "pipeline",
            "component": "azureml:inner:1",
            "inputs": {"input_data": "${{parent.jobs.inner.outputs.scores}}", "n": "7"},
        },
    },
}


def test_nested_pipelines_are_flattened():
    graph = read(OUTER, {"azureml:inner:1": normalise(pipeline())})
    assert set(graph.order()) == {"prep", "inner.prep", "inner.score", "again.prep", "again.score"}
    assert graph.steps["inner.prep"].inputs == {"data": StepOutput("prep", "prepared")}
    assert graph.steps["inner.score"].inputs["n"] == Literal(2)
    assert graph.steps["inner.score"].outputs["scores"].parent == "result"
    assert graph.steps["again.prep"].inputs == {"data": StepOutput("inner.score", "scores")}
    assert graph.steps["again.score"].inputs["n"] == Literal(7)
    assert graph.steps["again.score"].outputs["scores"].parent == ""
    assert graph.steps["inner.prep"].compute == "azureml:big"


def chain_of(depth):
    """Components, each a pipeline around the one before."""
    made = {"azureml:p1:1": normalise(pipeline())}
    for number in range(2, depth + 1):
        made[f"azureml:p{number}:1"] = normalise(
            {
                "type": "pipeline",
                "inputs": {"input_data": DATA},
                "outputs": {"scores": DATA},
                "jobs": {
                    "in": {
                        "component": f"azureml:p{number - 1}:1",
                        "inputs": {"input_data": "${{parent.inputs.input_data}}"},
                        "outputs": {"scores": "${{parent.outputs.scores}}"},
                    }
                },
            }
        )
    return made


def test_pipelines_nest_five_deep_and_no_deeper():
    made = chain_of(6)
    graph = parse(made["azureml:p5:1"], lambda reference, field: made.get(reference) or find(reference, field))
    assert graph.order() == ("in.in.in.in.prep", "in.in.in.in.score")
    assert graph.steps["in.in.in.in.score"].outputs["scores"].parent == "scores"
    with pytest.raises(Problem, match="5 deep"):
        parse(made["azureml:p6:1"], lambda reference, field: made.get(reference) or find(reference, field))


def test_a_pipeline_in_a_pipeline_in_a_pipeline_is_refused_before_it_is_read():
    document = pipeline()
    for _ in range(150):
        document = {"type": "pipeline", "jobs": {"a": {"component": document}}}
    with pytest.raises(Problem, match="5 deep"):
        normalise(document)


def test_steps_cannot_be_multiplied_without_bound():
    """Each level holds the one below many times: refused before it is unfolded."""
    made = {"azureml:p1:1": normalise(pipeline(outputs={}, jobs={"prep": pipeline()["jobs"]["prep"]}))}
    for number in range(2, 5):
        steps = {
            f"s{each}": {
                "component": f"azureml:p{number - 1}:1",
                "inputs": {"input_data": "${{parent.inputs.input_data}}"},
            }
            for each in range(300)
        }
        made[f"azureml:p{number}:1"] = normalise({"type": "pipeline", "inputs": {"input_data": DATA}, "jobs": steps})
    with pytest.raises(Problem) as refused:
        parse(made["azureml:p4:1"], lambda reference, field: made.get(reference) or find(reference, field))
    assert refused.value.code == "limit"


def test_a_long_chain_is_no_deep_recursion():
    jobs = {"s0": {"component": "azureml:prepare:1", "inputs": {"data": {"path": "a"}}}}
    for number in range(1, 3000):
        source = f"${{{{parent.jobs.s{number - 1}.outputs.prepared}}}}"
        jobs[f"s{number}"] = {"component": "azureml:prepare:1", "inputs": {"data": source}}
    graph = read({"type": "pipeline", "jobs": dict(reversed(jobs.items()))})
    assert graph.order() == tuple(f"s{number}" for number in range(3000))


@st.composite
def wirings(draw, *, forward):
    """For each step, the steps it reads from; with `forward` only earlier ones."""
    count = draw(st.integers(2, 8))
    return [
        sorted(draw(st.sets(st.integers(0, number - 1 if forward else count - 1), max_size=3)))
        if number or not forward
        else []
        for number in range(count)
    ]


def graph_of(wiring, names):
    steps = {}
    for number, sources in enumerate(wiring):
        inputs = {f"i{each}": StepOutput(names[each], "o") for each in sources}
        steps[names[number]] = Step(names[number], "azureml:c:1", inputs)
    return Graph({}, {}, dict(sorted(steps.items())))


@given(wiring=wirings(forward=True), seed=st.randoms(use_true_random=False))
def test_each_step_comes_after_what_it_reads(wiring, seed):
    names = [f"s{each}" for each in range(len(wiring))]
    seed.shuffle(names)
    graph = graph_of(wiring, names)
    order = graph.order()
    assert sorted(order) == sorted(names)
    for name in order:
        assert all(order.index(each) < order.index(name) for each in graph.steps[name].after())


@given(wiring=wirings(forward=False))
def test_every_cycle_is_found_and_is_one(wiring):
    names = [f"s{each}" for each in range(len(wiring))]
    graph = graph_of(wiring, names)

    def reaches(start):
        seen, waiting = set(), [start]
        while waiting:
            for each in graph.steps[waiting.pop()].after() - seen:
                seen.add(each)
                waiting.append(each)
        return seen

    if not any(name in reaches(name) for name in names):
        graph.order()
        return
    with pytest.raises(Problem) as refused:
        graph.order()
    path = refused.value.params["reason"].split(": ")[1].split(" → ")
    assert path[0] == path[-1]
    assert all(before in graph.steps[after].after() for before, after in pairwise(path))


@given(wiring=wirings(forward=True), failing=st.sets(st.integers(0, 7)), carry_on=st.booleans())
def test_running_what_is_ready_ends_with_every_step_accounted_for(wiring, failing, carry_on):
    names = [f"s{each}" for each in range(len(wiring))]
    graph = graph_of(wiring, names)
    done, failed, skipped = set(), set(), []
    for _ in range(len(names) + 1):
        runnable, skipped = graph.ready(done, failed, continue_on_step_failure=carry_on)
        if not runnable:
            break
        name = runnable[0]
        assert graph.steps[name].after() <= done
        (failed if int(name[1:]) in failing else done).add(name)
    assert done | failed | set(skipped) == set(names)
    assert not done & set(skipped)
    assert not failed & set(skipped)
    assert carry_on or len(failed) <= 1

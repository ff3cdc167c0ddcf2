"""Pipelines from end to end: real processes, real files (spec 7.4 and 13.16)."""

import os

import pytest

from apps.batch import domain
from apps.batch.domain import pipelines
from apps.batch.engine import pipeline
from apps.batch.enums import JobState
from apps.batch.models import Job, MiniBatch
from apps.batch.users import users_of
from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import Lease, Operation, OperationState
from apps.registry.domain import register_component
from apps.registry.models import ComponentVersion
from tests.batch.pipes import (
    DATA,
    PIPELINE,
    component,
    deploy,
    ended,
    folder,
    prepare_and_score,
    run,
    steps,
    text,
    words,
)

DONE, REUSED = (JobState.COMPLETED, True), (JobState.COMPLETED, False)


@pytest.fixture
def flow(batch):
    prepare_and_score(batch)
    batch.agent()
    return batch


def chain(batch, *, broken, compute=None, **settings):
    """a → b, and c by itself; `broken` fails. `compute`: of steps that have their own."""
    batch.cluster(idle_s=60)
    for name in "abc":
        command = "exit 3" if name == broken else "echo ran > ${{outputs.out}}/x"
        inputs = {"data": DATA} if name == "b" else {}
        body = {"type": "command", "command": f"{command} # {name}", "inputs": inputs, "outputs": {"out": None}}
        component(batch, name, body)
    jobs = {name: {"component": f"azureml:{name}:1"} for name in "abc"}
    for name, cluster in (compute or {}).items():
        jobs[name]["compute"] = cluster
    jobs["b"]["inputs"] = {"data": "${{parent.jobs.a.outputs.out}}"}
    return deploy(batch, component(batch, "chain", {"type": "pipeline", "jobs": jobs}), **settings)


def test_steps_run_in_order_with_a_literal_default_and_a_bound_output(flow):
    job = ended(flow, run(flow, {"input_data": folder(flow.files(3, text="file {number}\n"))}))
    assert steps(job) == {"prep": DONE, "score": DONE}
    assert job.outputs["scores"]["uri"] == flow.uri(f"azureml/{job.name}/scores")
    assert text(flow, job, "scores", "all.txt") == "FILE 0\nFILE 1\nFILE 2\nmode append\n"
    assert (job.total, job.done, job.failed) == (2, 2, 0)


def test_literals_of_the_caller_and_an_output_where_the_caller_wants_it(flow):
    inputs = {"input_data": folder(flow.files(1)), "score_mode": words("replace"), "extra": words("more")}
    job = ended(flow, run(flow, inputs, outputs={"scores": folder(flow.uri("mine/here"))}))
    assert (flow.blobs / "mine/here/all.txt").read_text().endswith("mode replace extra more\n")
    assert job.outputs["scores"]["uri"] == flow.uri("mine/here")
    again = ended(
        flow,
        run(flow, inputs | {"score_mode": words("x")}, outputs={"scores": folder(flow.uri("mine/here"))}),
        JobState.FAILED,
    )
    assert again.error["code"] == "step-failed"
    assert "Nothing is ever overwritten" in again.error["message"]


def test_the_same_again_runs_nothing_and_a_changed_literal_only_what_follows(flow):
    inputs = {"input_data": folder(flow.files(2))}
    first = ended(flow, run(flow, inputs))
    second = ended(flow, run(flow, inputs))
    assert steps(second) == {"prep": REUSED, "score": REUSED}
    assert second.outputs["scores"]["uri"] == first.outputs["scores"]["uri"]
    assert not Operation.objects.filter(
        kind="job.finish", payload__job__in=map(str, second.children.values_list("pk", flat=True))
    ).exists()
    third = ended(flow, run(flow, inputs | {"score_mode": words("replace")}))
    assert steps(third) == {"prep": REUSED, "score": DONE}
    assert text(flow, third, "scores", "all.txt").endswith("mode replace\n")
    deploy(flow, ComponentVersion.objects.get(asset__name="flow"), name="fresh", force_rerun=True)
    assert steps(ended(flow, run(flow, inputs, deployment="fresh"))) == {"prep": DONE, "score": DONE}


def test_changed_data_and_outputs_that_are_gone_are_not_reused(flow):
    inputs = {"input_data": folder(flow.files(2))}
    first = ended(flow, run(flow, inputs))
    path = flow.blobs / "in" / "f000000.txt"
    path.write_text("7\n")  # as long as before
    os.utime(path, ns=(1, 1))
    assert steps(ended(flow, run(flow, inputs))) == {"prep": DONE, "score": DONE}
    os.utime(path, ns=(1, 1))
    latest = ended(flow, run(flow, inputs))
    assert steps(latest) == {"prep": REUSED, "score": REUSED}
    for job in (first, latest):
        target = flow.blobs / job.outputs["scores"]["uri"].partition("/paths/")[2] / "all.txt"
        target.unlink()
        target.parent.rmdir()
    assert steps(ended(flow, run(flow, inputs))) == {"prep": REUSED, "score": DONE}


def test_steps_that_do_not_depend_on_a_failed_one_go_on(batch):
    chain(batch, broken="a")
    batch.agent()
    job = ended(batch, run(batch), JobState.FAILED)
    assert {each.step: each.state for each in job.children.all()} == {"a": "Failed", "b": "Canceled", "c": "Completed"}
    assert "Step a did not complete: The command ended with exit code 3." in job.error["message"]
    assert job.children.get(step="b").error["code"] == "step-skipped"
    assert (job.done, job.failed) == (1, 2)


def test_without_continue_on_step_failure_a_failed_step_stops_the_others(batch):
    solo = batch.cluster("solo")
    chain(batch, broken="a", compute={"c": "solo"}, continue_on_step_failure=False, default_compute="cpu")
    job = run(batch)
    type(solo).objects.filter(pk=solo.pk).update(max_nodes=0)  # c waits for a node that never comes
    batch.agent()
    ended(batch, job, JobState.FAILED)
    assert {each.step: each.state for each in job.children.all()} == {"a": "Failed", "b": "Canceled", "c": "Canceled"}
    assert job.error["target"] == "jobs.a"


def test_cancel_stops_every_step(batch):
    sleeper = {"type": "command", "command": "sleep 100"}
    component(batch, "sleeper", sleeper)
    jobs = {"one": {"component": "azureml:sleeper:1"}, "two": {"component": "azureml:sleeper:1"}}
    deploy(batch, component(batch, "both", {"type": "pipeline", "jobs": jobs}))
    batch.agent()
    job = run(batch)
    batch.until(lambda: job.children.filter(state=JobState.RUNNING).exists())
    domain.cancel(job=job, actor=batch.actor)
    ended(batch, job, JobState.CANCELED)
    assert {each.state for each in job.children.all()} == {JobState.CANCELED}


def test_a_nested_pipeline_runs_as_part_of_the_outer_one(flow):
    outer = {
        "type": "pipeline",
        "inputs": {"raw": DATA},
        "outputs": {"out": DATA},
        "jobs": {
            "inner": {
                "component": "azureml:flow:1",
                "inputs": {"input_data": "${{parent.inputs.raw}}", "score_mode": "nested"},
                "outputs": {"scores": "${{parent.outputs.out}}"},
            }
        },
    }
    deploy(flow, component(flow, "outer", outer), name="nested")
    job = ended(flow, run(flow, {"raw": folder(flow.files(1))}, deployment="nested"))
    assert steps(job) == {"inner.prep": DONE, "inner.score": DONE}
    assert text(flow, job, "out", "all.txt") == "0\nmode nested\n"


def test_advance_is_the_same_however_often_and_after_a_lost_call(flow):
    job = run(flow, {"input_data": folder(flow.files(1))})
    flow.until(lambda: Job.objects.get(pk=job.pk).state == JobState.RUNNING)
    for _ in range(5):
        pipeline.advance(job.pk)
    assert job.children.count() == 1
    ended(flow, job)
    for _ in range(3):
        pipeline.advance(job.pk)
    assert job.children.count() == 2


@pytest.mark.parametrize("canceled", [False, True])
def test_whoever_prepared_it_may_die_before_saying_so(flow, canceled):
    job = run(flow, {"input_data": folder(flow.files(1))})
    (operation,) = Operation.objects.filter(kind="job.prepare")
    operations.run(operation.pk)
    if canceled:
        domain.cancel(job=Job.objects.get(pk=job.pk), actor=flow.actor)
    Operation.objects.filter(pk=operation.pk).update(state=OperationState.QUEUED, cancel_requested=canceled)
    operations.run(operation.pk)
    assert Job.objects.get(pk=job.pk).live
    ended(flow, job, JobState.CANCELED if canceled else JobState.COMPLETED)
    assert not job.children.filter(state__in=JobState.live()).exists()
    assert not Lease.objects.filter(name__startswith="pipeline/").exists()


def test_a_step_that_was_prepared_twice_runs_once(flow):
    job = run(flow, {"input_data": folder(flow.files(1))})
    flow.until(
        lambda: job.children.filter(state=JobState.QUEUED).exists() or job.children.exclude(queued_at=None).exists()
    )
    Operation.objects.filter(kind="job.prepare", state=OperationState.SUCCEEDED).update(state=OperationState.QUEUED)
    ended(flow, job)
    assert set(MiniBatch.objects.values_list("state", "attempt")) == {("done", 1)}


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({}, "InputData.input_data"),
        ({"input_data": words("x")}, "InputData.input_data"),
        ({"input_data": "missing"}, "InputData.input_data"),
        ({"input_data": "here", "nobody": words("x")}, "InputData.nobody"),
        ({"input_data": "here", "score_mode": words("\ud800")}, "InputData.score_mode"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_is_made(batch, inputs, field):
    prepare_and_score(batch)
    uris = {"missing": batch.uri("nowhere"), "here": batch.files(1)}
    given = {name: folder(uris[value]) if isinstance(value, str) else value for name, value in inputs.items()}
    with pytest.raises(Problem) as refused:
        run(batch, given)
    assert refused.value.target == field
    assert Job.objects.count() == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"default_compute": "nowhere"}, "no cluster 'nowhere'"),
        ({"default_compute": ""}, "no default_compute"),
        ({"default_datastore": "nowhere"}, "no datastore"),
        ({"force_rerun": "maybe"}, "true or false"),
        ({"surprise": 1}, "settings.surprise"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(batch, given, told):
    prepare_and_score(batch, **given)
    with pytest.raises(Problem) as refused:
        run(batch, {"input_data": folder(batch.files(1))})
    assert told in refused.value.message
    assert Job.objects.count() == 0


def test_a_component_in_use_says_by_whom(batch):
    prepare_and_score(batch)
    job = run(batch, {"input_data": folder(batch.files(1))})
    assert users_of(ComponentVersion.objects.get(asset__name="score")) == ["component flow:1", f"job {job.name}"]
    assert users_of(ComponentVersion.objects.get(asset__name="flow")) == ["batch deployment pipes/flow"]


def test_a_pipeline_of_another_workspace_is_not_there(batch):
    other = type(batch.workspace).objects.create(name="other")
    prepare_and_score(batch)
    reference = "azureml:flow:1"
    with pytest.raises(Problem, match="there is no flow:1"):
        pipelines.submit(
            workspace=other, document={"jobType": "Pipeline", "componentId": reference}, name="", actor=batch.actor
        )


def sent(batch, **changes):
    jobs = PIPELINE["jobs"]
    jobs = {"prep": jobs["prep"], "score": jobs["score"] | {"inputs": {**jobs["score"]["inputs"], "extra": "7"}}}
    return {
        "jobType": "Pipeline",
        "displayName": "by itself",
        "inputs": {
            "input_data": {"jobInputType": "uri_folder", "uri": batch.uri("in")},
            "score_mode": {"jobInputType": "literal", "value": "sent"},
        },
        "outputs": {"scores": {"jobOutputType": "uri_folder", "mode": "Upload"}},
        "jobs": jobs,
        "settings": {"default_compute": "cpu", "_source": "YAML.JOB"},
        **changes,
    }


def test_steps_in_a_circle_are_refused_before_anything_is_made(flow):
    looped = {
        "a": {"component": "azureml:prepare:1", "inputs": {"data": "${{parent.jobs.b.outputs.prepared}}"}},
        "b": {"component": "azureml:prepare:1", "inputs": {"data": "${{parent.jobs.a.outputs.prepared}}"}},
    }
    document = sent(flow, jobs=looped, outputs={}, inputs={})
    with pytest.raises(Problem) as cycle:
        pipelines.submit(workspace=flow.workspace, document=document, name="", actor=flow.actor)
    assert "wait for each other" in cycle.value.message
    assert Job.objects.count() == 0


def test_a_job_sent_by_itself_becomes_a_component_again(flow):
    flow.files(1)
    job = pipelines.submit(workspace=flow.workspace, document=sent(flow), name="mine", actor=flow.actor)
    with pytest.raises(Problem) as early:
        pipelines.from_job(flow.workspace, "mine")
    assert early.value.code == "conflict"
    ended(flow, job)
    assert text(flow, job, "scores", "all.txt") == "0\nmode sent extra 7\n"
    made, _ = register_component(
        workspace=flow.workspace, name="again", document={"type": "pipeline", "sourceJobId": "mine"}, actor=flow.actor
    )
    assert made.spec["inputs"]["score_mode"]["default"] == "sent"
    deploy(flow, made, name="again")
    second = ended(flow, run(flow, {"input_data": folder(flow.uri("in"))}, deployment="again"))
    assert steps(second) == {"prep": REUSED, "score": REUSED}


def test_literals_on_the_wire_are_text_and_become_what_steps_declare(flow):
    counts = {
        "type": "command",
        "command": "echo ${{inputs.n}} ${{inputs.on}} > ${{outputs.out}}",
        "inputs": {"n": {"type": "integer", "min": 1}, "on": {"type": "boolean"}},
        "outputs": {"out": {"type": "uri_file"}},
    }
    component(flow, "counts", counts)
    bound = {"n": "${{parent.inputs.n}}", "on": "${{parent.inputs.on}}"}
    step = {"component": "azureml:counts:1", "inputs": bound, "outputs": {"out": "${{parent.outputs.out}}"}}
    document = {
        "jobType": "Pipeline",
        "inputs": {"n": {"jobInputType": "literal", "value": "10"}, "on": {"jobInputType": "literal", "value": "true"}},
        "outputs": {"out": {"jobOutputType": "uri_file"}},
        "jobs": {"only": step},
        "computeId": "azureml:cpu",
    }
    job = ended(flow, pipelines.submit(workspace=flow.workspace, document=document, name="", actor=flow.actor))
    assert text(flow, job, "out", "") == "10 True\n"

"""One step's command: what it is given, what becomes of what it writes, how it may end."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from apps.batch.engine import claims, joblogs, nodes
from apps.batch.enums import JobState, MiniBatchState
from apps.batch.models import Job
from apps.core.errors import Problem
from apps.registry import storage
from apps.registry.domain import register_data, register_model
from apps.registry.pipelines.command import expand
from tests.batch.pipes import DATA, component, deploy, deploy_one, ended, folder, one_step, run, text, words

OUT = {"out": {"type": "uri_folder"}}
FILE = {"out": {"type": "uri_file"}}
STRING = {"type": "string"}


def only(job):
    return job.children.get(step="only")


def test_code_is_where_the_command_runs_and_its_environment_comes_first(batch):
    code = batch.code(
        "import os, sys\nprint(sys.prefix)\nprint(os.environ['COLOUR'])\nopen(sys.argv[1], 'w').write('hi')\n"
    )
    step, outer = one_step("python score.py ${{outputs.out}}", outputs=FILE, code=f"azureml:code:{code.version}")
    component(batch, "only", step)
    outer["jobs"]["only"]["environment_variables"] = {"COLOUR": "blue"}
    deploy(batch, component(batch, "outer", outer))
    batch.agent()
    job = ended(batch, run(batch))
    assert text(batch, job, "out", "") == "hi"
    child = only(job)
    name = next(name for name, _size in joblogs.tree(child) if name.endswith("process0.stdout.txt"))
    prefix, colour = joblogs.read(child, name)[0].split()
    assert Path(child.launch["argv"][0]).parent.parent == Path(prefix)
    assert colour == "blue"


HOSTILE = "$(touch {0}/a); `touch {0}/b`; ' \" \\ ; touch {0}/c # $HOME ${{{{inputs.x}}}} é\n$[[ ]] \x1b * ~"


def test_a_hostile_literal_stays_text_wherever_it_stands(batch, tmp_path):
    value = HOSTILE.format(tmp_path)
    command = """printf %s ${{inputs.x}} > ${{outputs.out}}/bare; printf %s "a ${{inputs.x}}" > ${{outputs.out}}/double
printf %s 'a ${{inputs.x}}' > ${{outputs.out}}/single
printf %s "$(printf %s ${{inputs.x}})" > ${{outputs.out}}/nested"""
    tmp_path.chmod(0o777)
    deploy_one(batch, command, inputs={"x": STRING}, outputs=OUT)
    batch.agent()
    job = ended(batch, run(batch, {"x": words(value)}))
    found = {name: text(batch, job, "out", name) for name in ("bare", "double", "single", "nested")}
    assert found == {"bare": value, "double": f"a {value}", "single": f"a {value}", "nested": value}
    assert list(tmp_path.iterdir()) == []


def test_values_never_become_part_of_the_script():
    script, variables = expand("echo ${{inputs.x}}", {"x": "; rm"}, {})
    assert (script, variables) == ('echo "${azureml_inputs_x}"', {"azureml_inputs_x": "; rm"})


def test_inputs_are_read_only_and_files_come_alone(batch):
    command = """cat ${{inputs.one}} > ${{outputs.out}}/one; ls "$(dirname ${{inputs.one}})" > ${{outputs.out}}/beside
touch ${{inputs.many}}/new 2> ${{outputs.out}}/refused; ls ${{inputs.many}} > ${{outputs.out}}/many"""
    inputs = {"one": {"type": "uri_file"}, "many": DATA}
    deploy_one(batch, command, inputs=inputs, outputs=OUT)
    uri = batch.files(3)
    batch.agent()
    job = ended(batch, run(batch, {"one": {"type": "UriFile", "uri": f"{uri}/f000001.txt"}, "many": folder(uri)}))
    assert text(batch, job, "out", "one") == "1\n"
    assert text(batch, job, "out", "beside") == "f000001.txt\n"
    assert text(batch, job, "out", "many").split() == ["f000000.txt", "f000001.txt", "f000002.txt"]
    assert not (batch.blobs / "in" / "new").exists()


def test_models_and_data_assets_are_pinned_when_the_job_is_made(batch):
    with storage.scratch() as place:
        (place / "MLmodel").write_text("model")
        tree = storage.adopt(place)
    register_model(
        workspace=batch.workspace, name="heart", tree=tree, actor=batch.actor, type="custom_model", path="MLmodel"
    )
    uri = batch.files(1)
    register_data(workspace=batch.workspace, name="rows", type="uri_folder", uri=uri, actor=batch.actor)
    inputs = {"model": {"type": "custom_model"}, "rows": DATA}
    step, outer = one_step("cat ${{inputs.model}} ${{inputs.rows}}/* > ${{outputs.out}}", inputs=inputs, outputs=FILE)
    outer["inputs"] = {"rows": DATA}
    outer["jobs"]["only"]["inputs"]["model"] = {"type": "custom_model", "path": "azureml:heart@latest"}
    component(batch, "only", step)
    deploy(batch, component(batch, "outer", outer))
    batch.agent()
    job = ended(batch, run(batch, {"rows": folder("azureml:rows@latest")}))
    assert text(batch, job, "out", "") == "model0\n"
    assert only(job).inputs["model"]["uri"] == "azureml:heart:1"
    assert job.inputs["rows"]["uri"] == "azureml:rows:1"


def test_a_command_that_fails_says_why_and_writes_nothing(batch):
    deploy_one(batch, "echo half > ${{outputs.out}}/x; echo 'no such column: age' >&2; exit 7", outputs=OUT)
    batch.agent()
    job = ended(batch, run(batch), JobState.FAILED)
    child = only(job)
    assert child.error["message"] == "The command ended with exit code 7."
    assert "no such column: age" in child.error["evidence"]
    assert "no such column: age" in job.error["evidence"]
    assert not (batch.blobs / job.outputs["out"]["uri"].partition("/paths/")[2]).exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("true", "did not write its output out"),
        ("ln -s /etc/passwd ${{outputs.out}}", "link or a special file"),
    ],
)
def test_an_output_file_must_be_one(batch, command, told):
    deploy_one(batch, command, outputs=FILE)
    batch.agent()
    job = ended(batch, run(batch), JobState.FAILED)
    assert told in only(job).error["message"]


def test_an_output_folder_may_stay_empty_for_the_next_step(batch):
    component(batch, "nothing", {"type": "command", "command": "true", "outputs": OUT})
    component(
        batch,
        "count",
        {
            "type": "command",
            "command": "ls ${{inputs.data}} | wc -l > ${{outputs.out}}",
            "inputs": {"data": DATA},
            "outputs": FILE,
        },
    )
    jobs = {
        "first": {"component": "azureml:nothing:1"},
        "second": {
            "component": "azureml:count:1",
            "inputs": {"data": "${{parent.jobs.first.outputs.out}}"},
            "outputs": {"out": "${{parent.outputs.out}}"},
        },
    }
    deploy(batch, component(batch, "outer", {"type": "pipeline", "jobs": jobs, "outputs": FILE}))
    batch.agent()
    job = ended(batch, run(batch))
    assert text(batch, job, "out", "").strip() == "0"
    again = ended(batch, run(batch))
    assert {each.reused_from_id is not None for each in again.children.all()} == {True}


def processes(word):
    return [each for each in psutil.process_iter(["cmdline"]) if word in " ".join(each.info["cmdline"] or [])]


def test_a_killed_process_fails_its_step_with_the_reason(batch):
    deploy_one(batch, "exec sleep 98.7", is_deterministic=False)
    batch.agent()
    job = run(batch)
    batch.until(lambda: [each for each in processes("sleep 98.7") if each.name() == "sleep"])
    for each in processes("sleep 98.7"):
        if each.name() == "sleep":
            os.kill(each.pid, signal.SIGKILL)
    ended(batch, job, JobState.FAILED)
    assert "signal 9" in only(job).error["message"] or "exit code 137" in only(job).error["message"]


def test_a_lost_node_leaves_the_command_to_another_one(batch):
    deploy_one(batch, "sleep 2; echo done > ${{outputs.out}}/x", outputs=OUT)
    batch.agent()
    job = run(batch)
    batch.until(
        lambda: only(job).mini_batches.filter(state=MiniBatchState.RUNNING).first() if job.children.exists() else None
    )
    first = only(job).mini_batches.get()
    nodes.lose(only(job).nodes.get(), "a test took it")
    ended(batch, job)
    part = only(job).mini_batches.get()
    assert (part.losses, part.attempt, part.node != first.node) == (1, 1, True)
    assert text(batch, job, "out", "x") == "done\n"
    assert claims.exhausted(only(job))


def test_several_nodes_for_one_command_are_refused_with_the_reason(batch):
    deploy_one(batch, "true", resources={"instance_count": 2})
    with pytest.raises(Problem, match="one node"):
        run(batch)
    assert Job.objects.count() == 0

"""The same engine with MLflow models, with files of a data asset, and in containers (spec 7.3)."""

import csv
import shutil
import warnings

import pandas as pd
import pytest

from apps.batch import domain
from apps.batch.engine import joblogs
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.compute import domain as compute
from apps.compute.models import WorkspaceCompute
from apps.registry import storage
from apps.registry.domain import register_data, register_model
from apps.registry.enums import ModelType
from tests.batch.pipes import DATA, deploy_one, ended, folder, run, text

NAMES = "def init(): pass\ndef run(files): return [__import__('os').path.basename(f) for f in files]\n"


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    """An MLflow model that doubles the column x."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow") / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no type hints

        class Doubling(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return [2 * value for value in model_input["x"]]

        mlflow.pyfunc.save_model(folder, python_model=Doubling(), pip_requirements=["mlflow", "pandas", "pyarrow"])
    return folder


def register(batch, folder):
    with storage.scratch() as scratch:
        shutil.copytree(folder, scratch / "model")
        tree = storage.adopt(scratch)
    return register_model(
        workspace=batch.workspace, name="doubling", tree=tree, path="model", type=ModelType.MLFLOW, actor=batch.actor
    )[0]


def test_an_mlflow_model_without_code_and_its_columns(batch, doubling):
    batch.deployment(None, model=register(batch, doubling), mini_batch_size=2, timeout_ms=120_000)
    place = batch.blobs / "tables"
    place.mkdir(parents=True)
    pd.DataFrame({"x": [1, 2, 3]}).to_csv(place / "a.csv", index=False)
    pd.DataFrame({"x": [10]}).to_parquet(place / "b.parquet")
    (place / "deeper").mkdir()
    (place / "deeper" / "not-looked-into.csv").write_text("x\n1\n")
    batch.agent()
    job = batch.completed(batch.submit(batch.uri("tables")), seconds=240)
    assert (job.files, job.rows) == (2, 4)
    rows = [tuple(row) for row in csv.reader(batch.lines(job))]
    assert rows == [("0", "2", "a.csv"), ("1", "4", "a.csv"), ("2", "6", "a.csv"), ("0", "20", "b.parquet")]


def test_a_file_that_mlflow_models_cannot_have_fails_the_job_before_any_node(batch, doubling):
    batch.deployment(None, model=register(batch, doubling))
    uri = batch.files(2, folder="mixed", suffix=".avro")
    job = batch.ended(batch.submit(uri))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "input-type")
    assert "File type 'avro' is not supported" in job.error["message"]
    assert job.cluster.nodes.count() == 0


def test_a_data_asset_and_a_single_file_as_input(batch):
    batch.deployment()
    batch.files(3)
    batch.agent()
    register_data(workspace=batch.workspace, name="leaves", uri=batch.uri("in"), type="uri_folder", actor=batch.actor)
    assert len(batch.lines(batch.completed(batch.submit("azureml:leaves@latest")))) == 3
    one = batch.completed(batch.submit(batch.uri("in/f000001.txt"), kind="UriFile"))
    assert batch.lines(one) == ["f000001.txt"]
    results = f"azureml://jobs/{one.name}/outputs/score/paths/predictions.csv"
    again = batch.completed(batch.submit(results, kind="UriFile"))
    assert batch.lines(again) == ["predictions.csv"]


def test_an_output_that_is_there_already_is_never_overwritten(batch):
    batch.deployment()
    uri = batch.files(2)
    batch.agent()
    first = batch.completed(batch.submit(uri))
    spec = domain.JobSpec(
        inputs={"data": {"type": "UriFolder", "uri": uri}},
        outputs={"score": {"type": "UriFolder", "uri": first.outputs["score"]["uri"]}},
    )
    second, _ = domain.invoke(endpoint=first.endpoint, deployment="", spec=spec, actor=batch.actor)
    batch.ended(second)
    assert (second.state, second.error["code"]) == (JobState.FAILED, "output-exists")
    assert len(batch.lines(first)) == 2


def test_links_in_a_scripts_own_output_are_refused(batch):
    script = (
        "import os\ndef init(): pass\ndef run(files):\n"
        "    os.symlink('/etc/hostname', os.environ['AZUREML_BI_OUTPUT_PATH'] + '/mine')\n    return files\n"
    )
    batch.deployment(script, output_action="SummaryOnly")
    batch.agent()
    job = batch.ended(batch.submit(batch.files(1)))
    assert (job.state, job.error["code"]) == (JobState.FAILED, "upload-refused")


@pytest.fixture
def containers(batch, docker_client):
    """The workspace runs its work in containers."""
    compute.seed_targets()
    compute.save_target(
        name="docker", enabled=True, cpu_milli=None, mem_bytes=None, gpus=None, overcommit_cpu=8, overcommit_memory=2,
        actor=batch.actor,
    )  # fmt: skip
    WorkspaceCompute.objects.create(workspace=batch.workspace, target="docker")
    return docker_client.containers


@pytest.mark.docker
def test_the_same_job_in_containers(batch, containers, settings):
    batch.deployment(mini_batch_size=5, max_concurrency_per_instance=2)
    batch.agent()
    job = batch.completed(batch.submit(batch.files(40)), seconds=240)
    assert Job.objects.get(pk=job.pk).launch["driver"] == "docker"
    assert batch.lines(job) == [f"f{number:06d}.txt" for number in range(40)]
    ours = {"label": f"portway.installation={settings.HOME.installation}"}
    assert containers.list(all=True, filters=ours) == []


@pytest.mark.docker
def test_an_mlflow_model_in_containers(batch, containers, doubling):
    batch.deployment(
        None, model=register(batch, doubling), mini_batch_size=1, max_concurrency_per_instance=2, timeout_ms=120_000
    )
    uri = batch.files(6, folder="numbers", text="x\n{number}\n", suffix=".csv")
    batch.agent()
    job = batch.completed(batch.submit(uri), seconds=240)
    assert Job.objects.get(pk=job.pk).launch["driver"] == "docker"
    assert [row[1] for row in csv.reader(batch.lines(job))] == [str(2 * number) for number in range(6)]


@pytest.mark.docker
def test_a_command_in_containers(batch, containers):
    command = "cat ${{inputs.data}}/* > ${{outputs.out}}; python -c 'import sys; print(sys.version_info[:2])'"
    deploy_one(batch, command, inputs={"data": DATA}, outputs={"out": {"type": "uri_file"}})
    uri = batch.files(3)
    batch.agent()
    job = ended(batch, run(batch, {"data": folder(uri)}))
    assert text(batch, job, "out", "") == "0\n1\n2\n"
    step = job.children.get(step="only")
    assert step.launch["driver"] == "docker"
    name = next(name for name, _size in joblogs.tree(step) if name.endswith("process0.stdout.txt"))
    assert joblogs.read(step, name)[0] == "(3, 11)\n"

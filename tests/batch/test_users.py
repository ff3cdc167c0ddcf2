"""A data asset that a job reads stays until the job has ended."""

import pytest

from apps.batch import domain
from apps.batch.enums import JobState
from apps.batch.models import Job
from apps.batch.users import users_of
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster
from tests.batch.pipes import DATA, deploy_one, run
from tests.factories import make_data
from tests.world import tree_of


@pytest.fixture
def tiles(workspace):
    tree = tree_of(**{"a.txt": "a"})
    return [make_data(workspace, "tiles", version, uri="", tree=tree) for version in ("1", "2")]


@pytest.mark.parametrize("given", ["azureml:tiles:2", "azureml:tiles@latest"])
def test_of_a_scoring_job(workspace, people, tiles, given):
    blue = make_batch_deployment(make_batch_endpoint(workspace), cluster=make_cluster(workspace))
    spec = domain.JobSpec(inputs={"data": {"type": "UriFolder", "uri": given}})
    job, _new = domain.invoke(endpoint=blue.endpoint, deployment="", spec=spec, actor=people["olga"])
    assert job.inputs["data"]["uri"] == "azureml:tiles:2"
    assert users_of(tiles[1]) == [f"job {job.name}"]
    assert users_of(tiles[0]) == []
    Job.objects.update(state=JobState.COMPLETED)
    assert users_of(tiles[1]) == []


def test_of_a_pipeline(batch):
    one, two = (make_data(batch.workspace, "tiles", version, uri=batch.files(1)) for version in ("1", "2"))
    deploy_one(batch, "ls ${{inputs.x}}", inputs={"x": DATA})
    job = run(batch, {"x": {"type": "UriFolder", "uri": "azureml:tiles:1"}})
    assert users_of(one) == [f"job {job.name}"]
    assert users_of(two) == []

"""What a review found: each was broken once."""

import time

import pytest

from apps.batch import domain
from apps.batch.engine import lifecycle, nodes
from apps.batch.enums import JobState, MiniBatchState, NodeState
from apps.batch.models import Job, Node
from apps.core import operations
from apps.core.errors import Problem
from apps.core.models import Operation, OperationState
from apps.registry.domain import register_environment

BAD = "import os\ndef init(): pass\ndef run(files):\n    raise ValueError('always')\n"


def test_a_job_whose_environment_failed_cannot_be_retried_and_stops_no_other(batch):
    broken, _ = register_environment(
        workspace=batch.workspace, name="broken", conda_file="dependencies: [{pip: [no-such-package-9x==9]}]\n",
        actor=batch.actor,
    )  # fmt: skip
    deployment = batch.deployment()
    type(deployment).objects.filter(pk=deployment.pk).update(environment=broken)
    job = batch.ended(batch.submit(batch.files(2)), seconds=120)
    assert job.state == JobState.FAILED
    with pytest.raises(Problem) as refused:
        domain.retry_failed(job=job, actor=batch.actor)
    assert refused.value.code == "job-ended"


def test_two_retries_at_once_count_once(batch):
    batch.deployment(BAD)
    batch.agent()
    job = batch.ended(batch.submit(batch.files(2)))
    stale = Job.objects.select_related("workspace", "cluster").get(pk=job.pk)
    domain.retry_failed(job=Job.objects.select_related("workspace", "cluster").get(pk=job.pk), actor=batch.actor)
    with pytest.raises(Problem):
        domain.retry_failed(job=stale, actor=batch.actor)
    batch.ended(job)
    assert (job.failed, job.total) == (2, 2)


def test_a_node_that_was_half_lost_is_lost_altogether(batch):
    cluster = batch.cluster(min_nodes=1)
    nodes.schedule()
    Node.objects.update(host="gone", state=NodeState.IDLE, holder="", lease_until=None)
    name = Node.objects.get().name
    nodes.schedule()
    assert not Node.objects.filter(name=name).exists()
    assert cluster.nodes.count() == 1


def test_the_last_word_of_a_finish_that_was_given_up_is_said_again(batch, settings):
    batch.deployment()
    batch.agent()
    job = batch.completed(batch.submit(batch.files(2)))
    long_ago = job.created_at
    Job.objects.filter(pk=job.pk).update(state=JobState.FINALIZING, ended_at=None, modified_at=long_ago)
    Operation.objects.filter(kind="job.finish").update(state=OperationState.FAILED)
    nodes.FINISH_WAIT_S, before = 0.0, nodes.FINISH_WAIT_S
    try:
        batch.ended(job)
    finally:
        nodes.FINISH_WAIT_S = before
    assert job.state in JobState.ended()


def test_a_finish_that_comes_late_does_not_end_a_job_that_runs_again(batch):
    batch.deployment(BAD)
    batch.agent()
    job = batch.ended(batch.submit(batch.files(1)))
    domain.retry_failed(job=Job.objects.select_related("workspace", "cluster").get(pk=job.pk), actor=batch.actor)
    lifecycle.end(Job.objects.select_related("workspace").get(pk=job.pk), JobState.FAILED, expect=[JobState.FINALIZING])
    assert Job.objects.get(pk=job.pk).live


def test_prepare_that_is_run_again_after_the_job_is_queued_changes_nothing(batch):
    batch.deployment()
    job = batch.submit(batch.files(2))
    batch.turn()
    operation = Operation.objects.get(kind="job.prepare")
    Operation.objects.filter(pk=operation.pk).update(state=OperationState.QUEUED, finished_at=None)
    operations.run(operation.pk)
    assert Job.objects.get(pk=job.pk).state in {JobState.QUEUED, JobState.RUNNING}
    batch.agent()
    batch.completed(job)


def test_a_driver_that_is_slow_to_start_keeps_its_lease(batch, monkeypatch):
    from apps.batch.engine import claims
    from apps.compute.drivers.process import ProcessDriver

    monkeypatch.setattr(claims, "LEASE_S", 2.5)
    start = ProcessDriver.start

    def slow(self, spec):
        time.sleep(6)
        return start(self, spec)

    monkeypatch.setattr(ProcessDriver, "start", slow)
    batch.deployment()
    batch.agent()
    job = batch.completed(batch.submit(batch.files(3)))
    assert set(job.mini_batches.values_list("losses", "state")) == {(0, MiniBatchState.DONE)}

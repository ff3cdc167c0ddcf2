"""Clusters: nodes come and go with the work, in the order of the jobs; low priority gives way (spec 13.17)."""

import contextlib
import os
import signal
import time
from datetime import timedelta

import psutil
import pytest
from django.utils import timezone

from apps.batch import domain
from apps.batch.engine import claims, nodes
from apps.batch.engine.claims import Fenced, Hold
from apps.batch.enums import ClusterTier, JobState, MiniBatchState, NodeState
from apps.batch.models import Job, MiniBatch, Node
from apps.compute import domain as compute
from apps.compute.models import ComputeTarget, Reservation
from apps.core.errors import Problem
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_job, make_node

SLOW = "import time\ndef init(): pass\ndef run(files):\n    time.sleep(0.3)\n    return files\n"
STUCK = "import time\ndef init(): pass\ndef run(files):\n    time.sleep(120)\n    return files\n"


def held(cluster):
    return Reservation.objects.filter(owner_key__startswith="node:").count(), cluster.nodes.count()


def test_nodes_from_nothing_to_what_is_needed_and_back(batch):
    cluster = batch.cluster(max_nodes=2, idle_s=1)
    batch.deployment(SLOW, cluster=cluster, instance_count=2)
    assert held(cluster) == (0, 0)
    job = batch.submit(batch.files(12))
    batch.agent()
    batch.until(lambda: cluster.nodes.filter(state=NodeState.RUNNING).count() == 2)
    assert held(cluster) == (2, 2)
    batch.completed(job)
    assert len(set(job.mini_batches.values_list("node", flat=True))) == 2
    batch.until(lambda: held(cluster) == (0, 0))


def test_a_minimum_of_nodes_stays(batch):
    cluster = batch.cluster(min_nodes=1, idle_s=0)
    batch.agent()
    batch.until(lambda: cluster.nodes.filter(state=NodeState.IDLE).count() == 1)
    batch.turn()
    assert cluster.nodes.count() == 1


def test_jobs_beyond_capacity_wait_in_the_order_they_came(batch):
    cluster = batch.cluster(max_nodes=1)
    batch.deployment(SLOW, cluster=cluster)
    uri = batch.files(4)
    jobs = [batch.submit(uri) for _ in range(3)]
    batch.agent()
    batch.until(lambda: Job.objects.get(pk=jobs[0].pk).state == JobState.RUNNING)
    assert set(Job.objects.exclude(pk=jobs[0].pk).values_list("state", flat=True)) == {JobState.QUEUED}
    for job in jobs:
        batch.completed(job)
    assert jobs[0].ended_at <= jobs[1].ended_at <= jobs[2].ended_at
    assert jobs[1].started_at >= jobs[0].started_at


def test_without_room_a_job_waits_and_the_cluster_says_why(batch):
    ComputeTarget.objects.filter(name="process").update(mem_bytes=2**20, overcommit_memory=1)
    cluster = batch.cluster()
    batch.deployment(cluster=cluster)
    job = batch.submit(batch.files(1))
    batch.agent()
    batch.until(lambda: type(cluster).objects.get(pk=cluster.pk).waiting)
    cluster.refresh_from_db()
    assert cluster.waiting["code"] == "no-capacity"
    assert Job.objects.get(pk=job.pk).state == JobState.QUEUED
    ComputeTarget.objects.filter(name="process").update(mem_bytes=None)
    batch.completed(job)
    cluster.refresh_from_db()
    assert cluster.waiting is None


def test_the_room_of_a_node_moves_to_where_the_job_runs(workspace):
    cluster = make_cluster(workspace, max_nodes=1)
    job = make_job(make_batch_deployment(make_batch_endpoint(workspace)), parts=1, state=JobState.QUEUED)
    job.launch["driver"] = "docker"
    job.save()
    node = make_node(
        cluster, state=NodeState.IDLE, host="here", lease_until=timezone.now() + timedelta(hours=1),
        cpu_milli=100, mem_bytes=2**22,
    )  # fmt: skip
    nodes._reserve(node, "process")
    ComputeTarget.objects.filter(name="docker").update(enabled=True, mem_bytes=2**20, overcommit_memory=1)
    nodes.schedule()
    cluster.refresh_from_db()
    assert (cluster.waiting["code"], compute.driver_of(node.owner_key)) == ("no-capacity", "process")
    assert Job.objects.get(pk=job.pk).state == JobState.QUEUED

    ComputeTarget.objects.filter(name="docker").update(mem_bytes=2**23)
    nodes.schedule()
    cluster.refresh_from_db()
    assert (cluster.waiting, compute.driver_of(node.owner_key)) == (None, "docker")
    assert Node.objects.get(pk=node.pk).job == job


def test_a_node_is_made_where_its_job_runs(workspace, settings):
    cluster = make_cluster(workspace, max_nodes=2, min_nodes=2)
    job = make_job(make_batch_deployment(make_batch_endpoint(workspace)), parts=1, state=JobState.QUEUED)
    job.launch["driver"] = "docker"
    job.save()
    ComputeTarget.objects.filter(name="docker").update(enabled=True, overcommit_memory=10, overcommit_cpu=10)
    nodes.schedule()
    targets = [compute.driver_of(each.owner_key) for each in cluster.nodes.order_by("created_at")]
    assert targets == ["docker", settings.DEFAULT_DRIVER]


def test_cancel_stops_within_seconds_and_keeps_what_is_done(batch):
    batch.deployment(SLOW)
    job = batch.submit(batch.files(200))
    batch.agent()
    batch.until(lambda: Job.objects.get(pk=job.pk).done >= 2)
    asked = time.monotonic()
    domain.cancel(job=Job.objects.select_related("workspace").get(pk=job.pk), actor=batch.actor)
    batch.ended(job)
    assert job.state == JobState.CANCELED
    assert time.monotonic() - asked < 20  # the bench says how long it takes; this only bounds it
    assert len(batch.lines(job)) == job.done >= 2
    assert not job.mini_batches.filter(state=MiniBatchState.RUNNING).exists()
    with pytest.raises(Problem) as late:
        domain.cancel(job=job, actor=batch.actor)
    assert late.value.code == "job-ended"


def test_cancel_of_a_job_that_waits_costs_no_node(batch):
    batch.deployment()
    job = batch.submit(batch.files(2))
    batch.turn()
    domain.cancel(job=Job.objects.select_related("workspace").get(pk=job.pk), actor=batch.actor)
    batch.ended(job)
    assert job.state == JobState.CANCELED
    assert not job.mini_batches.exclude(attempt=0).exists()


def kill_one(root):
    """Kill the oldest worker program of this installation; whether there was one."""
    lines = {each.pid: " ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])}
    ours = [pid for pid, line in lines.items() if "batch_boot.py" in line and root in line]
    if not ours:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(min(ours), signal.SIGKILL)
        return True
    return False


def test_a_killed_worker_program_costs_attempts_of_its_own_only(batch, settings):
    gate = batch.gate()
    batch.deployment(gate.script, max_retries=3, timeout_ms=gate.LONGEST_S * 1000)
    job = batch.submit(batch.files(8))
    batch.agent()
    batch.until(lambda: Job.objects.get(pk=job.pk).done >= 1)
    batch.until(lambda: kill_one(str(settings.HOME.root)))
    gate.open()
    batch.completed(job)
    assert sorted(batch.lines(job)) == sorted(set(batch.lines(job)))
    assert job.rows == 8


def test_a_host_that_falls_silent_loses_its_node_and_what_it_writes_later(batch):
    cluster = batch.cluster(max_nodes=1)
    batch.deployment(STUCK, cluster=cluster)
    job = batch.submit(batch.files(3))
    batch.turn()
    nodes.schedule()
    node = cluster.nodes.get()
    past = timezone.now() - timedelta(seconds=1)
    values = {"host": "away", "holder": "away:1:1:x", "state": NodeState.RUNNING, "job": job, "lease_until": past}
    Node.objects.filter(pk=node.pk).update(**values)
    hold = Hold(node.name, node.pk, "away:1:1:x", node.token)
    claimed = claims.claim(hold, job, 2)
    assert [each.number for each in claimed] == [0, 1]
    Node.objects.filter(pk=node.pk).update(lease_until=past)
    nodes.schedule()
    assert not Node.objects.filter(pk=node.pk).exists()
    assert set(job.mini_batches.values_list("state", "attempt")) == {(MiniBatchState.QUEUED, 0)}
    assert sorted(job.mini_batches.values_list("losses", flat=True)) == [0, 1, 1]
    with pytest.raises(Fenced):
        claims.commit(hold, job, None, [])
    with pytest.raises(Fenced):
        claims.give_back(hold, claimed)


def test_low_priority_gives_way_and_only_unfinished_work_is_done_again(batch):
    cluster = batch.cluster("spot", tier=ClusterTier.LOW_PRIORITY, max_nodes=2)
    batch.deployment(SLOW, cluster=cluster, instance_count=2)
    job = batch.submit(batch.files(30))
    batch.agent()
    batch.until(lambda: Job.objects.get(pk=job.pk).done >= 4 and cluster.nodes.filter(job=job).count() == 2)
    node = cluster.nodes.order_by("-created_at").first()
    done = set(job.mini_batches.filter(state=MiniBatchState.DONE).values_list("number", "ended_at"))
    nodes.preempt(Node.objects.select_related("cluster__workspace", "job__workspace").get(pk=node.pk))
    assert Job.objects.get(pk=job.pk).live
    batch.completed(job)
    assert done <= set(job.mini_batches.values_list("number", "ended_at"))
    assert len(batch.lines(job)) == 30
    assert MiniBatch.objects.filter(job=job, attempt__gt=1).count() == 0
    cluster.refresh_from_db()
    assert cluster.preempted == 1


def test_when_its_last_node_is_taken_the_job_is_canceled(batch):
    cluster = batch.cluster("spot", tier=ClusterTier.LOW_PRIORITY, max_nodes=1)
    batch.deployment(STUCK, cluster=cluster)
    job = batch.submit(batch.files(3))
    batch.agent()
    batch.until(lambda: cluster.nodes.filter(state=NodeState.RUNNING).exists())
    nodes.preempt(Node.objects.select_related("cluster__workspace", "job__workspace").get(cluster=cluster))
    batch.ended(job)
    assert (job.state, job.error["code"]) == (JobState.CANCELED, "job-preempted")


def test_online_work_takes_the_room_of_low_priority_nodes(batch):
    size = compute.size_of(compute.instance_type("small"))[0]
    room = {"cpu_milli": size.cpu_milli, "mem_bytes": size.mem_bytes, "overcommit_cpu": 1, "overcommit_memory": 1}
    ComputeTarget.objects.filter(name="process").update(**room)
    cluster = batch.cluster("spot", tier=ClusterTier.LOW_PRIORITY, max_nodes=1, min_nodes=1)
    batch.agent()
    batch.until(lambda: cluster.nodes.filter(state=NodeState.IDLE).exists())
    ask = {"workspace": batch.workspace, "target": "process", "size": size, "instances": 1}
    compute.reserve(owner_key="iris/blue", **ask)
    assert Reservation.objects.get().owner_key == "iris/blue"
    batch.until(lambda: not cluster.nodes.filter(host="here").exists())
    with pytest.raises(Problem) as full:  # nothing of low priority is left to take
        compute.reserve(owner_key="iris/green", **ask)
    assert full.value.code == "no-capacity"

"""What the operator does by hand: stop a node, give idle ones back, forget a host that died."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.batch import domain
from apps.batch.engine.launch import OWNER
from apps.batch.enums import NodeState
from apps.batch.models import Host, Job, Node
from apps.compute import domain as compute
from apps.compute.models import Reservation
from apps.core.errors import Problem
from apps.core.models import AuditRecord
from tests.batch.parts import make_batch_deployment, make_batch_endpoint, make_cluster, make_job, make_node
from tests.factories import make_host


def test_a_stopped_node_is_gone_with_its_program_and_its_job_goes_on(batch):
    cluster = batch.cluster(max_nodes=1)
    gate = batch.gate()
    batch.deployment(gate.script, cluster=cluster, timeout_ms=gate.LONGEST_S * 1000)
    job = batch.submit(batch.files(12))
    batch.agent()
    batch.until(lambda: Job.objects.get(pk=job.pk).done >= 2)
    node = cluster.nodes.get()
    domain.stop_node(node=node, reason="it is stuck", actor=batch.actor)
    assert not Reservation.objects.filter(owner_key=node.owner_key).exists()
    batch.until(lambda: cluster.nodes.filter(job=job).exclude(pk=node.pk).exists())
    gate.open()
    batch.completed(job)
    assert (job.rows, len(batch.lines(job))) == (12, 12)
    names = set(job.mini_batches.values_list("node", flat=True))
    assert node.name in names
    assert len(names) == 2
    programs = compute.driver("process").list
    batch.until(lambda: not [each for each in programs(owner=OWNER) if each.name.startswith(node.name)])
    record = AuditRecord.objects.get(action="node.stop")
    assert (record.target, record.detail["node"], record.detail["reason"]) == ("cluster/cpu", node.name, "it is stuck")
    with pytest.raises(Problem) as gone:
        domain.stop_node(node=node, reason="", actor=batch.actor)
    assert gone.value.code == "not-found"


def test_a_host_that_is_stopped_leaves_the_list(batch):
    agent = batch.agent("there")
    batch.until(lambda: Host.objects.filter(name="there", seen_at__gt=timezone.now() - timedelta(seconds=5)).exists())
    agent.stop.set()
    agent.wake.set()
    batch.until(lambda: not Host.objects.filter(name="there").exists())


@pytest.mark.django_db(transaction=True)
def test_idle_nodes_beyond_the_least_go_at_once_and_working_ones_stay(workspace, people):
    cluster = make_cluster(workspace, min_nodes=1, max_nodes=4, idle_s=7200)
    job = make_job(make_batch_deployment(make_batch_endpoint(workspace), cluster=cluster), parts=1)
    make_node(cluster, "busy", state=NodeState.RUNNING, job=job)
    for number in range(3):
        make_node(cluster, f"idle-{number}", idle_since=timezone.now() - timedelta(minutes=number))
    assert domain.give_back_idle(cluster=cluster, actor=people["carl"]) == 3
    assert list(cluster.nodes.values_list("name", flat=True)) == ["busy"]
    make_node(cluster, "idle-4", idle_since=timezone.now())
    Node.objects.filter(name="busy").delete()
    Job.objects.update(state="Completed")
    assert domain.give_back_idle(cluster=cluster, actor=people["carl"]) == 0  # the least it keeps
    found = AuditRecord.objects.filter(action="cluster.shrink").order_by("pk")
    assert [each.detail["nodes"] for each in found] == [3, 0]
    cluster.pk = 0
    with pytest.raises(Problem) as gone:
        domain.give_back_idle(cluster=cluster, actor=None)
    assert gone.value.code == "not-found"


@pytest.mark.django_db
def test_only_a_lost_host_is_forgotten(people):
    alive = make_host("alive")
    lost = make_host("lost", seen_at=timezone.now() - timedelta(minutes=5))
    with pytest.raises(Problem) as refused:
        domain.forget_host(host=alive, actor=people["carl"])
    assert refused.value.code == "conflict"
    domain.forget_host(host=lost, actor=people["carl"])
    assert list(Host.objects.values_list("name", flat=True)) == ["alive"]
    with pytest.raises(Problem) as gone:
        domain.forget_host(host=Host(name="lost"), actor=None)
    assert gone.value.code == "not-found"
    assert AuditRecord.objects.get(action="host.forget").target == "host/lost"

"""Nodes: made when work waits, given to jobs in the order of their arrival, given back when they idle or are needed."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from apps.batch.engine import claims, lifecycle
from apps.batch.enums import ClusterTier, JobState, MiniBatchState, NodeState, ProvisioningState
from apps.batch.models import Cluster, Job, MiniBatch, Node
from apps.batch.settings import JobSettings
from apps.compute import domain as compute
from apps.compute.models import Reservation
from apps.compute.quantities import Size
from apps.core import clock, events, leases
from apps.core.errors import Problem

log = structlog.get_logger(__name__)

LEASE_S = 15.0
HOST_WAIT_S = 60.0  # how long a node may wait for a host before it is given back and said so
FINISH_WAIT_S = 30.0
WAITING = "node-waiting"


def schedule() -> None:
    """Bring every cluster one step nearer to what its jobs need. One cluster's trouble holds up no other."""
    due = Cluster.objects.filter(
        Q(nodes__isnull=False)
        | Q(min_nodes__gt=0)
        | Q(jobs__state__in=(*claims.RUNNING_JOBS, JobState.CANCEL_REQUESTED))
    )
    for cluster in due.select_related("workspace").distinct():
        grant = leases.acquire(f"cluster/{cluster.pk}", holder=leases.new_holder(), ttl_s=LEASE_S)
        if grant is None:
            continue
        try:
            _tend(cluster, grant)
        except Exception:
            log.exception("cluster.failed", cluster=cluster.name)
        finally:
            leases.release(grant)


def _tend(cluster: Cluster, grant: leases.Grant) -> None:
    _lose_silent(cluster)
    _settle_jobs(cluster)
    waiting = _assign(cluster)
    wanted = _wanted(cluster)
    _grow(cluster, wanted, grant, waiting)
    _shrink(cluster, len(wanted))


# -- what was lost


def _lose_silent(cluster: Cluster) -> None:
    """Nodes whose holder has not renewed its lease, and those no host took."""
    now = clock.now()
    for node in cluster.nodes.exclude(host="").filter(Q(lease_until__lt=now) | Q(lease_until=None)):
        lose(node, "its host did not answer")


@transaction.atomic
def lose(node: Node, reason: str) -> None:
    """Give up a node without a word from its host: unfinished mini-batches are queued again."""
    count = claims.take_away(node)
    log.warning("node.lost", node=node.name, host=node.host, requeued=count, reason=reason)
    remove(node)


@transaction.atomic
def remove(node: Node) -> None:
    Node.objects.filter(pk=node.pk).delete()  # first, as everywhere: whoever locks both does it in this order
    compute.release([node.owner_key])
    events.changed(node.cluster.workspace.name, node.cluster.topic)


# -- jobs


def _settle_jobs(cluster: Cluster) -> None:
    """What nobody told: jobs whose last mini-batch ended with its node, and canceled ones without nodes."""
    jobs = cluster.jobs.select_related("workspace", "cluster", "created_by")
    for job in jobs.filter(state__in=claims.RUNNING_JOBS, total__gt=0):
        if claims.exhausted(job) or claims.over_threshold(job, JobSettings.of(job.settings)):
            lifecycle.advanced(job)
    for job in jobs.filter(state=JobState.CANCEL_REQUESTED, nodes__isnull=True):
        lifecycle.finish(job, JobState.CANCELED)
    for job in jobs.filter(
        state=JobState.FINALIZING, modified_at__lt=timezone.now() - timedelta(seconds=FINISH_WAIT_S)
    ):
        lifecycle.finish_again(job)


def _open_jobs(cluster: Cluster) -> list[tuple[Job, int]]:
    """Jobs that could use a node, the oldest first, with how many nodes each can keep busy."""
    found = []
    for job in cluster.jobs.filter(state__in=claims.RUNNING_JOBS).select_related("workspace").order_by("created_at"):
        left = job.mini_batches.filter(state__in=(MiniBatchState.QUEUED, MiniBatchState.RUNNING))
        count = JobSettings.of(job.settings).instance_count
        found.append((job, min(count, left[:count].count())))
    return found


def _assign(cluster: Cluster) -> Problem | None:
    """Idle nodes go to the oldest job that has fewer than it wants; no job overtakes an older one.

    The reason when there is a node, but no room for it where the job has to run.
    """
    idle = list(cluster.nodes.filter(job=None, state=NodeState.IDLE))
    for job, wants in _open_jobs(cluster):
        has = job.nodes.exclude(state=NodeState.PREEMPTED).count()
        while has < wants and idle:
            try:
                has += _give(idle.pop(0), job)
            except Problem as problem:
                return problem
    return None


def _give(node: Node, job: Job) -> bool:
    """Whether the node was free. Raises Problem "no-capacity" or "quota" when its room has to move and cannot."""
    values: dict[str, Any] = {"job": job, "state": NodeState.RUNNING, "token": F("token") + 1, "idle_since": None}
    with transaction.atomic():
        hit = Node.objects.filter(pk=node.pk, job=None, state=NodeState.IDLE).update(**values)
        if hit:
            if (target := _target_of(job)) != compute.driver_of(node.owner_key):
                _reserve(node, target)
            now = timezone.now()
            lifecycle.move(job, JobState.RUNNING, expect=[JobState.QUEUED], started_at=job.started_at or now)
    return bool(hit)


# -- how many there should be


def _wanted(cluster: Cluster) -> list[str]:
    """The target of each node there should be: where its job has to run; "" for one without a job."""
    asked = [_target_of(job) for job, wants in _open_jobs(cluster) for _ in range(wants)]
    return (asked + [""] * (cluster.min_nodes - len(asked)))[: cluster.max_nodes]


def _target_of(job: Job) -> str:
    """Its driver has the name of the target. A job gets its launch before it waits for nodes."""
    return str((job.launch or {})["driver"])


def _grow(cluster: Cluster, wanted: list[str], grant: leases.Grant, problem: Problem | None) -> None:
    """Make the nodes that are missing; `problem`: why those that are there cannot be used."""
    for target in wanted[cluster.nodes.exclude(state=NodeState.PREEMPTED).count() :]:
        if not leases.holds(grant):  # somebody else goes on
            return
        try:
            _make(cluster, target)
        except Problem as found:
            problem = found
            break
    waiting = problem.as_json() if problem else None
    if (
        waiting is None
        and (cluster.waiting or {}).get("code") == WAITING
        and not cluster.nodes.exclude(host="").exists()
    ):
        return  # no host has taken one yet
    if (waiting or {}).get("message") != (cluster.waiting or {}).get("message"):
        Cluster.objects.filter(pk=cluster.pk).update(waiting=waiting)
        events.changed(cluster.workspace.name, cluster.topic)


def _make(cluster: Cluster, target: str) -> None:
    """A node with its room reserved. Raises Problem "no-capacity" or "quota"."""
    instance = compute.instance_type(cluster.instance_type, also=cluster.instance_type)
    size, _notes = compute.size_of(instance)
    if not target:
        target = compute.place(cluster.workspace, needs_container=False, gpus=size.gpus, isolation=instance.isolation)
    name = f"{cluster.name.lower()[:20]}-{uuid.uuid4().hex[:8]}"
    node = Node(cluster=cluster, name=name, cpu_milli=size.cpu_milli, mem_bytes=size.mem_bytes, gpus=size.gpus)
    with transaction.atomic():
        _reserve(node, target)
        node.save()
    events.changed(cluster.workspace.name, cluster.topic)


def _reserve(node: Node, target: str) -> None:
    """Hold the room of a node on a target, in place of what it holds elsewhere."""
    compute.reserve(
        owner_key=node.owner_key,
        workspace=node.cluster.workspace,
        target=target,
        size=Size(cpu_milli=node.cpu_milli, mem_bytes=node.mem_bytes, gpus=node.gpus),
        instances=1,
        preempts=not node.cluster.low_priority,
    )


def _shrink(cluster: Cluster, wanted: int) -> None:
    """Give back nodes that have idled long enough, and those that nobody ever needed after all."""
    now = clock.now()
    spare = cluster.nodes.count() - max(wanted, cluster.min_nodes)
    if cluster.state == ProvisioningState.DELETING:
        spare = cluster.nodes.count()
    long_ago = now - timedelta(seconds=cluster.idle_s if cluster.state != ProvisioningState.DELETING else 0)
    _give_back(cluster, spare, since=long_ago)
    unborn = cluster.nodes.filter(host="", created_at__lt=now - timedelta(seconds=HOST_WAIT_S))
    for node in unborn:
        remove(node)
        Cluster.objects.filter(pk=cluster.pk).update(waiting=Problem(WAITING).as_json())


def _give_back(cluster: Cluster, most: int, *, since: datetime) -> int:
    """Remove up to `most` nodes that have idled since then, the longest idle first; how many went."""
    idle = cluster.nodes.filter(job=None, state=NodeState.IDLE, idle_since__lte=since).order_by("idle_since")
    gone = 0
    for node in list(idle[: max(0, most)]):
        with transaction.atomic():
            if Node.objects.select_for_update().filter(pk=node.pk, job=None, state=NodeState.IDLE).exists():
                remove(node)
                gone += 1
    return gone


def shrink_now(cluster: Cluster) -> int:
    """Give back every idle node that no job wants, whatever the idle time; the minimum stays. How many went."""
    return _give_back(cluster, cluster.nodes.count() - len(_wanted(cluster)), since=clock.now())


# -- low priority


@transaction.atomic
def preempt(node: Node) -> None:
    """Take a low-priority node away now: its room is free at once, its unfinished mini-batches are queued again.

    When it was the last one of its cluster, the job that had it is canceled and must be sent again (spec 7.5).
    """
    hit = Node.objects.filter(pk=node.pk).exclude(state=NodeState.PREEMPTED).update(state=NodeState.PREEMPTED)
    if not hit:
        return
    compute.release([node.owner_key])
    Cluster.objects.filter(pk=node.cluster_id).update(preempted=F("preempted") + 1)
    log.warning("node.preempted", node=node.name, cluster=node.cluster.name)
    others = Node.objects.filter(cluster_id=node.cluster_id).exclude(pk=node.pk).exclude(state=NodeState.PREEMPTED)
    if node.job is not None and not others.exists():
        problem = Problem("job-preempted", cluster=node.cluster.name)
        lifecycle.move(node.job, JobState.CANCEL_REQUESTED, expect=claims.RUNNING_JOBS, error=problem.as_json())
    events.changed(node.cluster.workspace.name, node.cluster.topic)
    if not node.host:
        remove(node)


def make_room(targets: Collection[str], amount: str) -> bool:
    """Preempt the youngest low-priority node that holds some of this amount on these targets; whether there was one.

    For dedicated and online work that lacks room.
    """
    held = Reservation.objects.filter(target__in=targets, owner_key__startswith="node:", **{f"{amount}__gt": 0})
    names = [key.removeprefix("node:") for key in held.values_list("owner_key", flat=True)]
    rows = Node.objects.filter(name__in=names, cluster__tier=ClusterTier.LOW_PRIORITY)
    rows = rows.exclude(state=NodeState.PREEMPTED)
    node = rows.select_related("cluster__workspace", "job__workspace").order_by("-created_at").first()
    if node is None:
        return False
    preempt(node)
    return True


def requeue_of(job: Job) -> int:
    """Mini-batches of an ended job that still count as running are not."""
    return MiniBatch.objects.filter(job=job, state=MiniBatchState.RUNNING).update(state=MiniBatchState.QUEUED)

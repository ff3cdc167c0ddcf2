"""The agent of a worker host: takes nodes that want a host, keeps their leases, runs a thread for each with a job.

One agent runs in every Celery worker. It learns by a message that there may be work, and looks every second anyway.
What an earlier agent of this host left behind (killed, or cut off for too long) is stopped before anything is taken.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import F, Sum

from apps.batch.engine import claims, nodes
from apps.batch.engine.claims import Hold
from apps.batch.engine.commander import Commander
from apps.batch.engine.launch import OWNER
from apps.batch.engine.node_thread import NodeThread
from apps.batch.engine.runner import Runner
from apps.batch.enums import JobType, NodeState
from apps.batch.models import Host, Job, Node
from apps.compute import domain as compute
from apps.compute.drivers.base import DriverUnavailable
from apps.core import clock, leases

log = structlog.get_logger(__name__)

LOOK_S = 1.0
SWEEP_EVERY = 10  # looks
LONGEST_CALL_S = 120.0  # of a driver; a thread that is silent for longer loses its node
SPREAD_S = 5.0  # how long a node waits for the host with the fewest
OVERCOMMIT = 2  # how many times the machine's memory its nodes may have, as other compute


class Agent:
    """Runs until `stop` is set. `wake` ends a pause early."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or settings.NODE_NAME
        self.holder = leases.new_holder()
        self.stop = threading.Event()
        self.wake = threading.Event()
        self._runners: dict[int, NodeThread] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        looks = 0
        while not self.stop.is_set():
            try:
                self.look(sweep=looks % SWEEP_EVERY == 0)
                looks += 1
            except Exception:  # a database that is away for a moment; leases run out by themselves
                log.exception("agent.failed", host=self.name)
            finally:
                close_old_connections()
            self.wake.wait(LOOK_S)
            self.wake.clear()
        self._leave()
        connection.close()

    def look(self, *, sweep: bool = True) -> None:
        """One round: sign of life, leases, leftovers, new nodes, new work."""
        self._sign()
        self._renew()
        if sweep:
            self._bury_predecessors()
            self._sweep()
        self._drop_preempted()
        self._take_in()
        self._set_to_work()

    # -- presence

    def _sign(self) -> None:
        cpu, memory = compute.machine()
        values = {"cpu_milli": cpu, "mem_bytes": memory, "seen_at": clock.now()}
        Host.objects.update_or_create(name=self.name, defaults=values)

    def _renew(self) -> None:
        """Idle nodes, and those whose thread does something that takes long; the others are renewed as they commit."""
        until = clock.now() + timedelta(seconds=claims.LEASE_S)
        mine = Node.objects.filter(holder=self.holder)
        mine.filter(job=None).update(lease_until=until)
        with self._lock:
            busy = [each.hold for each in self._runners.values() if time.monotonic() - each.beat_at < LONGEST_CALL_S]
        for hold in busy:
            mine.filter(pk=hold.pk, token=hold.token).update(lease_until=until)

    def _bury_predecessors(self) -> None:
        """Nodes of a process of this host that is dead need not wait for their leases to run out."""
        for node in Node.objects.filter(host=self.name).exclude(holder__in=["", self.holder]):
            if not _alive(node.holder):
                nodes.lose(node, "its worker ended")

    def _sweep(self) -> None:
        """Stop programs of this host that belong to no node as it is now."""
        for name in compute.drivers():
            try:
                driver = compute.driver(name)
                for handle in driver.list(owner=OWNER):
                    if self._left_over(handle.name):
                        log.warning("node.leftover", name=handle.name)
                        driver.forget(handle)
                        self._renew()  # that may have taken long
            except DriverUnavailable as error:
                log.info("agent.not_swept", driver=name, reason=str(error))

    def _left_over(self, name: str) -> bool:
        """Whether no node is that any more. What other hosts on the same container engine have is theirs to sweep."""
        with self._lock:
            if name in {f"{each.hold.node}-t{each.hold.token}" for each in self._runners.values()}:
                return False
        node = Node.objects.filter(name=name.rpartition("-t")[0]).first()
        return node is None or (name != f"{node.name}-t{node.token}" and node.host in {"", self.name})

    # -- nodes

    def _take_in(self) -> None:
        for node in Node.objects.filter(host="", state=NodeState.PREPARING).order_by("created_at"):
            if not self._fits(node) or self._better_elsewhere(node):
                continue
            now = clock.now()
            hit = Node.objects.filter(pk=node.pk, host="").update(
                host=self.name,
                holder=self.holder,
                state=NodeState.IDLE,
                idle_since=now,
                lease_until=now + timedelta(seconds=claims.LEASE_S),
            )
            if hit:
                nodes.schedule()

    def _better_elsewhere(self, node: Node) -> bool:
        """Whether a host with fewer nodes may still take it; not for ever."""
        now = clock.now()
        if node.created_at < now - timedelta(seconds=SPREAD_S):
            return False
        alive = Host.objects.filter(seen_at__gt=now - timedelta(seconds=SPREAD_S)).values_list("name", flat=True)
        count = Counter(Node.objects.exclude(host="").values_list("host", flat=True))
        return any(count[name] < count[self.name] for name in alive)

    def _fits(self, node: Node) -> bool:
        """Whether this machine has the memory for it; processors are shared."""
        _cpu, memory = compute.machine()
        taken = Node.objects.filter(host=self.name).aggregate(sum=Sum("mem_bytes"))["sum"] or 0
        return bool(taken + node.mem_bytes <= memory * OVERCOMMIT)

    def _drop_preempted(self) -> None:
        for node in Node.objects.filter(holder=self.holder, job=None, state=NodeState.PREEMPTED):
            nodes.remove(node)

    def _set_to_work(self) -> None:
        rows = Node.objects.filter(holder=self.holder, state=NodeState.RUNNING).exclude(job=None)
        for node in rows.select_related("job__workspace", "job__cluster", "job__created_by", "cluster__workspace"):
            with self._lock:
                there = node.pk in self._runners
            if there or node.job is None:
                continue
            until = clock.now() + timedelta(seconds=claims.LEASE_S)
            Node.objects.filter(pk=node.pk, token=node.token).update(lease_until=until)
            try:
                self._start(node, node.job)
            except Exception:  # one job's trouble must not keep the others from starting
                log.exception("node.not_started", node=node.name, job=node.job.name)

    def _start(self, node: Node, job: Job) -> None:
        hold = Hold(node.name, node.pk, self.holder, node.token)
        kind = Commander if job.type == JobType.COMMAND else Runner
        runner = kind(hold, job, node, stopping=self.stop, over=self._over)
        with self._lock:
            self._runners[node.pk] = runner
        runner.start()

    def _over(self, hold: Hold) -> None:
        """A runner's last act: the node is free again, or gone when it was preempted."""
        with self._lock:
            self._runners.pop(hold.pk, None)
        mine = Node.objects.filter(pk=hold.pk, holder=hold.holder, token=hold.token)
        with transaction.atomic():
            node = mine.select_for_update().select_related("cluster__workspace").first()
            if node is not None:
                claims.leave(hold)
                if node.state == NodeState.PREEMPTED or self.stop.is_set():
                    nodes.remove(node)
                else:
                    now = clock.now()
                    mine.update(job=None, state=NodeState.IDLE, idle_since=now, token=F("token") + 1)
        self.wake.set()
        nodes.schedule()

    def _leave(self) -> None:
        """Give everything back, so that other hosts need not wait for leases to run out."""
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.join(timeout=10)
        for node in Node.objects.filter(holder=self.holder).select_related("cluster__workspace"):
            nodes.lose(node, "its host stopped")
        Host.objects.filter(name=self.name).delete()  # it left; only one that died is shown as lost


def _alive(holder: str) -> bool:
    """Whether the process that a holder's name tells of still runs on this machine; see leases.new_holder."""
    parts = holder.split(":")
    if len(parts) < 2 or not parts[1].isdigit():  # noqa: PLR2004
        return False
    if int(parts[1]) == os.getpid():  # in a container everybody is number 1
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

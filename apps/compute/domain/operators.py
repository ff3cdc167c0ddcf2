"""What an administrator does to one replica: take it out of the routes, then restart it, or stop it and keep it down.

Restart means "replace it now" and does not count as a crash. Stop means "hold": the replica stays down, whatever the
controller wants, until an administrator starts it again or its deployment is rolled to a new revision. The number of
wanted replicas stays what the deployment's owner asked for, so everybody sees that one is missing, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apps.compute.domain.recipes import answering, driver, handle_of
from apps.compute.domain.replicas import update
from apps.compute.enums import ReplicaState
from apps.compute.models import Replica
from apps.core import leases
from apps.core.errors import Problem

LEASE_S = 90.0  # longer than draining, publishing and the longest usual grace time together
STOPPABLE = (
    ReplicaState.PENDING,
    ReplicaState.STARTING,
    ReplicaState.READY,
    ReplicaState.UNREADY,
    ReplicaState.BACKOFF,
    ReplicaState.FAILED,
)


@contextmanager
def taken_out(replica: Replica) -> Iterator[Replica]:
    """The replica with no route to it, while nobody else works on its set. Publish the routes inside the block.

    Killed inside, the next reconcile takes the replica back as it is.

    Raises:
        LeaseTaken: somebody else kept the set for too long.
    """
    with leases.held(f"replica-set/{replica.set_id}", ttl_s=LEASE_S, wait_s=20.0):
        fresh = Replica.objects.select_related("set").get(pk=replica.pk)
        if fresh.state in {ReplicaState.READY, ReplicaState.UNREADY, ReplicaState.STARTING}:
            update(fresh, state=ReplicaState.DRAINING)
        yield fresh


def restart_replica(replica: Replica) -> None:
    """Stop it, requests in flight finish first; the next reconcile starts it anew. Only inside `taken_out`."""
    _stop(replica)
    update(replica, state=ReplicaState.PENDING, handle=None, address="", reason=None, **_FRESH)


def stop_replica(replica: Replica, reason: str) -> None:
    """Stop it and keep it down; its log stays. Only inside `taken_out`."""
    _stop(replica)
    why = Problem("held", reason=reason).as_json()
    update(replica, state=ReplicaState.HELD, address="", reason=why, **_FRESH)


def start_replica(replica: Replica) -> None:
    """Let the controller start a held replica again. Nothing happens to another one."""
    with leases.held(f"replica-set/{replica.set_id}", ttl_s=LEASE_S, wait_s=20.0):
        fresh = Replica.objects.select_related("set").get(pk=replica.pk)
        if fresh.state == ReplicaState.HELD:
            update(fresh, state=ReplicaState.PENDING, handle=None, reason=None)


_FRESH = {"retry_at": None, "unready_since": None, "ready_at": None, "exits_in_a_row": 0}


def _stop(replica: Replica) -> None:
    handle = handle_of(replica)
    if handle is not None:
        with answering():
            driver(replica.set.driver).stop(handle, grace_s=replica.set.spec["grace_s"])
